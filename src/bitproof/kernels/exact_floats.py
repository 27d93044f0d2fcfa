"""In which floats sums of integers are exact, whatever the order of summation."""

import torch
from jaxtyping import Float64
from torch import Tensor

EXACT_FLOAT32 = 1 << 24
"""Integers up to this size are exact in float32."""


def sum_bounds(
    weight: Tensor, peak: int, bias: Tensor | None = None
) -> Float64[Tensor, " filters"]:
    """Return a bound on the size of each filter's sums, the partial ones and the bias included.

    `peak` is the largest size of what the weights, whole numbers, are multiplied with.

    Example:
        >>> sum_bounds(torch.tensor([[3, -4], [1, 0]]), 10, torch.tensor([5, -6]))
        tensor([75., 16.], dtype=torch.float64)
    """
    sizes = weight.abs().reshape(len(weight), -1)
    sizes = sizes.double() if sizes.is_floating_point() else sizes
    bounds = sizes.sum(1).double() * peak
    return bounds if bias is None else bounds + bias.double().abs()


def fits_float32(bounds: Tensor | float | int) -> bool:
    """Tell whether float32 holds all sums within `bounds`, and every partial sum, exactly.

    Example:
        >>> fits_float32(2.0**24 - 1), fits_float32(2.0**24)
        (True, False)
    """
    return float(torch.as_tensor(bounds).max()) < EXACT_FLOAT32


def sum_type(bounds: Tensor) -> torch.dtype:
    """Return the narrowest float in which sums within `bounds` are exact on their device.

    A GPU may multiply float32 in fewer bits, so it gets float64.
    """
    narrow = bounds.device.type == "cpu" and fits_float32(bounds)
    return torch.float32 if narrow else torch.float64
