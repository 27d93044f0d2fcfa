"""What broken multipliers of a systolic array make of a network's answers.

Model:  each processing element (PE) has one multiplier, and all multiply as the network's tables
        say. A broken one gives other products for some pairs of words: all products that this PE
        computes are then taken from its own table, in every layer, if the fault is permanent; if it
        is transient, those of some cycles of one layer. Products of different PEs are different
        ones, so that changes of several multipliers add up. `dataflows` says which products a PE
        computes; sums are 32-bit registers that wrap. Convolutions and linear layers run on the
        array; products of two activations do not.
Source: METHODS C.3, D.2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int32, Num
from torch import Tensor

from bitproof.core.errors import SpecError
from bitproof.faults.dataflows import ALWAYS, Products, Window
from bitproof.faults.layer_words import LayerWords, add_at
from bitproof.faults.systolic import SystolicArray
from bitproof.quant.accumulators import ExactAccumulator
from bitproof.quant.execution import execute
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.product_layer import ProductLayer
from bitproof.quant.products import WORDS, OperandEncoding

LAYERS = frozenset({"conv", "linear"})
"""What runs on the array."""
MOST_AT_ONCE = 1 << 22
"""Products that are looked up at once; no influence on the result."""


@dataclass(frozen=True, eq=False)
class BrokenMultiplier:
    """The multiplier of one PE, and what it gives too much."""

    element: int
    errors: Int32[Tensor, "256 256"]
    """Faulty minus fault-free products, by the patterns of activation and weight."""
    layer: str = ""
    """The layer that a transient fault strikes; empty: the fault is permanent."""
    cycle: int = 0
    """Where it starts, of the cycles of that layer."""


def on_array(network: IntegerNetwork) -> list[Node]:
    """Return the layers that run on an array, in order of execution."""
    return [
        node
        for node in network.nodes
        if node.op in LAYERS and node.key("weight") in network.tensors
    ]


def cycles_of(
    network: IntegerNetwork, image: Float[Tensor, "1 *features"], array: SystolicArray
) -> dict[str, int]:
    """Return the cycles of each layer on the array, for one image."""
    shapes: dict[str, tuple[int, ...]] = {}

    def compute(node: Node, operands: list[Tensor]) -> Tensor:
        found = integer_op(network, node, operands, image, native=None)
        shapes[node.name] = tuple(found.shape[1:])
        return found

    with torch.no_grad():
        execute(network.nodes, compute)
    return {
        node.name: array.cycles(network, node, shapes[node.inputs[0]]) for node in on_array(network)
    }


def run_broken(
    network: IntegerNetwork,
    images: Num[Tensor, "n *features"],
    array: SystolicArray,
    broken: Sequence[BrokenMultiplier],
    *,
    signed: bool,
) -> Float[Tensor, "n *outputs"]:
    """Return logits with broken multipliers; `signed` says which patterns `errors` are by.

    Raises:
        SpecError: a layer on the array has other multipliers for single filters, or takes words of
            the other sort.
    """
    layers = {node.name for node in on_array(network)}

    def compute(node: Node, operands: list[Tensor]) -> Tensor:
        own = [one for one in broken if one.layer in ("", node.name)]
        if node.name in layers and own:
            return layer_words(network, node, operands[0], array, own, signed=signed)
        return integer_op(network, node, operands, images, native=None)

    with torch.no_grad():
        values = execute(network.nodes, compute)
    return network.logits(values[network.nodes[-1].name])


def layer_words(
    network: IntegerNetwork,
    node: Node,
    codes: Tensor,
    array: SystolicArray,
    broken: Sequence[BrokenMultiplier],
    *,
    signed: bool,
) -> Tensor:
    """Return the words that come out of one layer (real logits, for the last).

    Raises:
        SpecError: see `run_broken`.
    """
    at = LayerWords(network, node, codes)
    accumulator = network.accumulator(node)
    assert isinstance(accumulator, ExactAccumulator | ProductLayer), node.op
    own = network.products.get(node.name)
    if own is not None and (own.signed != signed or len(own.tables) > 1):
        raise SpecError(
            f"{node.name}: wanted one multiplier for all filters, of "
            f"{'signed' if signed else 'unsigned'} words"
        )
    totals = accumulator.totals(codes)
    sums = at.layer.as_matrix(totals).to(torch.int32, copy=True)
    weight = network.tensors[node.key("weight")].grid
    shifts = tuple(OperandEncoding.of(grid, signed=signed).shift for grid in (at.grid, weight))
    flow = array.dataflow_of(at.layer)
    for one in broken:
        row, column = divmod(one.element, array.columns)
        last = one.cycle + array.window - 1
        window = Window(one.cycle, last) if one.layer else ALWAYS
        for struck in flow.products("pe_product", "single_mac", row, column, window):
            if len(struck.taps) and len(struck.channels):
                for part in _pieces(struck, len(codes)):
                    change = _change(at, part, one.errors, shifts)
                    add_at(sums, change, part.outputs, part.groups, part.channels)
    return at.output(at.layer.as_output(sums.float(), totals.shape))


def _change(
    at: LayerWords, part: Products, errors: Int32[Tensor, "256 256"], shifts: tuple[int, ...]
) -> Int32[Tensor, "images m g n"]:
    """Return what broken products add to each sum."""
    words = (at.gather(part.groups, part.outputs, part.taps) + shifts[0]) % WORDS
    codes, _ = at.weights(part.groups, part.channels, part.taps)
    weights = (codes + shifts[1]) % WORDS
    live = (errors != 0).any(0)  # weights that meet a wrong product at all
    by_weight = errors.T.reshape(-1)
    shape = (*words.shape[:3], len(part.channels))
    total = torch.zeros(shape, dtype=torch.int32, device=words.device)
    for tap in range(len(part.taps)):
        own = weights[..., tap]
        if live[own].any():
            total += by_weight[words[..., tap, None] + WORDS * own]
    return total


def _pieces(struck: Products, images: int) -> Iterator[Products]:
    """Yield the same products in pieces of some outputs that fit in memory."""
    each = max(len(struck.channels), len(struck.taps)) * len(struck.groups) * images
    pieces = min(-(-len(struck.outputs) * each // MOST_AT_ONCE), len(struck.outputs))
    for outputs in np.array_split(struck.outputs, max(pieces, 1)):
        if len(outputs):
            yield Products(struck.groups, outputs, struck.taps, struck.channels)
