"""The straight-through rule: one tensor's value, another's gradient.

Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
"""

from typing import Any

import torch
from torch import Tensor


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


def pass_gradient(weight: Tensor, seen: Tensor, limit: float | None = None) -> Tensor:
    """Return `seen` with its gradient going to `weight`, clamped to +-`limit` if given."""
    passed: Tensor = PassGradient.apply(weight, seen, limit)  # type: ignore[no-untyped-call]
    return passed
