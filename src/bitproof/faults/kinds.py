"""What happens at a place that breaks: single flips, stuck bits, random words, bursts, lines.

Model:  every kind comes down to single bits that flip or are stuck, see `table`.
Source: METHODS C.3; Li et al., Understanding Error Propagation in Deep Learning Neural Network
        Accelerators and Applications, SC 2017 (single and multiple bit upsets).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from bitproof.core.errors import SpecError
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import Count
from bitproof.faults.interleaved import interleaved_address, interleaved_place
from bitproof.faults.space import Stratum
from bitproof.faults.table import ACTIONS, FLIP, STUCK0, STUCK1

MOST_ROWS = 50_000_000
"""Bits that one draw may break; more do not fit in memory."""


@dataclass(frozen=True, eq=False)
class Places:
    """Places of one stratum that break."""

    stratum: Stratum
    element: Int64[np.ndarray, " n"]
    bit: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.element)


@dataclass(frozen=True, eq=False)
class Bits:
    """Broken bits."""

    source: Int64[np.ndarray, " f"]
    """Which place each comes from."""
    element: Int64[np.ndarray, " f"]
    bit: Int64[np.ndarray, " f"]
    action: Int64[np.ndarray, " f"]


class FaultKind(Spec):
    """What happens to the words at places that break."""

    permanent: ClassVar[bool] = False
    """Whether a register that breaks stays broken, whatever is written to it."""

    kind: str

    @abstractmethod
    def spread(self, places: Places, random: np.random.Generator) -> Bits:
        """Return the bits that break with some places; `random` is for what is left to chance.

        Raises:
            SpecError: the kind does not fit the words of the stratum, or breaks too many bits.
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
        return _each(places, FLIP)


@KINDS.register
class StuckAt(FaultKind):
    """Hold the bit at 0 or 1: a permanent defect.

    Example:
        >>> StuckAt(value=1).value
        1
    """

    permanent: ClassVar[bool] = True

    kind: Literal["stuck_at"] = "stuck_at"
    value: Literal[0, 1] = 0
    """What the bit is read as."""

    def spread(self, places: Places, random: np.random.Generator) -> Bits:  # noqa: ARG002
        """Return one stuck bit a place."""
        return _each(places, STUCK1 if self.value else STUCK0)


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
        source, bit = _spread(self.kind, places, places.stratum.width)
        return Bits(source, places.element[source], bit, _random_values(len(bit), random))


@KINDS.register
class Burst(FaultKind):
    """Flip adjacent bits of one word; the bit of the place decides where in the word they lie.

    Example:
        >>> Burst(length=3).length
        3
    """

    kind: Literal["burst"] = "burst"
    length: Count = 2
    """Adjacent bits."""

    def spread(self, places: Places, random: np.random.Generator) -> Bits:  # noqa: ARG002
        """Return `length` flips a place, all inside the word."""
        width = places.stratum.width
        if self.length > width:
            raise SpecError(
                f"burst.length: wanted at most {width}, the bits of a {places.stratum.site} word "
                f"of {places.stratum.layer}, got {self.length}"
            )
        source, within = _spread(self.kind, places, self.length)
        bit = (places.bit * (width - self.length + 1) // width)[source] + within
        return Bits(source, places.element[source], bit, np.full(len(bit), FLIP))


@KINDS.register
class WordLine(FaultKind):
    """Break a whole row or column of a memory whose rows hold `words` words.

    Example:
        >>> WordLine(line="column").line
        'column'
    """

    kind: Literal["word_line"] = "word_line"
    line: Literal["row", "column"] = "row"
    """All bits of the word's row, or the same bit of the words below each other in all rows."""
    words: Count = 64
    """Words in one row."""
    ways: Annotated[int, Field(ge=1, le=2**16, strict=True)] = 1
    """How far apart the addresses of neighbours in a row are, in words, if they are interleaved;
    1: they are neighbours as well. See `interleaved`."""
    action: Literal["flip", "stuck0", "stuck1", "random"] = "random"
    """What happens to the bits of the line; `random` holds each at a random value."""

    def spread(self, places: Places, random: np.random.Generator) -> Bits:
        """Return all bits of the line."""
        if places.stratum.site not in {"weight", "bias", "activation", "output", "input"}:
            raise SpecError(f"word_line: wanted a site in a memory, got '{places.stratum.site}'")
        width, words = places.stratum.width, places.stratum.words
        struck = interleaved_place(places.element, words, ways=self.ways)
        if self.line == "row":
            source, within = _spread(self.kind, places, self.words * width)
            word, bit = np.divmod(within, width)
            place = (struck // self.words * self.words)[source] + word
        else:
            source, row = _spread(self.kind, places, -(-words // self.words))
            place = (struck % self.words)[source] + self.words * row
            bit = places.bit[source]
        inside = place < words
        source, bit = source[inside], bit[inside]
        element = interleaved_address(place[inside], words, ways=self.ways)
        if self.action == "random":
            action = _random_values(len(bit), random)
        else:
            action = np.full(len(bit), ACTIONS.index(self.action))
        return Bits(source, element, bit, action)


def _spread(
    kind: str, places: Places, each: int
) -> tuple[Int64[np.ndarray, " f"], Int64[np.ndarray, " f"]]:
    """Return the place of each of its `each` bits, and the bit's number among them."""
    n = len(places) * each
    if n > MOST_ROWS:
        raise SpecError(f"{kind}: wanted at most {MOST_ROWS} broken bits, got {n}")
    source, within = np.divmod(np.arange(n), each)
    return source, within


def _random_values(n: int, random: np.random.Generator) -> Int64[np.ndarray, " f"]:
    return STUCK0 + random.integers(0, 2, n)


def _each(places: Places, action: int) -> Bits:
    return Bits(np.arange(len(places)), places.element, places.bit, np.full(len(places), action))
