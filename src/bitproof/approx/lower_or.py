"""An array multiplier whose rows are added by lower-part OR adders.

Model:  the rows of partial products are added two at a time. Each adder takes the bitwise OR of
        its low bits; the carry into its exact upper part is the AND of the highest bits of the two
        lower parts. The order of the additions does not matter: a low column says whether it has
        a 1, and the highest of them carries one less than it has.
Source: Mahdiani et al., "Bio-Inspired Imprecise Computational Blocks for Efficient VLSI
        Implementation of Soft-Computing Applications", IEEE TCAS-I 2010 (the adder, LOA). That all
        adders of the array are of this kind is our choice of where to put them.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from bitproof.approx.base import MULTIPLIERS, Formula, Numbers, on_magnitudes
from bitproof.approx.partial_products import BITS


@MULTIPLIERS.register
class LowerOr(Formula):
    """Add the rows of partial products with OR gates in the low columns.

    Signed operands go through as sign and magnitude.

    Example:
        >>> LowerOr(columns=2).product(torch.tensor([3]), torch.tensor([3]))
        tensor([11])
    """

    kind: Literal["lower_or"] = "lower_or"
    columns: Annotated[int, Field(ge=1, le=2 * BITS - 1, strict=True)] = 4
    """Low bits of each adder that are OR gates."""

    @on_magnitudes
    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the sums of the rows."""
        total = torch.zeros_like(first)
        for bit in range(BITS):
            total = lower_or_sum(total, (first << bit) * ((second >> bit) & 1), self.columns)
        return total


def lower_or_sum(first: Numbers, second: Numbers, low: int) -> Numbers:
    """Return the sums that a lower-part OR adder makes.

    Args:
        first: numbers of any width, not negative.
        second: likewise.
        low: low bits that are OR gates, at least 1.

    Example:
        >>> lower_or_sum(torch.tensor([3]), torch.tensor([3]), 2)
        tensor([7])
    """
    carry = (first >> (low - 1)) & (second >> (low - 1)) & 1
    upper = (first >> low) + (second >> low) + carry
    return (upper << low) | ((first | second) & ((1 << low) - 1))
