"""Multipliers that look for the leading one of each operand; signs go around as sign and magnitude.

Model:  Mitchell: a number `2**k * (1 + x)` has its leading one at bit k; its base-2 logarithm is
        taken as k + x, and the power of a sum in the same way backwards. Truncated, x keeps
        `mantissa` bits, and the product is rounded down to whole numbers. A product with 0 is 0.
        RoBA: with A' and B' the powers of two that are nearest to A and B, the product is taken as
        A' B + B' A - A' B'; what is missing is (A - A') (B - B'). Half way, 3 * 2**p, the larger
        power is taken, but 3 itself becomes 2. A number from 192 on becomes 256.
        DRUM: an operand of more than `width` bits is cut to the `width` bits from its leading one
        on, the lowest of them set to 1, which makes the cut right on average.
        LoBA: the operand is a high segment H, which starts at its leading one, and a low segment L,
        which starts at the leading one of what H leaves; both have `width` bits, nothing is set.
        The product of the high segments comes first, then those of H and L, L and H, L and L.
Source: Mitchell, "Computer Multiplication and Division Using Binary Logarithms", IRE Transactions
        on Electronic Computers 1962; truncated: Kim et al., "Low-Power Implementation of
        Mitchell's Approximate Logarithmic Multiplication for Convolutional Neural Networks",
        ASP-DAC 2018, in the form of AdAM (Taheri et al., ETS 2024): METHODS C.2;
        Zendegani et al., "RoBA Multiplier: A Rounding-Based Approximate Multiplier for High-Speed
        yet Energy-Efficient Digital Signal Processing", IEEE TVLSI 2017; signed: S-RoBA;
        Hashemi, Bahar, Reda, "DRUM: A Dynamic Range Unbiased Multiplier for Approximate
        Applications", ICCAD 2015; Garg, Patel, Dutt, "LoBA: A Leading One Bit Based Imprecise
        Multiplier for Efficient Image Processing", Journal of Electronic Testing 2020, with the
        order of its products as in the Verilog of the AxArith library.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from bitproof.approx.base import MULTIPLIERS, Formula, Numbers, on_magnitudes

Width = Annotated[int, Field(ge=2, le=8, strict=True)]


@MULTIPLIERS.register
class Mitchell(Formula):
    """Multiply by adding logarithms that are straight lines between powers of two.

    Never more than the exact product, and at most 1/9 of it less.

    Example:
        >>> Mitchell().product(torch.tensor([3, 4]), torch.tensor([3, 9]))
        tensor([ 8, 36])
    """

    kind: Literal["mitchell"] = "mitchell"

    @on_magnitudes
    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the powers of the sums of logarithms."""
        lead, other = leading_one(first), leading_one(second)
        one = 1 << (lead + other)
        # The sum of both mantissas, in units of 1 / one: a whole number.
        total = ((first - (1 << lead)) << other) + ((second - (1 << other)) << lead)
        return torch.where(first * second == 0, 0, torch.where(total < one, one + total, 2 * total))


@MULTIPLIERS.register
class TruncatedMitchell(Formula):
    """Multiply by adding logarithms that keep a few bits behind the point.

    Example:
        >>> TruncatedMitchell(mantissa=3).product(torch.tensor([255]), torch.tensor([255]))
        tensor([57344])
    """

    kind: Literal["truncated_mitchell"] = "truncated_mitchell"
    mantissa: Annotated[int, Field(ge=1, le=15, strict=True)] = 5
    """Bits behind the leading one that are kept; 7 is Mitchell's multiplier of 8-bit words."""

    @on_magnitudes
    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the powers of the sums of truncated logarithms, rounded down."""
        total = self._logarithm(first) + self._logarithm(second)
        one = 1 << self.mantissa
        product = ((one + total % one) << (total // one)) >> self.mantissa
        return torch.where(first * second == 0, 0, product)

    def _logarithm(self, numbers: Numbers) -> Numbers:
        """Return logarithms in units of `2**-mantissa`."""
        lead = leading_one(numbers)
        return (lead << self.mantissa) + (((numbers - (1 << lead)) << self.mantissa) >> lead)


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


@MULTIPLIERS.register
class Drum(Formula):
    """Multiply segments of `width` bits whose lowest bit is set to 1: unbiased.

    Example:
        >>> Drum(width=3).product(torch.tensor([4, 200]), torch.tensor([7, 1]))
        tensor([ 28, 224])
    """

    kind: Literal["drum"] = "drum"
    width: Width = 4
    """Bits of a segment, the leading one among them: k in DRUM-k."""

    @on_magnitudes
    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the products of the segments."""
        return unbiased_segment(first, self.width) * unbiased_segment(second, self.width)


@MULTIPLIERS.register
class Loba(Formula):
    """Multiply the segments at the leading ones, and as many of the lower ones as `level` says.

    Example:
        >>> numbers = torch.tensor([255])
        >>> [int(Loba(width=4, level=level).product(numbers, numbers)) for level in range(4)]
        [57600, 61200, 64800, 65025]
    """

    kind: Literal["loba"] = "loba"
    width: Width = 4
    """Bits of a segment."""
    level: Literal[0, 1, 2, 3] = 0
    """Products besides that of the high segments: 0 none; 1 high of the first and low of the
    second operand; 2 also low and high; 3 also low and low."""

    @on_magnitudes
    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the sums of the products of segments."""
        high, other_high = _segment(first, self.width), _segment(second, self.width)
        low = _segment(first - high, self.width)
        other_low = _segment(second - other_high, self.width)
        parts = (high * other_high, high * other_low, low * other_high, low * other_low)
        return torch.stack(parts[: self.level + 1]).sum(0)


def leading_one(numbers: Numbers) -> Numbers:
    """Return the place of the highest bit that is 1; 0 for the number 0.

    Example:
        >>> leading_one(torch.tensor([0, 1, 2, 3, 255, 256]))
        tensor([0, 0, 1, 1, 7, 8])
    """
    # In float64, integers below 2**53 are exact.
    return torch.frexp(numbers.double()).exponent.long().sub(1).clamp(min=0)


def nearest_power(numbers: Numbers) -> Numbers:
    """Return the nearest power of two; the larger one half way, but 2 for 3, and 0 for 0.

    Example:
        >>> nearest_power(torch.tensor([0, 1, 2, 3, 5, 6, 191, 192]))
        tensor([  0,   1,   2,   2,   4,   8, 128, 256])
    """
    lead = leading_one(numbers)
    up = (numbers > 3) & (2 * numbers >= 3 << lead)
    return torch.where(numbers == 0, 0, 1 << (lead + up))


def unbiased_segment(numbers: Numbers, width: int) -> Numbers:
    """Return segments whose lowest bit is 1, wherever bits below it were dropped.

    Example:
        >>> unbiased_segment(torch.tensor([6, 200]), 3)
        tensor([  6, 224])
    """
    dropped = _dropped(numbers, width)
    return torch.where(dropped > 0, _segment(numbers, width) | (1 << dropped), numbers)


def _segment(numbers: Numbers, width: int) -> Numbers:
    """Return numbers of which only the `width` bits from the leading one on are left."""
    dropped = _dropped(numbers, width)
    return (numbers >> dropped) << dropped


def _dropped(numbers: Numbers, width: int) -> Numbers:
    return (leading_one(numbers) - width + 1).clamp(min=0)
