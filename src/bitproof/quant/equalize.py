"""Cross-layer equalization: neighbouring layers share out their ranges, channel by channel.

Model:  between two layers, with nothing or a ReLU between them, a channel can be divided by any
        `s > 0` on the one side and multiplied by it on the other. `s = sqrt(r1 / r2)` makes the
        ranges of a channel's weights equal on both sides, so that one grid for all channels fits
        them. All pairs take turns until nothing moves. A ReLU6 would not commute with `s`: what
        such a clamp separates stays as it is.
Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
        ICCV 2019, section 4.1.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bitproof.quant.graph import Graph, Node

LAYERS = frozenset({"conv", "linear"})
THROUGH = frozenset({"max_pool", "avg_pool"})
"""Operations between two layers that a positive factor on a channel passes."""
RELU = [0, None]
SWEEPS = 40
"""Most passes over all pairs."""
SETTLED = 1e-3
"""Largest change of a factor, relative to it, at which passes end."""


@dataclass(frozen=True)
class _Pair:
    first: Node
    second: Node


def equalize(graph: Graph) -> Graph:
    """Return a graph with the same function, whose neighbouring layers have like ranges.

    Functions are equal up to the rounding of float32.

    Example:
        >>> from bitproof.quant.trace import trace
        >>> first, second = torch.nn.Linear(1, 2), torch.nn.Linear(2, 1)
        >>> _ = first.weight.data.copy_(torch.tensor([[8.0], [0.5]]))
        >>> _ = second.weight.data.copy_(torch.tensor([[0.5, 2.0]]))
        >>> model = torch.nn.Sequential(first, torch.nn.ReLU(), second)
        >>> equal = equalize(trace(model, torch.rand(2, 1)))
        >>> equal.tensors["0.weight"].flatten(), equal.tensors["2.weight"].flatten()
        (tensor([2., 1.]), tensor([2., 1.]))
    """
    tensors, pairs = dict(graph.tensors), _pairs(graph)
    for _ in range(SWEEPS):
        moved = max((_balance(pair, tensors) for pair in pairs), default=0.0)
        if moved < SETTLED:
            break
    return replace(graph, tensors=tensors)


def _pairs(graph: Graph) -> list[_Pair]:
    """Return layers that alone read what another layer alone gives them."""
    users, shared, found = graph.users(), graph.sharing(), []
    for first in graph.nodes:
        if first.name in shared or first.op not in LAYERS:
            continue
        if list(first.attrs.get("clamp", RELU)) != RELU:
            continue
        readers = users[first.name]
        while len(readers) == 1 and readers[0].op in THROUGH:
            readers = users[readers[0].name]
        alone = len(readers) == 1 and readers[0].op in LAYERS and readers[0].name not in shared
        if alone and _aligned(first, readers[0], graph):
            found.append(_Pair(first, readers[0]))
    return found


def _aligned(first: Node, second: Node, graph: Graph) -> bool:
    """Tell whether each output channel of the first layer is an input channel of the second."""
    if first.op != second.op or any(f"{n.name}.weight" in graph.less_one for n in (first, second)):
        return False
    groups = second.attrs.get("groups", 1)
    one, other = (graph.tensors[f"{node.name}.weight"] for node in (first, second))
    return bool(len(one) == other.shape[1] * groups)


def _balance(pair: _Pair, tensors: dict[str, Tensor]) -> float:
    """Equalize one pair; return the largest change of a channel, relative to it."""
    first, second = (f"{node.name}.weight" for node in (pair.first, pair.second))
    groups = pair.second.attrs.get("groups", 1)
    one = tensors[first].double().flatten(1)
    other = tensors[second].double()
    # Input channels on the axis of the first layer's output channels: groups, then those of each.
    columns = other.reshape(groups, len(other) // groups, other.shape[1], -1).transpose(1, 2)
    left = one.abs().amax(1)
    right = columns.flatten(2).abs().amax(2).flatten()
    factor = torch.where((left > 0) & (right > 0), (left / right).sqrt(), torch.ones_like(left))
    _scale_rows(tensors, first, 1 / factor)
    bias = f"{pair.first.name}.bias"
    if bias in tensors:
        _scale_rows(tensors, bias, 1 / factor)
    scaled = columns * factor.reshape(groups, -1, 1, 1)
    tensors[second] = scaled.transpose(1, 2).reshape(other.shape).float()
    return float((factor - 1).abs().max())


def _scale_rows(tensors: dict[str, Tensor], name: str, factor: Tensor) -> None:
    value = tensors[name].double()
    tensors[name] = (value * factor.reshape([-1] + [1] * (value.ndim - 1))).float()
