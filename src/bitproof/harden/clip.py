"""Weight clipping: a narrower range makes every bit flip smaller.

Model:  each layer's weights, its batch norm folded in where there is one, are held inside a share
        of the range that they had at the start. The quantization range follows the weights, so
        the relative rounding error stays and the error of a flip shrinks with the range.
Source: Stutz et al., MLSys 2021, and per-layer clipping of their TPAMI 2022 paper; METHODS E.2.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

Ranges = dict[str, tuple[float, float]]
"""Lowest and highest folded weight, by layer."""


def folded_ranges(
    model: nn.Module, layers: list[str], factors: Mapping[str, Tensor], *, share: float
) -> Ranges:
    """Return `share` times the present range, zero included, of each layer's folded weights."""
    ranges = {}
    for layer in layers:
        weight: Any = model.get_submodule(layer).weight
        folded = weight.detach() * _spread(factors.get(layer), weight)
        ranges[layer] = (share * min(float(folded.min()), 0), share * max(float(folded.max()), 0))
    return ranges


@torch.no_grad()
def clip_weights_(model: nn.Module, ranges: Ranges, factors: Mapping[str, Tensor]) -> None:
    """Clip weights in place so that, folded, they lie inside `ranges`.

    Weights inside keep every bit. A channel that its norm switches off (factor 0) stays as it is.
    """
    for layer, (low, high) in ranges.items():
        weight: Any = model.get_submodule(layer).weight
        factor = _spread(factors.get(layer), weight)
        safe = torch.where(factor == 0, torch.ones_like(factor), factor)
        ends = torch.stack([low / safe, high / safe])  # swapped where the factor is negative
        weight.copy_(torch.where(factor == 0, weight, weight.clamp(ends.amin(0), ends.amax(0))))


def _spread(factor: Tensor | None, weight: Tensor) -> Tensor:
    """Return a factor per output channel, shaped to broadcast against `weight`; 1 if none."""
    if factor is None:
        return torch.ones((), device=weight.device)
    return factor.reshape([-1] + [1] * (weight.ndim - 1))
