"""Logarithmic multipliers: add approximate logarithms, take the approximate power.

Model:  a number `2**k * (1 + x)` has its leading one at bit k; its base-2 logarithm is taken as
        k + x, and the power of a sum in the same way backwards. Truncated, x keeps `mantissa`
        bits, and the product is rounded down to whole numbers. A product with 0 is 0.
Source: Mitchell, "Computer Multiplication and Division Using Binary Logarithms", IRE Transactions
        on Electronic Computers 1962; truncated: Kim et al., "Low-Power Implementation of
        Mitchell's Approximate Logarithmic Multiplication for Convolutional Neural Networks",
        ASP-DAC 2018, in the form of AdAM (Taheri et al., ETS 2024): METHODS C.2.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from bitproof.approx.base import MULTIPLIERS, Formula, Numbers, on_magnitudes


@MULTIPLIERS.register
class Mitchell(Formula):
    """Multiply by adding logarithms that are straight lines between powers of two.

    Never more than the exact product, and at most 1/9 of it less. Signed operands go through as
    sign and magnitude.

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

    Signed operands go through as sign and magnitude.

    Example:
        >>> TruncatedMitchell(mantissa=3).product(torch.tensor([255]), torch.tensor([255]))
        tensor([57344])
    """

    kind: Literal["truncated_mitchell"] = "truncated_mitchell"
    mantissa: Annotated[int, Field(ge=1, le=7, strict=True)] = 5
    """Bits behind the leading one that are kept; 7 is Mitchell's multiplier."""

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


def leading_one(numbers: Numbers) -> Numbers:
    """Return the place of the highest bit that is 1; 0 for the number 0.

    Example:
        >>> leading_one(torch.tensor([0, 1, 2, 3, 255, 256]))
        tensor([0, 0, 1, 1, 7, 8])
    """
    # In float64, integers below 2**53 are exact.
    return torch.frexp(numbers.double()).exponent.long().sub(1).clamp(min=0)
