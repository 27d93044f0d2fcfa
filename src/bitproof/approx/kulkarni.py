"""A multiplier of 2x2-bit blocks that say 3 x 3 = 7.

Model:  both operands are cut into digits of two bits; each pair of digits is multiplied by a block
        that is exact but for 3 x 3 = 7, which spares the fourth output bit; the products are
        added exactly.
Source: Kulkarni, Gupta, Ercegovac, "Trading Accuracy for Power with an Underdesigned Multiplier
        Architecture", VLSI Design 2011.
"""

from typing import Literal

import torch

from bitproof.approx.base import MULTIPLIERS, Formula, Numbers, on_magnitudes

DIGITS = 4
"""Digits of two bits in an 8-bit operand."""


@MULTIPLIERS.register
class Kulkarni(Formula):
    """Multiply digits of two bits, where 3 x 3 = 7.

    Signed operands go through as sign and magnitude.

    Example:
        >>> Kulkarni().product(torch.tensor([3, 2, 15]), torch.tensor([3, 3, 15]))
        tensor([  7,   6, 175])
    """

    kind: Literal["kulkarni"] = "kulkarni"

    @on_magnitudes
    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the sums of the products of digits."""
        total = torch.zeros_like(first)
        for place in range(DIGITS):
            for other in range(DIGITS):
                block = (first >> 2 * place & 3) * (second >> 2 * other & 3)
                total += torch.where(block == 9, 7, block) << 2 * (place + other)
        return total
