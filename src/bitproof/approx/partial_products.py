"""Arrays of partial products with cells left out, with adders that are not exact, or of blocks.

Model:  an array multiplier adds the 64 partial products `first[i] * second[j] * 2**(i + j)` of the
        bits of its operands; row j holds those of bit j of the second operand, column c those with
        i + j = c. A cell that is left out (truncated, broken, perforated) counts as 0; what is
        left is added exactly. In two's complement, bit 7 weighs -128 (Baugh and Wooley); columns
        are left out only as far as no cell of a sign bit lies in them, and rows as far as that of
        the sign bit itself. All thirteen signed multipliers of EvoApproxLib are of these kinds, bit
        for bit.
        Lower-part OR adders add the rows two at a time. Each takes the bitwise OR of its low bits;
        the carry into its exact upper part is the AND of the highest bits of the two lower parts.
        The order of the additions does not matter: a low column says whether it has a 1, and the
        highest of them carries one less than it has.
        Kulkarni's blocks multiply digits of two bits, exactly but for 3 x 3 = 7, which spares the
        fourth output bit. Both take signed operands as sign and magnitude.
Source: Mahdiani et al., "Bio-Inspired Imprecise Computational Blocks for Efficient VLSI
        Implementation of Soft-Computing Applications", IEEE TCAS-I 2010 (broken array; the adder,
        LOA: that all adders of the array are of this kind is our choice of where to put them);
        Zervakis et al., "Design-Efficient Approximate Multiplication Circuits Through Partial
        Product Perforation", IEEE TVLSI 2016; Schulte and Swartzlander, "Truncated
        Multiplication with Correction Constant", VLSI Signal Processing 1993 (without the
        constant); Kulkarni, Gupta, Ercegovac, "Trading Accuracy for Power with an Underdesigned
        Multiplier Architecture", VLSI Design 2011.
"""

import itertools
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field, model_validator

from bitproof.approx.base import MULTIPLIERS, Formula, Numbers, on_magnitudes

BITS = 8
Rows = Annotated[int, Field(ge=0, le=BITS - 1, strict=True)]


def _check_columns(columns: int, info: Any) -> int:
    """Check that no cell of a sign bit is left out with its column."""
    if info.data.get("signed") and columns >= BITS:
        raise ValueError(f"wanted at most {BITS - 1} columns if signed, got {columns}")
    return columns


Columns = Annotated[int, Field(ge=0, le=2 * BITS - 1, strict=True), AfterValidator(_check_columns)]


@MULTIPLIERS.register
class Exact(Formula):
    """Multiply exactly.

    Example:
        >>> int(Exact().table().products[255, 255])
        65025
    """

    kind: Literal["exact"] = "exact"

    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the exact products."""
        return first * second


@MULTIPLIERS.register
class Truncated(Formula):
    """Leave out the least significant columns of the array.

    Example:
        >>> Truncated(columns=2).product(torch.tensor([3]), torch.tensor([3]))
        tensor([4])
    """

    kind: Literal["truncated"] = "truncated"
    columns: Columns = 4
    """Columns that are left out, from the least significant on; at most 7 if signed."""

    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the sums of the cells in the columns that are there."""
        return _sum_of_cells(first, second, columns=self.columns, signed=self.signed)


@MULTIPLIERS.register
class BrokenArray(Formula):
    """Leave out the first rows and the least significant columns of the array.

    Example:
        >>> BrokenArray(rows=2, columns=6).product(torch.tensor([200]), torch.tensor([100]))
        tensor([19968])
    """

    kind: Literal["broken_array"] = "broken_array"
    rows: Rows = 1
    """Horizontal break: rows that are left out, those of the lowest bits of the second operand."""
    columns: Columns = 4
    """Vertical break: columns that are left out, from the least significant on; at most 7 if
    signed."""

    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the sums of the cells that are there."""
        return _sum_of_cells(
            first, second, rows=self.rows, columns=self.columns, signed=self.signed
        )


@MULTIPLIERS.register
class Perforated(Formula):
    """Leave out successive rows: the partial products of some bits of the second operand.

    Example:
        >>> Perforated(start=1, rows=2).product(torch.tensor([10]), torch.tensor([15]))
        tensor([90])
    """

    kind: Literal["perforated"] = "perforated"
    start: Rows = 0
    """First row that is left out: bit of the second operand, 0 the least significant."""
    rows: Annotated[int, Field(ge=1, le=BITS - 1, strict=True)] = 2
    """Rows that are left out; never that of the sign."""

    @model_validator(mode="after")
    def _check_rows(self) -> "Perforated":
        most = BITS - 1 if self.signed else BITS
        if self.start + self.rows > most:
            raise ValueError(
                f"wanted start + rows of at most {most}, got {self.start + self.rows} "
                f"(signed = {str(self.signed).lower()})"
            )
        return self

    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the exact products with what is left of the second operand."""
        return first * (second & ~(((1 << self.rows) - 1) << self.start))


@MULTIPLIERS.register
class TruncatedOperands(Formula):
    """Read the lowest bits of both operands as 0.

    Example:
        >>> TruncatedOperands(bits=1).product(torch.tensor([7]), torch.tensor([5]))
        tensor([24])
    """

    kind: Literal["truncated_operands"] = "truncated_operands"
    bits: Rows = 2
    """Bits of each operand that are not connected, from the least significant on."""

    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the exact products of what is left of the operands."""
        return ((first >> self.bits) * (second >> self.bits)) << (2 * self.bits)


@MULTIPLIERS.register
class LowerOr(Formula):
    """Add the rows of partial products with OR gates in the low columns.

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


@MULTIPLIERS.register
class Kulkarni(Formula):
    """Multiply digits of two bits, where 3 x 3 = 7.

    Example:
        >>> Kulkarni().product(torch.tensor([3, 2, 15]), torch.tensor([3, 3, 15]))
        tensor([  7,   6, 175])
    """

    kind: Literal["kulkarni"] = "kulkarni"

    @on_magnitudes
    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the sums of the products of digits."""
        total = torch.zeros_like(first)
        for place, other in itertools.product(range(0, BITS, 2), repeat=2):
            block = (first >> place & 3) * (second >> other & 3)
            total += torch.where(block == 9, 7, block) << (place + other)
        return total


def lower_or_sum(first: Numbers, second: Numbers, low: int) -> Numbers:
    """Return the sums of an adder whose `low` lowest bits, at least one, are OR gates.

    Example:
        >>> lower_or_sum(torch.tensor([3]), torch.tensor([3]), 2)
        tensor([7])
    """
    carry = (first >> (low - 1)) & (second >> (low - 1)) & 1
    upper = (first >> low) + (second >> low) + carry
    return (upper << low) | ((first | second) & ((1 << low) - 1))


def _sum_of_cells(
    first: Numbers, second: Numbers, *, rows: int = 0, columns: int, signed: bool
) -> Numbers:
    """Return the sums of the partial products, without the first rows and columns."""
    bits = torch.arange(BITS)
    weights = 1 << bits
    if signed:
        weights[-1] *= -1
    there = (bits >= rows) & (bits[:, None] + bits >= columns)
    values = there * weights[:, None] * weights
    first_bits, second_bits = ((operand[..., None] >> bits) & 1 for operand in (first, second))
    return ((first_bits @ values) * second_bits).sum(-1)
