"""The straight-through rule: one tensor's value, another's gradient.

Model:  sums that come from a table of products get the gradient of a layer that multiplies exactly.
        A convolution is linear, so its gradient needs no forward pass.
Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bitproof.quant.arithmetic import accumulate
from bitproof.quant.constants import Constants
from bitproof.quant.floats import has_faulty_kernel
from bitproof.quant.graph import Node


class PassGradient(torch.autograd.Function):
    """Return the second tensor; the first gets its gradient, clamped to `limit` if there is one."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, seen: Tensor, limit: float | None) -> Tensor:
        """Return `seen`."""
        ctx.limit = limit
        return seen.view_as(seen) if weight is seen else seen

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Hand the gradient to `weight`."""
        limit = ctx.limit
        return gradient if limit is None else gradient.clamp(-limit, limit), None, None


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


def pass_gradient(weight: Tensor, seen: Tensor, limit: float | None = None) -> Tensor:
    """Return `seen` with its gradient going to `weight`, clamped to +-`limit` if given."""
    passed: Tensor = PassGradient.apply(weight, seen, limit)  # type: ignore[no-untyped-call]
    return passed


def through_exact(node: Node, constants: Constants, operands: list[Tensor], sums: Tensor) -> Tensor:
    """Return `sums` with the gradient that `accumulate` has to centered `operands`, in float32."""
    weight = constants.weight
    convolves = node.op == "conv" and weight is not None
    if convolves and not has_faulty_kernel(operands[0], weight, node.geometry):  # type: ignore[arg-type]
        passed: Tensor = ConvolutionGradient.apply(operands[0], weight, sums, node)  # type: ignore[no-untyped-call]
        return passed
    return pass_gradient(accumulate(node, constants, operands), sums)
