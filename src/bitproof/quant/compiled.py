"""Elementwise steps of the integer execution in one pass of the C library, where there is one.

Model:  torch takes a pass over memory for each step from sums to words; the library takes one for
        all of them, with the same IEEE operations in the same order. The words are the same.
"""

import torch
from torch import Tensor

from bitproof.kernels.jobs import Addend, Requantization, is_dense
from bitproof.kernels.library import library
from bitproof.quant.constants import Constants

BYTES = frozenset({torch.uint8, torch.int8})
"""Dtypes of words that the library knows."""
SMALLEST = 1 << 12
"""Words below which a call costs more than it saves; no influence on the result."""


def words_of_sums(
    sums: Tensor, multiplier: Tensor, constants: Constants, dtype: torch.dtype
) -> Tensor | None:
    """Return float32 maps times their multipliers as words, or None where torch has to do it."""
    by_channel = (
        multiplier.numel() == 1 or multiplier.ndim == 3
    )  # those of rows lie on the last axis
    fits = sums.ndim == 4 and sums.dtype == torch.float32 and dtype in BYTES
    if not (fits and by_channel and _suits(sums)):
        return None
    compiled = library()
    if compiled is None:
        return None
    return compiled.requantize(sums, requantization(constants, dtype, multiplier))


def words_of_sum(operands: list[Tensor], constants: Constants, dtype: torch.dtype) -> Tensor | None:
    """Return the sum of two outputs as words, or None where torch has to do it."""
    left, right = operands
    alike = (left.shape, left.stride()) == (right.shape, right.stride())
    alike = alike and {left.dtype, right.dtype, dtype} <= BYTES
    compiled = library() if alike and _suits(left) and _suits(right) else None
    if compiled is None:
        return None
    first, second = (
        Addend(words, point, float(factor))
        for words, point, factor in zip(
            operands, constants.zero_points, constants.multipliers, strict=True
        )
    )
    return compiled.add(first, second, requantization(constants, dtype, torch.ones(1)))


def requantization(constants: Constants, dtype: torch.dtype, multiplier: Tensor) -> Requantization:
    """Return what the library is told of a node's output."""
    return Requantization(
        multiplier=multiplier.reshape(-1).contiguous(),
        zero_point=constants.zero_point,
        low=constants.low,
        high=constants.high,
        truncate=constants.rounding == "truncate",
        signed=dtype == torch.int8,
    )


def _suits(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.numel() >= SMALLEST and is_dense(tensor)
