"""Execution of an integer network with gradients: fake quantization in units of steps.

Model:  the integers of `run_integers`, held in float32, with the gradient of rounding taken as
        one inside the word's range and zero outside (straight-through). The words are the same
        as those of the integer execution wherever accumulators stay below 2**24 or a convolution
        is computed in 8 bits; elsewhere, float32 sums may be off by a unit in the last place and a
        word at a rounding tie may differ by one.
Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bitproof.core.errors import InputRangeError
from bitproof.quant.arithmetic import requantize, sum_steps, uncenter
from bitproof.quant.constants import Constants
from bitproof.quant.execution import execute
from bitproof.quant.floats import MOVES, Observe, compute, normalize, unpacked
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.network_data import NetworkData
from bitproof.quant.operations import MAC_OPS, MEMORY_OPS, MOVING_OPS, SUM_OPS
from bitproof.quant.pass_gradient import pass_gradient
from bitproof.quant.wide_outputs import reads_wide, real_op


def run_differentiable(
    network: NetworkData,
    inputs: Num[Tensor, "n *features"],
    *,
    observe: Observe | None = None,
) -> Float[Tensor, "n *outputs"]:
    """Return logits with gradients to `inputs`, images in [0, 1].

    `observe` is shown every node's output: its words minus their zero point, in float32.
    """

    def compute_op(node: Node, operands: list[Tensor]) -> Tensor:
        value = fake_op(network, node, operands, inputs)
        if observe is not None:
            observe(node, value)
        return value

    output = network.nodes[-1].name
    value, grid = execute(network.nodes, compute_op)[output], network.grids.get(output)
    return value if grid is None else value * grid.scale


def fake_op(network: NetworkData, node: Node, operands: list[Tensor], inputs: Tensor) -> Tensor:
    """Return the output of one node as centered words; real from the last accumulators on."""
    if reads_wide(node, network.grids):
        return _real(node, operands[0], len(inputs))
    constants = network.constants[node.name]
    if node.op in MEMORY_OPS or node.attrs.get("tokens"):
        return _stored(network, node)
    if node.op in MOVING_OPS:
        lowest = float(network.grids[node.name].low - constants.zero_points[0])
        return _moved(node, operands[0], len(inputs), lowest)
    if node.op == "input":
        values = normalize(inputs, node.attrs) * constants.multipliers[0]
    elif node.op in MAC_OPS:
        values = network.accumulator(node).differentiable(operands) * constants.multipliers[0]
    elif node.op in SUM_OPS:
        values = sum_steps(node, constants, operands)
    else:
        return _replaced(network, node, operands, inputs)
    if node.name in network.grids:
        values = RequantizeThrough.apply(values, constants)  # type: ignore[no-untyped-call]
    return values


def _stored(network: NetworkData, node: Node) -> Tensor:
    if node.op != "constant":
        raise InputRangeError("inputs: wanted values with gradients, got a network of tokens")
    return network.tensors[node.key("weight")].centered().float()


def _moved(node: Node, centered: Tensor, n: int, lowest: float) -> Tensor:
    if node.op == "mask":
        hidden = unpacked(node.attrs).to(centered.device)
        return centered.clamp(min=lowest + 1).masked_fill(hidden, lowest)
    if node.attrs.get("lowest"):
        return functional.pad(centered, node.attrs["padding"], value=lowest)
    return MOVES[node.op](centered, node.attrs, n)


def _replaced(network: NetworkData, node: Node, operands: list[Tensor], inputs: Tensor) -> Tensor:
    """Return the exact integer result, with the gradient of the real-valued function."""
    constants = network.constants[node.name]
    codes = uncenter(operands, constants, [network.grids[name] for name in node.inputs])
    hard = integer_op(network, node, codes, inputs).float() - constants.zero_point
    if not operands[0].requires_grad:
        return hard
    reals = [x * scale for x, scale in zip(operands, constants.scales, strict=True)]
    if constants.floor is not None:
        reals[0] = reals[0].masked_fill(operands[0] == constants.floor, -math.inf)
    assert constants.scale is not None
    soft = compute(node, reals, constants.weight, constants.bias) / constants.scale
    low, high = (bound - constants.zero_point for bound in (constants.low, constants.high))
    return pass_gradient(soft.clamp(low, high), hard)


def _real(node: Node, logits: Tensor, n: int) -> Tensor:
    """Return what a node makes of real values, with the gradient of its function."""
    if node.op in MOVING_OPS:
        return real_op(node, logits, n)
    return pass_gradient(compute(node, [logits], None, None), real_op(node, logits.detach(), n))


class RequantizeThrough(torch.autograd.Function):
    """Round and clamp; the gradient passes where nothing was clamped."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, constants: Constants) -> Tensor:
        """Return centered words."""
        codes = requantize(values, constants)
        if constants.zero_point:
            codes -= constants.zero_point
        if values.requires_grad or ctx.needs_input_grad[0]:
            low, high = (b - constants.zero_point for b in (constants.low, constants.high))
            ctx.save_for_backward(values)
            ctx.bounds = low - 0.5, high + 0.5
        return codes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient within the bounds, and 0 beyond them, in one pass."""
        return torch.ops.aten.hardtanh_backward(gradient, *ctx.saved_tensors, *ctx.bounds), None
