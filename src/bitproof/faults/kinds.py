"""What happens at a struck place: single flips, stuck bits, random words, bursts, memory lines.

Model:  every kind comes down to single bits that flip or are stuck, see `table`.
Source: METHODS C.3; Li et al., Understanding Error Propagation in Deep Learning Neural Network
        Accelerators and Applications, SC 2017 (single and multiple bit upsets).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from bitproof.core.errors import SpecError
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import Count
from bitproof.faults.space import Stratum
from bitproof.faults.table import ACTIONS, Action

MOST_ROWS = 50_000_000
"""Bits that one draw may break; more do not fit in memory."""


@dataclass(frozen=True, eq=False)
class Places:
    """Struck places of one stratum."""

    stratum: Stratum
    element: Int64[np.ndarray, " n"]
    bit: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.element)


@dataclass(frozen=True, eq=False)
class Bits:
    """Broken bits, each of one of the places they were made from."""

    source: Int64[np.ndarray, " f"]
    """Which place."""
    element: Int64[np.ndarray, " f"]
    bit: Int64[np.ndarray, " f"]
    action: Int64[np.ndarray, " f"]


class FaultKind(Spec):
    """What happens to the words at struck places."""

    kind: str

    @abstractmethod
    def spread(self, places: Places, random: np.random.Generator) -> Bits:
        """Return the bits that break when places are struck.

        Args:
            places: where.
            random: for whatever the kind leaves to chance.

        Raises:
            SpecError: the kind does not fit the words of the stratum.
        """


KINDS: Registry[FaultKind] = Registry("fault_kinds")


@KINDS.register
class Flip(FaultKind):
    """Flip the bit: a transient upset.

    Example:
        >>> Flip().kind
        'flip'
    """

    kind: Literal["flip"] = "flip"

    def spread(self, places: Places, random: np.random.Generator) -> Bits:  # noqa: ARG002
        """Return one flip a place."""
        return _each(places, "flip")


@KINDS.register
class StuckAt(FaultKind):
    """Hold the bit at 0 or 1: a permanent defect.

    Example:
        >>> StuckAt(value=1).value
        1
    """

    kind: Literal["stuck_at"] = "stuck_at"
    value: Literal[0, 1] = 0
    """What the bit is read as."""

    def spread(self, places: Places, random: np.random.Generator) -> Bits:  # noqa: ARG002
        """Return one stuck bit a place."""
        return _each(places, "stuck1" if self.value else "stuck0")


@KINDS.register
class RandomValue(FaultKind):
    """Replace the whole word by a random one.

    Example:
        >>> RandomValue().kind
        'random_value'
    """

    kind: Literal["random_value"] = "random_value"

    def spread(self, places: Places, random: np.random.Generator) -> Bits:
        """Return every bit of the word, stuck at a random value."""
        _check_rows(self.kind, len(places) * places.stratum.width)
        source = np.repeat(np.arange(len(places)), places.stratum.width)
        bits = np.tile(np.arange(places.stratum.width), len(places))
        action = ACTIONS.index("stuck0") + random.integers(0, 2, len(bits))
        return Bits(source, places.element[source], bits, action)


@KINDS.register
class Burst(FaultKind):
    """Flip adjacent bits of one word; the struck bit decides where in the word they lie.

    Example:
        >>> Burst(length=3).length
        3
    """

    kind: Literal["burst"] = "burst"
    length: Count = 2
    """Adjacent bits."""

    def spread(self, places: Places, random: np.random.Generator) -> Bits:  # noqa: ARG002
        """Return `length` flips a place, all inside the word.

        Raises:
            SpecError: the words are shorter than the burst.
        """
        width = places.stratum.width
        if self.length > width:
            raise SpecError(
                f"burst.length: wanted at most {width}, the bits of a {places.stratum.site} word "
                f"of {places.stratum.layer}, got {self.length}"
            )
        _check_rows(self.kind, len(places) * self.length)
        first = places.bit * (width - self.length + 1) // width
        source = np.repeat(np.arange(len(places)), self.length)
        bits = np.repeat(first, self.length) + np.tile(np.arange(self.length), len(places))
        return Bits(source, places.element[source], bits, np.zeros_like(bits))


@KINDS.register
class WordLine(FaultKind):
    """Break a whole row or column of a memory whose rows hold `words` words.

    Example:
        >>> WordLine(line="column").line
        'column'
    """

    kind: Literal["word_line"] = "word_line"
    line: Literal["row", "column"] = "row"
    """All bits of the struck word's row, or the struck bit of the same place in all rows."""
    words: Count = 64
    """Words in one row."""
    action: Literal["flip", "stuck0", "stuck1", "random"] = "random"
    """What happens to the bits of the line; `random` holds each at a random value."""

    def spread(self, places: Places, random: np.random.Generator) -> Bits:
        """Return all bits of the line.

        Raises:
            SpecError: the site is a register, or the lines hold too many bits.
        """
        if places.stratum.site not in {"weight", "bias", "activation", "output", "input"}:
            raise SpecError(f"word_line: wanted a site in a memory, got '{places.stratum.site}'")
        width = places.stratum.width
        rows = -(-places.stratum.words // self.words)
        _check_rows(self.kind, len(places) * (self.words * width if self.line == "row" else rows))
        if self.line == "row":
            start = places.element // self.words * self.words
            source = np.repeat(np.arange(len(places)), self.words * width)
            within = np.tile(np.arange(self.words * width), len(places))
            struck = start[source] + within // width
            bits = within % width
        else:
            source = np.repeat(np.arange(len(places)), rows)
            struck = (places.element % self.words)[source] + self.words * np.tile(
                np.arange(rows), len(places)
            )
            bits = places.bit[source]
        keep = struck < places.stratum.words
        source, struck, bits = source[keep], struck[keep], bits[keep]
        if self.action == "random":
            action = ACTIONS.index("stuck0") + random.integers(0, 2, len(bits))
        else:
            action = np.full(len(bits), ACTIONS.index(self.action))
        return Bits(source, struck, bits, action)


def _check_rows(kind: str, n: int) -> None:
    if n > MOST_ROWS:
        raise SpecError(f"{kind}: wanted at most {MOST_ROWS} broken bits, got {n}")


def _each(places: Places, action: Action) -> Bits:
    number = np.full(len(places), ACTIONS.index(action))
    return Bits(np.arange(len(places)), places.element, places.bit, number)
