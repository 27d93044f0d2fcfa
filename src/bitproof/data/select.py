"""Choosing between two images, pixel by pixel."""

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor


def select(
    chosen: Bool[Tensor, "*#shape"], this: Shaped[Tensor, "*#shape"], that: Shaped[Tensor, "*shape"]
) -> Shaped[Tensor, "*shape"]:
    """Return `this` where `chosen`, elsewhere `that`; the first two may be broadcast.

    The answer is that of `torch.where`, whose loop over bytes is ten times slower on a CPU.

    Example:
        >>> chosen = torch.tensor([True, False])
        >>> select(chosen, torch.tensor([7], dtype=torch.uint8), torch.zeros(2, dtype=torch.uint8))
        tensor([7, 0], dtype=torch.uint8)
    """
    if that.dtype == torch.uint8 and that.device.type == "cpu":
        return that ^ ((that ^ this) * chosen)
    return torch.where(chosen, this, that)
