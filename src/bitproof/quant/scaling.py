"""Scaling factors: what one step of a layer's words is worth, and how far a flipped bit moves it.

Model:  a layer sums words `a` with step v_a and weights `w` with step v_w; one step of its sum is
        worth v_w v_a. A flip of bit b of a word moves its value by v_a 2**b, whatever the word
        (the sign bit of two's complement included), and each sum that reads it by |w| v_a 2**b. The
        mean square over the m bits is v_a**2 (4**m - 1) / (3 m). Relative is what the network
        feels: v_a 2**b over the root mean square of what the layer reads.
Source: Fasfous et al., "Mind the Scaling Factors", DATE 2022; METHODS D.2.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor

from bitproof.core.errors import QuantizationError
from bitproof.quant.calibrate import BATCH
from bitproof.quant.execution import execute
from bitproof.quant.flip_error import LAYERS, exact_values
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.integers import integer_op
from bitproof.quant.network_data import NetworkData
from bitproof.quant.redundancy import BINS


@dataclass(frozen=True)
class LayerScaling:
    """The figures of one convolution or linear layer, in value units where nothing else is said."""

    layer: str
    weight: float
    """Step of the weights, v_w; the mean where channels have their own."""
    activation: float
    """Step of the words that the layer reads, v_a."""
    product: float
    """Step of its sums, v_w v_a."""
    rms: float
    """Root mean square of what it reads; 0 where all is zero."""
    relative_step: float
    """v_a / rms; 0 where all is zero."""
    flip: tuple[float, ...]
    """Squared change of a word by the flip of each bit, the least significant first."""
    mean_flip: float
    """Mean of `flip` over the bits."""
    relative_flip: float
    """Root of `mean_flip` over rms; 0 where all is zero."""
    distribution: tuple[float, ...]
    """Share of the words in each of `BINS` bins of equal width from -1 to 1, by value over the
    largest one."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@torch.no_grad()
def scaling_factors(network: NetworkData, images: Num[Tensor, "n *features"]) -> list[LayerScaling]:
    """Return the figures of every convolution and linear layer, in order of execution.

    What layers read is seen on `images`, in [0, 1]; padding does not count.

    Raises:
        QuantizationError: there is no such layer, or no image.

    Example:
        >>> from bitproof.quant import quantize
        >>> images = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
        >>> found = scaling_factors(quantize(torch.nn.Linear(4, 2), images), images)
        >>> [each.layer for each in found], len(found[0].flip)
        (['0'], 8)
    """
    nodes = [node for node in network.nodes if node.op in LAYERS]
    if not nodes or not len(images):
        raise QuantizationError("network: wanted a layer with weights, and images; got none")
    seen = {node.name: _Reading(network.grids[node.inputs[0]]) for node in nodes}
    for batch in torch.split(images, BATCH):

        def compute(node: Node, operands: list[Tensor], batch: Tensor = batch) -> Tensor:
            if node.name in seen:
                seen[node.name].add(operands[0])
            return integer_op(network, node, operands, batch)

        execute(network.nodes, compute)
    return [_layer(network, node, seen[node.name]) for node in nodes]


def mean_scaling(layers: Sequence[LayerScaling], figure: str) -> float:
    """Return the geometric mean over layers of one figure, such as `product`; zeros left out.

    Steps of different layers lie decades apart, so that only their logarithms have a mean that no
    single layer decides.
    """
    values = torch.tensor([getattr(layer, figure) for layer in layers], dtype=torch.float64)
    return float(values[values > 0].log().mean().exp())


class _Reading:
    """What one layer reads, summed up over batches."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.counts = torch.zeros(1 << grid.bits, dtype=torch.int64)
        """How often each word came, the smallest first."""

    def add(self, codes: Tensor) -> None:
        """Count some words."""
        index = codes.flatten().long() - self.grid.low
        self.counts += torch.bincount(index, minlength=len(self.counts)).to(self.counts.device)

    @property
    def values(self) -> Tensor:
        """Value of each word, the smallest first."""
        words = torch.arange(self.grid.low, self.grid.high + 1)
        return exact_values(words, self.grid.to("cpu"))


def _layer(network: NetworkData, node: Node, reading: _Reading) -> LayerScaling:
    grid, values, counts = reading.grid, reading.values, reading.counts.double()
    weight = float(network.tensors[node.key("weight")].grid.scale.double().mean())
    step = float(grid.scale)
    rms = float((values.square() * counts).sum() / counts.sum()) ** 0.5
    flip = tuple((step * 2**bit) ** 2 for bit in range(grid.bits))
    mean_flip = sum(flip) / grid.bits
    return LayerScaling(
        layer=node.name,
        weight=weight,
        activation=step,
        product=weight * step,
        rms=rms,
        relative_step=step / rms if rms else 0.0,
        flip=flip,
        mean_flip=mean_flip,
        relative_flip=mean_flip**0.5 / rms if rms else 0.0,
        distribution=_distribution(values, counts),
    )


def _distribution(values: Tensor, counts: Tensor) -> tuple[float, ...]:
    largest = float(values[counts > 0].abs().max()) or 1.0
    inside = counts > 0
    index = ((values[inside] / largest + 1) * (BINS / 2)).long().clamp(max=BINS - 1)
    shares = torch.zeros(BINS, dtype=torch.float64).index_add_(0, index, counts[inside])
    return tuple((shares / counts.sum()).tolist())
