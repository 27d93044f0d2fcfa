"""Execution of an integer network by integer arithmetic.

Model:  words are multiplied and accumulated in int32 registers, exactly; accumulators are turned
        into words by one float32 multiplication, rounding to nearest even (or truncation) and a
        clamp. Lookup tables, integer exponentials and exact moments serve what is not linear.
        Every step is defined by IEEE arithmetic, so the result is the same on every machine.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from bitproof.quant.constants import Constants
from bitproof.quant.floats import normalize
from bitproof.quant.graph import MAC_OPS, MOVING_OPS, NORM_OPS, Node
from bitproof.quant.grid import Grid
from bitproof.quant.movement import MOVES
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.steps import accumulate, cut, norm_steps, softmax_steps, steps, wrap_int32

Accumulate = Callable[[Node, Constants, list[Tensor]], Tensor]
"""The integer multiply-accumulate: from a node's centered operands to its accumulators."""
Corrupt = Callable[[Node, Tensor, Grid], Tensor]
"""Returns the words that are read where a node's output words were stored."""

NEEDS_ZERO = frozenset({"pad", "max_pool"})
"""Movements that bring zeros in, and so work on centered words."""


@torch.no_grad()
def run_integers(
    network: IntegerNetwork,
    inputs: Float[Tensor, "n *features"],
    *,
    mac: Accumulate = accumulate,
    corrupt: Corrupt | None = None,
) -> Float[Tensor, "n *outputs"]:
    """Return logits.

    Args:
        network: what to run.
        inputs: images in [0, 1].
        mac: the multiply-accumulate; another one emulates another multiplier.
        corrupt: called with every stored activation; returns the words that are read back.
    """
    words: dict[str, Tensor] = {}
    last_use = {name: node.name for node in network.nodes for name in node.inputs}
    for node in network.nodes:
        operands = [words[name] for name in node.inputs]
        result = integer_op(network, node, operands, inputs, mac)
        if corrupt and node.op not in MOVING_OPS | {"constant"} and node.name in network.grids:
            result = corrupt(node, result, network.grids[node.name])
        words[node.name] = result
        for name in node.inputs:
            if last_use[name] == node.name:
                words.pop(name, None)
    output = network.nodes[-1].name
    grid = network.grids.get(output)
    return words[output] if grid is None else grid.decode(words[output])


def integer_op(
    network: IntegerNetwork, node: Node, operands: list[Tensor], inputs: Tensor, mac: Accumulate
) -> Tensor:
    """Return the output words of one node (or real-valued logits, for the last accumulators)."""
    constants, grid = network.constants[node.name], network.grids.get(node.name)
    if node.op == "constant":
        return network.tensors[f"{node.name}.weight"].codes
    if node.op in MOVING_OPS:
        return _move(node, constants, operands[0], len(inputs))
    if node.op == "table":
        return _look_up(network, node, operands[0])
    if node.op == "input":
        assert grid is not None
        values = normalize(inputs, node.attrs) * constants.multipliers[0]
        return cut(values, constants).to(grid.dtype)
    centered = [center(x, point) for x, point in zip(operands, constants.zero_points, strict=True)]
    if node.op in MAC_OPS:
        sums = mac(node, constants, centered)
        if constants.dtype == torch.float64:
            sums = wrap_int32(sums)
        values = sums.float() * constants.multipliers[0]
    elif node.op == "softmax":
        values = softmax_steps(node, constants, centered[0])
    elif node.op in NORM_OPS:
        values = norm_steps(node, constants, centered[0])
    else:
        values = steps(node, constants, centered)
    return values if grid is None else cut(values, constants).to(grid.dtype)


def center(words: Tensor, zero_point: int) -> Tensor:
    """Return words minus their zero point, as exact integers in float32."""
    centered = words.to(torch.float32)
    return centered - zero_point if zero_point else centered


def _move(node: Node, constants: Constants, words: Tensor, n: int) -> Tensor:
    if node.op not in NEEDS_ZERO:
        return MOVES[node.op](words, node.attrs, n)
    point = constants.zero_points[0]
    return (MOVES[node.op](center(words, point), node.attrs, n) + point).to(words.dtype)


def _look_up(network: IntegerNetwork, node: Node, words: Tensor) -> Tensor:
    table = network.constants[node.name].table
    assert table is not None
    low = network.grids[node.inputs[0]].low
    return table[words.long() - low].to(network.grids[node.name].dtype)
