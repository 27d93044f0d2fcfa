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

from bitproof.core.errors import QuantizationError
from bitproof.kernels.int8_convolution import supported
from bitproof.quant.constants import Constants
from bitproof.quant.floats import normalize
from bitproof.quant.graph import MAC_OPS, MOVING_OPS, NORM_OPS, Node
from bitproof.quant.grid import Grid
from bitproof.quant.movement import MOVES
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.onednn import native_sums
from bitproof.quant.product_matmul import product_matmul
from bitproof.quant.steps import accumulate, cut_, norm_steps, softmax_steps, steps, wrap_int32

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
    native: bool | None = None,
) -> Float[Tensor, "n *outputs"]:
    """Return logits.

    Args:
        network: what to run.
        inputs: images in [0, 1].
        mac: the multiply-accumulate; another one emulates other hardware. It takes the place of
            tables of products, too: what they hold is then not looked at.
        corrupt: called with every stored activation; returns the words that are read back.
        native: whether oneDNN multiplies 8-bit words, in place of floats that hold the same
            integers. None: where it is exact and `mac` is the default. The results are equal.

    Raises:
        QuantizationError: `native` is asked for, but not exact on this CPU or replaced by `mac`.
    """
    words: dict[str, Tensor] = {}
    last_use = {name: node.name for node in network.nodes for name in node.inputs}
    for node in network.nodes:
        operands = [words[name] for name in node.inputs]
        result = integer_op(network, node, operands, inputs, mac, native=native)
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
    network: IntegerNetwork,
    node: Node,
    operands: list[Tensor],
    inputs: Tensor,
    mac: Accumulate,
    *,
    native: bool | None = None,
) -> Tensor:
    """Return the output words of one node (or real-valued logits, for the last accumulators).

    Raises:
        QuantizationError: `native` is asked for, but not exact on this CPU or replaced by `mac`.
    """
    constants, grid = network.constants[node.name], network.grids.get(node.name)
    if node.op == "constant":
        return network.tensors[f"{node.name}.weight"].codes
    if node.op in MOVING_OPS:
        return _move(node, constants, operands[0], len(inputs))
    if node.op == "table":
        return _look_up(network, node, operands[0])
    if node.op == "input":
        values = normalize(inputs, node.attrs) * constants.multipliers[0]
    elif node.op in MAC_OPS:
        if node.name in network.products and mac is accumulate:
            return _run_products(network, node, operands, grid)
        sums = None
        if _is_native(native, mac):
            sums = native_sums(node, constants, operands[0], network.grids[node.inputs[0]])
        if sums is None:
            sums = _sums(node, constants, operands, mac)
        values = sums.mul_(constants.multipliers[0])
    else:
        values = _compute(node, constants, operands)
    return values if grid is None else cut_(values, constants).to(grid.dtype)


def product_sums(network: IntegerNetwork, node: Node, operands: list[Tensor]) -> Tensor:
    """Return the accumulators, rounded to float32, of a node whose products come from tables."""
    if node.op == "matmul":
        grids = [network.grids[name] for name in node.inputs]
        return product_matmul(operands, grids, network.products[node.name]).float()
    return network.layers[node.name].sums(operands[0])


def _run_products(
    network: IntegerNetwork, node: Node, operands: list[Tensor], grid: Grid | None
) -> Tensor:
    """Return the output of a node whose products come from tables."""
    if node.op != "matmul":
        return network.layers[node.name].run(operands[0], grid)
    constants = network.constants[node.name]
    values = product_sums(network, node, operands) * constants.multipliers[0]
    return values if grid is None else cut_(values, constants).to(grid.dtype)


def center(words: Tensor, zero_point: int) -> Tensor:
    """Return words minus their zero point, as exact integers in float32, in a new tensor."""
    centered = words.to(torch.float32, copy=True)
    return centered.sub_(zero_point) if zero_point else centered


def _is_native(native: bool | None, mac: Accumulate) -> bool:
    if native is False:
        return False
    possible = mac is accumulate and supported()
    if native and not possible:
        raise QuantizationError(
            "native: wanted oneDNN's 8-bit products, but they are not exact on this CPU, "
            "or `mac` takes their place; use None to fall back"
        )
    return possible


def _sums(node: Node, constants: Constants, operands: list[Tensor], mac: Accumulate) -> Tensor:
    """Return accumulators that `mac` computes, rounded to float32, in a new tensor."""
    sums = mac(node, constants, _centered(constants, operands))
    if constants.dtype == torch.float64:
        sums = wrap_int32(sums)
    return sums.to(torch.float32, copy=mac is not accumulate)


def _compute(node: Node, constants: Constants, operands: list[Tensor]) -> Tensor:
    """Return the output, in its own steps, of a node other than a multiply-accumulate."""
    centered = _centered(constants, operands)
    if node.op == "softmax":
        return softmax_steps(node, constants, centered[0])
    if node.op in NORM_OPS:
        return norm_steps(node, constants, centered[0])
    if node.op in {"add", "sub"} and centered[0].shape == centered[1].shape:
        # As `steps` does, in place.
        left, right = (x.mul_(m) for x, m in zip(centered, constants.multipliers, strict=True))
        return left.add_(right) if node.op == "add" else left.sub_(right)
    return steps(node, constants, centered)


def _centered(constants: Constants, operands: list[Tensor]) -> list[Tensor]:
    return [center(x, point) for x, point in zip(operands, constants.zero_points, strict=True)]


def _move(node: Node, constants: Constants, words: Tensor, n: int) -> Tensor:
    if node.op not in NEEDS_ZERO:
        return MOVES[node.op](words, node.attrs, n)
    point = constants.zero_points[0]
    return MOVES[node.op](center(words, point), node.attrs, n).add_(point).to(words.dtype)


def _look_up(network: IntegerNetwork, node: Node, words: Tensor) -> Tensor:
    table = network.constants[node.name].table
    assert table is not None
    low = network.grids[node.inputs[0]].low
    index = words.long()
    return table.to(network.grids[node.name].dtype)[index.sub_(low) if low else index]
