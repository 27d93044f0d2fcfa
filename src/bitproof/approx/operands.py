"""The words that the multipliers of a layer meet: how often each pair, and one after the other.

Model:  a weight stays in a multiplier while the words of a map pass by it (weight stationary), then
        comes another. Pairs are bit patterns as `quant.products` describes: what activations and
        weights are at a multiplier with signed, or with unsigned operands. Padding counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64, Num, UInt8
from torch import Tensor
from torch.nn import functional

from bitproof.approx.deploy import applicable
from bitproof.core.errors import QuantizationError, near, shorten
from bitproof.core.rng import make_generator
from bitproof.kernels.forms import WORDS
from bitproof.kernels.gather import windows
from bitproof.quant.execution import execute
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.maps import as_kernel, as_maps
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.products import OperandEncoding

STAY = 64
"""Words that pass by one weight."""


@dataclass(frozen=True, eq=False)
class OperandPairs:
    """What the multipliers of one layer meet, as patterns of 8 bits."""

    layer: str
    shares: Float64[Tensor, "256 256"]
    """How often each pair comes, over all images, places, taps and filters; the sum is 1."""
    first: Int64[Tensor, " cycles"]
    """Activations at one multiplier, cycle by cycle."""
    second: Int64[Tensor, " cycles"]
    """Weights there."""


def operand_pairs_of(
    network: IntegerNetwork,
    images: Num[Tensor, "n *features"],
    *,
    signed: bool,
    layer: str = "",
    cycles: int = 4096,
    seed: int = 0,
) -> OperandPairs:
    """Return the pairs of one layer for some images in [0, 1]; no name: the layer in the middle.

    Raises:
        QuantizationError: there is no such layer with weights.

    Example:
        >>> from bitproof.quant import quantize
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> network = quantize(model, torch.rand(8, 1, 2, 2))
        >>> pairs = operand_pairs_of(network, torch.rand(8, 1, 2, 2), signed=True, cycles=128)
        >>> round(float(pairs.shares.sum()), 6), len(pairs.first)
        (1.0, 128)
    """
    names = [name for name in applicable(network) if f"{name}.weight" in network.tensors]
    if layer and layer not in names:
        raise QuantizationError(
            f"operands: no layer {shorten(layer)} with weights. {near(layer, names)}"
        )
    if not names:
        raise QuantizationError("operands: wanted a layer with weights, the network has none")
    node = next(n for n in network.nodes if n.name == (layer or names[len(names) // 2]))
    codes = _read_by(network, node, images)
    weight = network.tensors[node.key("weight")]
    grid = network.grids[node.inputs[0]]
    encoding = OperandEncoding.of(grid, signed=signed)
    kernel, move = as_kernel(
        OperandEncoding.of(weight.grid, signed=signed).patterns(weight.codes), node
    )
    zero = (int(grid.zero_point.reshape(-1)[0]) + encoding.shift) % WORDS
    maps = as_maps(encoding.patterns(codes), node)
    edges = [edge for pad in reversed(move.padding) for edge in (pad, pad)]
    columns = windows(functional.pad(maps, edges, value=zero), kernel.shape[2:], move)
    columns = columns.flatten(2)
    own = kernel.reshape(move.groups, -1, kernel[0].numel()).permute(0, 2, 1)
    filters = own.reshape(-1, own.shape[2])  # by tap of each group, as columns are
    shares = torch.zeros(WORDS, WORDS, dtype=torch.float64)
    for tap, weights in enumerate(filters):
        words = torch.bincount(columns[:, tap].flatten().long(), minlength=WORDS).double()
        beside = torch.bincount(weights.long(), minlength=WORDS).double()
        shares += words.outer(beside)
    first, second = _streams(columns, filters, cycles, seed)
    return OperandPairs(node.name, shares / shares.sum(), first, second)


def _read_by(network: IntegerNetwork, node: Node, images: Tensor) -> Tensor:
    """Return the words that a node reads."""
    before = network.nodes[: network.nodes.index(node)]

    def compute(one: Node, operands: list[Tensor]) -> Tensor:
        return integer_op(network, one, operands, images, native=None)

    with torch.no_grad():
        return execute(before, compute, keep=True)[node.inputs[0]]


def _streams(
    columns: UInt8[Tensor, "n k p"], filters: UInt8[Tensor, "k m"], cycles: int, seed: int
) -> tuple[Int64[Tensor, " cycles"], Int64[Tensor, " cycles"]]:
    """Return words that pass by one weight after the other."""
    draw = make_generator(seed, "operands")
    parts = list(_stays(columns, filters, -(-cycles // STAY), draw))
    first, second = (torch.cat(own)[:cycles].long() for own in zip(*parts, strict=True))
    return first, second


def _stays(
    columns: UInt8[Tensor, "n k p"],
    filters: UInt8[Tensor, "k m"],
    stays: int,
    draw: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the words and the weight of one stay after the other; short maps are joined."""
    by_tap = columns.transpose(0, 1).flatten(1)
    for _ in range(stays):
        tap = int(torch.randint(len(filters), (), generator=draw))
        channel = int(torch.randint(filters.shape[1], (), generator=draw))
        start = int(torch.randint(by_tap.shape[1], (), generator=draw))
        places = torch.arange(start, start + STAY) % by_tap.shape[1]
        yield by_tap[tap, places], filters[tap, channel].expand(STAY)
