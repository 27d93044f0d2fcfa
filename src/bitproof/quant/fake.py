"""Execution of an integer network with gradients: fake quantization in units of steps.

Model:  the integers of `run_integers`, held in float32, with the gradient of rounding taken as
        one inside the word's range and zero outside (straight-through). The words are the same
        as those of the integer execution wherever accumulators stay below 2**24; above, float32
        sums may be off by a unit in the last place and a word at a rounding tie may differ by one.
Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from bitproof.quant.constants import Constants
from bitproof.quant.exact_gradient import through_exact
from bitproof.quant.floats import Observe, compute, normalize
from bitproof.quant.graph import MAC_OPS, MOVING_OPS, Node
from bitproof.quant.integers import integer_op, product_sums
from bitproof.quant.movement import MOVES
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.pass_gradient import pass_gradient
from bitproof.quant.steps import accumulate, cut, is_plain, steps, wrap_int32


def run_differentiable(
    network: IntegerNetwork,
    inputs: Float[Tensor, "n *features"],
    *,
    observe: Observe | None = None,
) -> Float[Tensor, "n *outputs"]:
    """Return logits with gradients to `inputs`.

    Args:
        network: what to run.
        inputs: images in [0, 1].
        observe: shown every node's output: its words minus their zero point, in float32.
    """
    values: dict[str, Tensor] = {}
    for node in network.nodes:
        operands = [values[name] for name in node.inputs]
        values[node.name] = _fake_op(network, node, operands, inputs)
        if observe:
            observe(node, values[node.name])
    output = network.nodes[-1].name
    grid = network.grids.get(output)
    return values[output] if grid is None else values[output] * grid.scale


def _fake_op(network: IntegerNetwork, node: Node, operands: list[Tensor], inputs: Tensor) -> Tensor:
    """Return the output of one node as centered words (real-valued logits at the end)."""
    constants = network.constants[node.name]
    if node.op == "constant":
        return network.tensors[f"{node.name}.weight"].centered().float()
    if node.op in MOVING_OPS:
        return MOVES[node.op](operands[0], node.attrs, len(inputs))
    if node.op == "input":
        values = normalize(inputs, node.attrs) * constants.multipliers[0]
    elif node.op in MAC_OPS:
        if node.name in network.products:
            sums = _products_through(network, node, operands)
        else:
            sums = accumulate(node, _in_float32(constants), operands)
            if constants.dtype == torch.float64:
                sums = wrap_int32(sums.double()).float()
        values = sums * constants.multipliers[0]
    elif is_plain(node):
        values = steps(node, constants, operands)
    else:
        return _replaced(network, node, operands, inputs)
    return cut_through(values, constants) if constants.cuts else values


def _in_float32(constants: Constants) -> Constants:
    """Return constants whose sums are taken in float32: fast, and exact below 2**24."""
    if constants.dtype == torch.float32:
        return constants
    changes: dict[str, Any] = {"dtype": torch.float32}
    for key in ("weight", "bias"):
        stored = getattr(constants, key)
        changes[key] = None if stored is None else stored.float()
    return replace(constants, **changes)


def _products_through(network: IntegerNetwork, node: Node, operands: list[Tensor]) -> Tensor:
    """Return sums of table products; their gradient is that of exact products."""
    constants = network.constants[node.name]
    hard = product_sums(network, node, _words(network, node, operands))
    if not any(x.requires_grad for x in operands):
        return hard
    return through_exact(node, _in_float32(constants), operands, hard)


def _words(network: IntegerNetwork, node: Node, operands: list[Tensor]) -> list[Tensor]:
    """Return stored words for centered ones."""
    points = network.constants[node.name].zero_points
    return [
        (x.detach() + point).to(network.grids[name].dtype)
        for x, point, name in zip(operands, points, node.inputs, strict=True)
    ]


def _replaced(
    network: IntegerNetwork, node: Node, operands: list[Tensor], inputs: Tensor
) -> Tensor:
    """Return the exact integer result, with the gradient of the real-valued function."""
    constants = network.constants[node.name]
    words = _words(network, node, operands)
    hard = integer_op(network, node, words, inputs, accumulate).float() - constants.zero_point
    if not operands[0].requires_grad:
        return hard
    reals = [x * scale for x, scale in zip(operands, constants.scales, strict=True)]
    assert constants.scale is not None
    soft = compute(node, reals, constants.weight, constants.bias) / constants.scale
    low, high = (bound - constants.zero_point for bound in (constants.low, constants.high))
    return pass_gradient(soft.clamp(low, high), hard)


class CutThrough(torch.autograd.Function):
    """Round and clamp; the gradient passes where nothing was clamped."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, constants: Constants) -> Tensor:
        """Return centered words."""
        words = cut(values, constants)
        if constants.zero_point:
            words -= constants.zero_point
        if values.requires_grad or ctx.needs_input_grad[0]:
            low, high = (b - constants.zero_point for b in (constants.low, constants.high))
            ctx.save_for_backward((values > low - 0.5) & (values < high + 0.5))
        return words

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Mask the gradient."""
        (inside,) = ctx.saved_tensors
        return gradient * inside, None


def cut_through(values: Tensor, constants: Constants) -> Tensor:
    """Return centered words of `values`, which are in output steps."""
    words: Tensor = CutThrough.apply(values, constants)  # type: ignore[no-untyped-call]
    return words
