"""Multipliers that take a short segment of each operand, from its leading one on.

Model:  DRUM: an operand of more than `width` bits is cut to the `width` bits from its leading one
        on, the lowest of them set to 1, which makes the cut right on average. LoBA: the operand is
        a high segment H, which starts at its leading one, and a low segment L, which starts at the
        leading one of what H leaves; both have `width` bits, nothing is set. The product of the
        high segments comes first, then those of H and L, L and H, L and L. Segments are
        multiplied exactly and shifted back.
Source: Hashemi, Bahar, Reda, "DRUM: A Dynamic Range Unbiased Multiplier for Approximate
        Applications", ICCAD 2015; Garg, Patel, Dutt, "LoBA: A Leading One Bit Based Imprecise
        Multiplier for Efficient Image Processing", Journal of Electronic Testing 2020, with the
        order of its products as in the Verilog of the AxArith library. Both take signed operands
        as sign and magnitude.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from bitproof.approx.base import MULTIPLIERS, Formula, Numbers, on_magnitudes
from bitproof.approx.logarithmic import leading_one

Width = Annotated[int, Field(ge=2, le=8, strict=True)]


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

    @property
    def commutes(self) -> bool:
        """Whether the operands may change places: not at level 1."""
        return self.level != 1

    @on_magnitudes
    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the sums of the products of segments."""
        high, other_high = segment(first, self.width), segment(second, self.width)
        low = segment(first - high, self.width)
        other_low = segment(second - other_high, self.width)
        parts = (high * other_high, high * other_low, low * other_high, low * other_low)
        return torch.stack(parts[: self.level + 1]).sum(0)


def segment(numbers: Numbers, width: int) -> Numbers:
    """Return numbers of which only the `width` bits from the leading one on are left.

    Example:
        >>> segment(torch.tensor([7, 200]), 3)
        tensor([  7, 192])
    """
    dropped = _dropped(numbers, width)
    return (numbers >> dropped) << dropped


def unbiased_segment(numbers: Numbers, width: int) -> Numbers:
    """Return segments whose lowest bit is 1, wherever bits below it were dropped.

    Example:
        >>> unbiased_segment(torch.tensor([6, 200]), 3)
        tensor([  6, 224])
    """
    dropped = _dropped(numbers, width)
    return torch.where(dropped > 0, segment(numbers, width) | (1 << dropped), numbers)


def _dropped(numbers: Numbers, width: int) -> Numbers:
    return (leading_one(numbers) - width + 1).clamp(min=0)
