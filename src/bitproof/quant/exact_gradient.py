"""Gradients of exact products for sums of others, without computing the exact ones.

Model:  sums that come from a table of products get the gradient of a layer that multiplies exactly
        (straight-through). A convolution is linear, so its gradient needs no forward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bitproof.quant.arithmetic import accumulate
from bitproof.quant.constants import Constants
from bitproof.quant.floats import has_faulty_kernel
from bitproof.quant.graph import Node
from bitproof.quant.pass_gradient import pass_gradient


class ConvolutionGradient(torch.autograd.Function):
    """Return sums that were computed before; the input gets the gradient of a convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sums: Tensor, node: Node) -> Tensor:
        """Return `sums`."""
        ctx.save_for_backward(x, weight)
        ctx.node = node
        return sums.view_as(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of the input."""
        x, weight = ctx.saved_tensors
        move, still = ctx.node.geometry, [0] * (weight.ndim - 2)
        moves = (move.stride, move.padding, move.dilation, False, still, move.groups)
        found = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, *moves, [True, False, False]
        )
        return found[0], None, None, None


def through_exact(node: Node, constants: Constants, operands: list[Tensor], sums: Tensor) -> Tensor:
    """Return `sums` with the gradient that `accumulate` has to its operands.

    Args:
        node: a multiply-accumulate node.
        constants: of this node, in float32.
        operands: centered words.
        sums: the accumulators, however they came about.
    """
    weight = constants.weight
    convolves = node.op == "conv" and weight is not None
    if convolves and not has_faulty_kernel(operands[0], weight, node.geometry):  # type: ignore[arg-type]
        passed: Tensor = ConvolutionGradient.apply(operands[0], weight, sums, node)  # type: ignore[no-untyped-call]
        return passed
    return pass_gradient(accumulate(node, constants, operands), sums)
