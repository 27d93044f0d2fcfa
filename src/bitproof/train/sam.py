"""The first half of a sharpness-aware step: to where the loss is higher.

Model:  `w + rho g / |g|`, with the norm over all weights together; the gradient there is what the
        optimizer then applies at `w`.
Source: Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving
        Generalization", ICLR 2021, equation 2 and algorithm 1.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def sam_perturbation(weights: Sequence[Tensor], rho: float) -> Iterator[None]:
    """Move `weights` along their gradients by `rho` for the block, then put them back exactly.

    Example:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> with sam_perturbation([weight], 0.5):
        ...     print(weight.detach())
        tensor([0.3000, 0.4000])
        >>> weight.detach()
        tensor([0., 0.])
    """
    moved = [weight for weight in weights if weight.grad is not None]
    before = [weight.detach().clone() for weight in moved]
    with torch.no_grad():
        gradients = [weight.grad for weight in moved if weight.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm().clamp(min=1e-12)
        for weight, gradient in zip(moved, gradients, strict=True):
            weight.add_(gradient * (rho / norm))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(moved, before, strict=True):
                weight.copy_(value)
