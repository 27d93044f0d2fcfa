"""Execution of an integer network by integer arithmetic.

Model:  words are multiplied and accumulated in int32 registers, exactly; accumulators are turned
        into words by one float32 multiplication, rounding to nearest even (or truncation) and a
        clamp. Lookup tables, integer exponentials and exact moments serve what is not linear.
        Every step is defined by IEEE arithmetic, so the result is the same on every machine.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional

from bitproof.quant.accumulators import ExactAccumulator
from bitproof.quant.arithmetic import center, norm_steps, requantize_, softmax_steps, sum_steps
from bitproof.quant.compiled import compiled_words, words_of_table
from bitproof.quant.constants import Constants
from bitproof.quant.execution import execute
from bitproof.quant.floats import MOVES, normalize, unpacked
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.lowering import lowered
from bitproof.quant.network_data import NetworkData
from bitproof.quant.operations import (
    MAC_OPS,
    MEMORY_OPS,
    MOVING_OPS,
    NEEDS_ZERO,
    NORM_OPS,
    is_written,
)
from bitproof.quant.wide_outputs import reads_wide, real_op

Corrupt = Callable[[Node, Tensor, Grid], Tensor]
"""Returns the words that are read where a node's output words were stored."""


@torch.no_grad()
def run_integers(
    network: NetworkData,
    inputs: Num[Tensor, "n *features"],
    *,
    corrupt: Corrupt | None = None,
    native: bool | None = None,
) -> Float[Tensor, "n *outputs"]:
    """Return logits for images in [0, 1].

    `corrupt` is called with every stored activation. `native` says whether the C library multiplies
    8-bit words, in place of floats that hold the same integers; None: where that is faster. The
    results are equal.

    Raises:
        QuantizationError: `native` is asked for, but there is no C library.
    """

    def compute(node: Node, operands: list[Tensor]) -> Tensor:
        return integer_op(network, node, operands, inputs, native=native)

    def read_back(node: Node, codes: Tensor) -> Tensor:
        stored = is_written(node) and node.name in network.grids
        return corrupt(node, codes, network.grids[node.name]) if corrupt and stored else codes

    nodes, known = network.nodes, {}
    first = lowered(network, inputs) if corrupt is None and native is None else None
    if first is not None:
        nodes, known = nodes[first.stop :], {nodes[first.stop - 1].name: first.run(network, inputs)}
    values = execute(nodes, compute, known=known, written=read_back)
    return network.logits(values[network.nodes[-1].name])


def integer_op(
    network: NetworkData,
    node: Node,
    operands: list[Tensor],
    inputs: Tensor,
    *,
    native: bool | None = None,
) -> Tensor:
    """Return the output words of one node; real values from the last accumulators on."""
    if reads_wide(node, network.grids):
        return real_op(node, operands[0], len(inputs))
    return _words(network, node, operands, inputs, native)


def _words(
    network: NetworkData, node: Node, operands: list[Tensor], inputs: Tensor, native: bool | None
) -> Tensor:
    """Return the output of a node that reads words."""
    constants, grid = network.constants[node.name], network.grids.get(node.name)
    if node.op in MEMORY_OPS or node.op == "input":
        return _source(network, node, operands, inputs)
    if node.op in MOVING_OPS:
        lowest = network.grids[node.name].low
        return _move(node, constants, operands[0], len(inputs), lowest)
    if node.op == "table":
        return _look_up(network, node, operands[0])
    if node.op in MAC_OPS:
        accumulator = network.accumulator(node)
        if native is not None and isinstance(accumulator, ExactAccumulator):
            accumulator = replace(accumulator, native=native)
        return accumulator.run(operands, grid)
    words = None if grid is None else compiled_words(node, operands, constants, grid.dtype)
    if words is not None:
        return words
    values = _compute(node, constants, operands)
    return values if grid is None else requantize_(values, constants).to(grid.dtype)


def _source(network: NetworkData, node: Node, operands: list[Tensor], inputs: Tensor) -> Tensor:
    """Return stored words, or those of the input."""
    if node.op == "input":
        if node.attrs.get("tokens"):
            return inputs.to(torch.int32)
        constants = network.constants[node.name]
        values = normalize(inputs, node.attrs) * constants.multipliers[0]
        return requantize_(values, constants).to(network.grids[node.name].dtype)
    codes = network.tensors[node.key("weight")].codes
    return codes[operands[0].long()] if node.op == "embedding" else codes


def _compute(node: Node, constants: Constants, operands: list[Tensor]) -> Tensor:
    """Return the output, in its own steps, of a sum, a softmax or a norm."""
    points = constants.zero_points
    centered = [center(x, point) for x, point in zip(operands, points, strict=True)]
    if node.op in {"softmax", "log_softmax"}:
        return softmax_steps(node, constants, centered[0])
    if node.op in NORM_OPS:
        return norm_steps(node, constants, centered[0])
    if node.op in {"add", "sub"} and centered[0].shape == centered[1].shape:
        # As `sum_steps` does, in place.
        left, right = (x.mul_(m) for x, m in zip(centered, constants.multipliers, strict=True))
        return left.add_(right) if node.op == "add" else left.sub_(right)
    return sum_steps(node, constants, centered)


def _move(node: Node, constants: Constants, codes: Tensor, n: int, lowest: int) -> Tensor:
    if node.op == "mask":
        return codes.clamp(min=lowest + 1).masked_fill(
            unpacked(node.attrs).to(codes.device), lowest
        )
    if node.attrs.get("lowest"):
        return functional.pad(codes, node.attrs["padding"], value=lowest)
    if node.op not in NEEDS_ZERO:
        return MOVES[node.op](codes, node.attrs, n)
    point = constants.zero_points[0]
    return MOVES[node.op](center(codes, point), node.attrs, n).add_(point).to(codes.dtype)


def _look_up(network: NetworkData, node: Node, codes: Tensor) -> Tensor:
    table = network.constants[node.name].table
    assert table is not None
    low, dtype = network.grids[node.inputs[0]].low, network.grids[node.name].dtype
    words = words_of_table(codes, table, low, dtype)
    if words is not None:
        return words
    index = codes.long()
    return table.to(dtype)[index.sub_(low) if low else index]
