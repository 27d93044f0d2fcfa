"""Stored words: which dtype holds them, and whether a width fits."""

import torch
from torch import Tensor

from bitproof.core.errors import BitWidthError

WORD_BITS = {torch.uint8: 8, torch.int8: 8, torch.int16: 16, torch.int32: 32, torch.int64: 64}
"""Bits that each integer dtype can hold."""


def check_bit_width(codes: Tensor, bits: int) -> None:
    """Check that words of `bits` bits fit the dtype of `codes`.

    Raises:
        BitWidthError: the dtype is no integer, or is narrower than `bits`.
    """
    held = WORD_BITS.get(codes.dtype, 0)
    if not 1 <= bits <= held:
        raise BitWidthError(
            f"bits: wanted a width that {codes.dtype} can hold (1 to {held}), got {bits}"
            if held
            else f"codes: wanted an integer dtype, got {codes.dtype}"
        )


def count_flips(before: Tensor, after: Tensor, *, bits: int) -> int:
    """Return the Hamming distance of two arrays of stored words, in their low `bits` bits.

    Example:
        >>> count_flips(torch.tensor([0, 5]), torch.tensor([7, 5]), bits=8)
        3
    """
    difference = before ^ after
    return sum(int(((difference >> bit) & 1).sum()) for bit in range(bits))
