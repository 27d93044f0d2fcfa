"""A multiplier by rounding to powers of two: shifts and two sums.

Model:  with A' and B' the powers of two that are nearest to A and B, the product is taken as
        A' B + B' A - A' B'; what is missing is (A - A') (B - B'). Half way, 3 * 2**p, the larger
        power is taken, but 3 itself becomes 2. A number from 192 on becomes 256.
Source: Zendegani et al., "RoBA Multiplier: A Rounding-Based Approximate Multiplier for High-Speed
        yet Energy-Efficient Digital Signal Processing", IEEE TVLSI 2017; signed: S-RoBA, which
        takes sign and magnitude.
"""

from typing import Literal

import torch

from bitproof.approx.base import MULTIPLIERS, Formula, Numbers, on_magnitudes
from bitproof.approx.logarithmic import leading_one


@MULTIPLIERS.register
class Roba(Formula):
    """Multiply by the powers of two nearest to both operands; at most 1/9 off.

    Example:
        >>> Roba().product(torch.tensor([3, 6, 16]), torch.tensor([3, 6, 13]))
        tensor([  8,  32, 208])
    """

    kind: Literal["roba"] = "roba"

    @on_magnitudes
    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the sums of shifted operands."""
        power, other = nearest_power(first), nearest_power(second)
        return power * second + other * first - power * other


def nearest_power(numbers: Numbers) -> Numbers:
    """Return the nearest power of two; the larger one half way, but 2 for 3, and 0 for 0.

    Example:
        >>> nearest_power(torch.tensor([0, 1, 2, 3, 5, 6, 191, 192]))
        tensor([  0,   1,   2,   2,   4,   8, 128, 256])
    """
    lead = leading_one(numbers)
    up = (numbers > 3) & (2 * numbers >= 3 << lead)
    return torch.where(numbers == 0, 0, 1 << (lead + up))
