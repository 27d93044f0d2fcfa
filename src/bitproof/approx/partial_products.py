"""Arrays of partial products with cells left out: truncated, broken, perforated.

Model:  an array multiplier adds the 64 partial products `first[i] * second[j] * 2**(i + j)` of the
        bits of its operands; row j holds those of bit j of the second operand, column c those with
        i + j = c. A cell that is left out counts as 0; what is left is added exactly. In two's
        complement, bit 7 weighs -128 (Baugh and Wooley); columns are left out only as far as no
        cell of a sign bit lies in them, and rows as far as that of the sign bit itself.
        All thirteen signed multipliers of EvoApproxLib are of these kinds, bit for bit.
Source: Mahdiani et al., "Bio-Inspired Imprecise Computational Blocks for Efficient VLSI
        Implementation of Soft-Computing Applications", IEEE TCAS-I 2010 (broken array);
        Zervakis et al., "Design-Efficient Approximate Multiplication Circuits Through Partial
        Product Perforation", IEEE TVLSI 2016; Schulte and Swartzlander, "Truncated
        Multiplication with Correction Constant", VLSI Signal Processing 1993 (without the
        constant).
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from jaxtyping import Int64
from pydantic import Field, model_validator
from torch import Tensor

from bitproof.approx.base import MULTIPLIERS, Formula, Numbers

BITS = 8
Rows = Annotated[int, Field(ge=0, le=BITS - 1, strict=True)]
Columns = Annotated[int, Field(ge=0, le=2 * BITS - 1, strict=True)]


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

    @model_validator(mode="after")
    def _check_columns(self) -> "Truncated":
        check_columns(self.columns, signed=self.signed)
        return self

    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the sums of the cells in the columns that are there."""
        cells = cells_where(lambda i, j: i + j >= self.columns)
        return sum_of_cells(first, second, cells=cells, signed=self.signed)


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

    @model_validator(mode="after")
    def _check_columns(self) -> "BrokenArray":
        check_columns(self.columns, signed=self.signed)
        return self

    @property
    def commutes(self) -> bool:
        """Whether the operands may change places: not where a row is missing that counts."""
        return self.rows == 0

    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the sums of the cells that are there."""
        cells = cells_where(lambda i, j: (j >= self.rows) & (i + j >= self.columns))
        return sum_of_cells(first, second, cells=cells, signed=self.signed)


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

    @property
    def commutes(self) -> bool:
        """Whether the operands may change places: no."""
        return False

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


def cells_where(keep: Callable[[Tensor, Tensor], Tensor]) -> Int64[Tensor, "8 8"]:
    """Return 1 for the cells (i, j) that are there, 0 for the others.

    Example:
        >>> int(cells_where(lambda i, j: i + j >= 2).sum())
        61
    """
    bits = torch.arange(BITS)
    return keep(bits[:, None], bits).expand(BITS, BITS).long()


def sum_of_cells(
    first: Numbers, second: Numbers, *, cells: Int64[Tensor, "8 8"], signed: bool
) -> Numbers:
    """Return the sums of the partial products that are there.

    Args:
        first: numbers; their bits are the first index of `cells`.
        second: numbers; their bits are the second index of `cells`.
        cells: 1 where the array has a cell.
        signed: bit 7 weighs -128.

    Example:
        >>> minus_one = torch.tensor([-1])
        >>> cells = cells_where(lambda i, j: i + j >= 2)
        >>> sum_of_cells(minus_one, minus_one, cells=cells, signed=True)
        tensor([-4])
    """
    bits = torch.arange(BITS)
    weights = 1 << bits
    if signed:
        weights[-1] *= -1
    values = cells * weights[:, None] * weights
    first_bits, second_bits = ((operand[..., None] >> bits) & 1 for operand in (first, second))
    return ((first_bits @ values) * second_bits).sum(-1)


def check_columns(columns: int, *, signed: bool) -> None:
    """Check that no cell of a sign bit is left out with its column.

    Raises:
        ValueError: one is.

    Example:
        >>> check_columns(7, signed=True)
    """
    if signed and columns >= BITS:
        raise ValueError(f"wanted at most {BITS - 1} columns if signed, got {columns}")
