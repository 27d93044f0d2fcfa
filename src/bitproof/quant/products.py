"""What multiplies in a node whose products are not exact: tables, and which filter uses which.

Model:  the multiplier sees stored words, not centered ones, because an approximate product does
        not distribute over a difference: with words a and w, zero points A and W,

            sum (a - A)(w - W)  becomes  sum T[a, w] - W sum a - A sum w + k A W

        where only T is approximate; the adders of the other terms are exact, and so are the bias
        and `offset`. Padding is the word A, whose products count.

        A multiplier of signed operands sees int8 words, one of unsigned operands uint8 words. Words
        of the other sort are moved there, zero point and all, before anything is multiplied:
        unsigned words of 8 bits lose 128 (their highest bit is inverted), narrower ones fit as
        they are; signed words of b bits gain 2**(b - 1).
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int32, Int64, Integer, UInt8
from torch import Tensor

from bitproof.core.errors import QuantizationError
from bitproof.quant.grid import Grid

WORDS = 256
"""Patterns of an operand of 8 bits."""


@dataclass(frozen=True, eq=False)
class Products:
    """Product tables of one multiply-accumulate node.

    Example:
        >>> words = torch.arange(256).int()
        >>> Products.of(words.outer(words), signed=False, filters=4).choice
        tensor([0, 0, 0, 0])
    """

    tables: Int32[Tensor, "t 256 256"]
    """Products by the patterns of activation (first) and weight (second)."""
    signed: bool
    """Operands are int8 in two's complement; else uint8."""
    choice: Int64[Tensor, " m"]
    """The table of each filter; of a product of two activations, the one table for all."""
    offset: Int32[Tensor, " m"]
    """Added to every sum of a filter, in steps of the accumulator: a control variate."""
    names: tuple[str, ...] = ()
    """What the tables are called, for reports."""

    def __post_init__(self) -> None:
        if self.tables.shape[1:] != (WORDS, WORDS) or self.tables.dtype != torch.int32:
            came = f"{tuple(self.tables.shape)} of {self.tables.dtype}"
            raise QuantizationError(f"tables: wanted 256 x 256 int32 products each, got {came}")
        for table in {int(end) for end in self.choice.aminmax()} if len(self.choice) else ():
            if not 0 <= table < len(self.tables):
                last = len(self.tables) - 1
                raise QuantizationError(f"choice: wanted tables 0 to {last}, got {table}")

    @classmethod
    def of(
        cls, table: Int32[Tensor, "256 256"], *, signed: bool, filters: int, name: str = ""
    ) -> "Products":
        """Return one table for all filters."""
        zeros = torch.zeros(filters, dtype=torch.int64, device=table.device)
        return cls(table[None], signed, zeros, zeros.int(), (name,) if name else ())

    def look_up(
        self,
        left: Int64[Tensor, "n taps"],
        right: Int64[Tensor, "n taps"],
        channel: int,
        *,
        grids: tuple[Grid, Grid],
    ) -> Int64[Tensor, "n taps"]:
        """Return the products of one filter, word by word; `grids` are those of both words."""
        first, second = self._moved(left, right, grids)
        table = self.tables[int(self.choice[channel])]
        return table[first % WORDS, second % WORDS].long()

    def exact(
        self,
        left: Int64[Tensor, "n taps"],
        right: Int64[Tensor, "n taps"],
        *,
        grids: tuple[Grid, Grid],
    ) -> Int64[Tensor, "n taps"]:
        """Return what an exact multiplier gives for the same operands."""
        first, second = self._moved(left, right, grids)
        return first * second

    def _moved(
        self, left: Tensor, right: Tensor, grids: tuple[Grid, Grid]
    ) -> tuple[Tensor, Tensor]:
        first, second = (OperandEncoding.of(grid, signed=self.signed) for grid in grids)
        return left + first.shift, right + second.shift

    def with_offset(self, offset: Int32[Tensor, " m"]) -> "Products":
        """Return the same products with other constants added."""
        return replace(self, offset=offset)

    def to(self, device: torch.device | str) -> "Products":
        """Return the same products on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("tables", "choice", "offset")}
        return replace(self, **moved)


@dataclass(frozen=True)
class OperandEncoding:
    """How a multiplier encodes words of a grid.

    Example:
        >>> grid = Grid(torch.tensor(0.1), torch.tensor(3, dtype=torch.int32), 8, signed=False)
        >>> OperandEncoding.of(grid, signed=True)
        OperandEncoding(shift=-128, signed=True)
    """

    shift: int
    """Added to each word, and to its zero point."""
    signed: bool
    """Whether patterns stand for int8."""

    @classmethod
    def of(cls, grid: Grid, *, signed: bool) -> "OperandEncoding":
        """Return how words on `grid` reach a multiplier with signed or unsigned operands."""
        if grid.bits > 8:
            raise QuantizationError(f"operand: wanted words of at most 8 bits, got {grid.bits}")
        if grid.signed == signed or (signed and grid.bits < 8):
            return cls(0, signed)
        return cls(-(1 << 7) if signed else 1 << (grid.bits - 1), signed)

    def patterns(self, codes: Integer[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
        """Return the bit patterns at the multiplier."""
        raw = codes.view(torch.uint8)
        return raw + self.shift % WORDS if self.shift else raw

    def values(self, patterns: UInt8[Tensor, "*shape"]) -> Int32[Tensor, "*shape"]:
        """Return the numbers that patterns stand for."""
        return patterns.view(torch.int8).int() if self.signed else patterns.int()

    def point(self, zero_point: Int32[Tensor, "*channels"]) -> Int32[Tensor, "*channels"]:
        """Return the zero point as the multiplier sees it."""
        return zero_point + self.shift
