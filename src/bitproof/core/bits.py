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
