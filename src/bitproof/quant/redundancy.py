"""How many weights of a network share its work, and so how far random flips move them.

Model:  sizes are relative to the largest weight of the tensor, since the range follows it: clipping
        lessens relative errors only by making the others larger. A flip of bit b moves a weight by
        D 2**b; to first order, words of m bits that flip at rate p change by p D (2**m - 1) in the
        mean. Errors of several flips in one word may cancel, so this is never too small, and at
        most 1 / (1 - p)**(m - 1) times too large, 7 % for eight bits at 1 %.
Source: Stutz et al., "Bit Error Robustness for Energy-Efficient DNN Accelerators", MLSys 2021
        (on weight clipping); METHODS E.2. Which layers count, and bins, are ours.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor

from bitproof.core.errors import QuantizationError
from bitproof.quant.calibrate import BATCH
from bitproof.quant.flip_error import BER, exact_values, layer_weights, sum_of_steps
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.integers import run_integers
from bitproof.quant.network_data import NetworkData

BINS = 25
"""Bins of equal width from -1 to 1. One has zero in its middle; 8-bit words fill them evenly."""


@dataclass(frozen=True)
class Redundancy:
    """Figures of all weights of convolutions and linear layers; every word counts alike."""

    range: tuple[float, float]
    """Least and largest weight, value units."""
    edges: tuple[float, ...]
    """Ends of the bins, from -1 to 1."""
    distribution: tuple[float, ...]
    """Share of the weights over the largest size in their tensor, `w / max|w|`, in each bin."""
    weight_relevance: float
    """Mean of `|w| / max|w|`."""
    ber: float
    """Bit error rate of the relative error, as a fraction."""
    relative_error: float
    """Mean of `|w' - w| / max|w|` for weights with random flips, to first order in `ber`."""
    relu_relevance: float | None
    """Share of the outputs of ReLUs that are not zero; None without a ReLU."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def redundancy(network: NetworkData, images: Num[Tensor, "n *features"]) -> Redundancy:
    """Return the figures of a network; its ReLUs are seen on `images`, in [0, 1].

    Raises:
        QuantizationError: no layer of the network has weights.

    Example:
        >>> from bitproof.quant import quantize
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
        >>> images = torch.rand(8, 4)
        >>> found = redundancy(quantize(model, images), images)
        >>> 0 < found.weight_relevance < 1, round(sum(found.distribution), 9)
        (True, 1.0)
    """
    stored = list(layer_weights(network).values())
    if not stored:
        raise QuantizationError("network: wanted a layer with weights, got none")
    counts = torch.zeros(BINS, dtype=torch.int64)
    sizes, changes = 0.0, 0.0
    lows, highs = [], []
    for coded in stored:
        values, peak = exact_values(coded.codes, coded.grid), _peak(coded)
        counts += _counts(values / peak)
        sizes += values.abs().sum().item() / peak
        changes += sum_of_steps(coded) * ((1 << coded.grid.bits) - 1) / peak
        lows.append(values.min().item())
        highs.append(values.max().item())
    words = int(counts.sum())
    return Redundancy(
        range=(min(lows), max(highs)),
        edges=tuple((2 * i - BINS) / BINS for i in range(BINS + 1)),
        distribution=tuple(count / words for count in counts.tolist()),
        weight_relevance=sizes / words,
        ber=BER,
        relative_error=BER * changes / words,
        relu_relevance=relu_relevance(network, images),
    )


def relu_relevance(network: NetworkData, images: Num[Tensor, "n *features"]) -> float | None:
    """Return the share of the outputs of ReLUs that are not zero; None without a ReLU."""
    whole, active = 0, 0

    def observe(node: Node, codes: Tensor, grid: Grid) -> Tensor:
        nonlocal whole, active
        if _is_relu(node):
            whole += codes.numel()
            active += int((codes != grid.zero_point).sum())
        return codes

    for batch in torch.split(images, BATCH):
        run_integers(network, batch, corrupt=observe)
    return active / whole if whole else None


def _is_relu(node: Node) -> bool:
    """Return whether a node cuts its output off at zero, after what it computes or alone."""
    if node.op == "table" and node.attrs["function"] == "clamp":
        low = node.attrs.get("parameters", {}).get("min")
    else:
        low = node.attrs.get("clamp", (None, None))[0]
    return low is not None and float(low) == 0.0


def _peak(coded: CodedTensor) -> float:
    """Return the largest size in a tensor; one step, where all are smaller."""
    largest = exact_values(coded.codes, coded.grid).abs().max().item()
    return max(largest, coded.grid.scale.max().item())


def _counts(ratios: Float[Tensor, "..."]) -> Int64[Tensor, " bins"]:
    """Return how many ratios lie in each bin; the last one holds its upper end."""
    index = ((ratios.flatten() + 1) * (BINS / 2)).long().clamp(max=BINS - 1)
    return torch.bincount(index, minlength=BINS)
