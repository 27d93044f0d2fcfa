"""What one place of a comparison gives: numbers by key, and what it shares with another place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bitproof.stats.intervals import Interval

FRACTION = "fraction"


@dataclass(frozen=True)
class Key:
    """What is measured: two places are compared where they have equal keys."""

    variant: str
    """Network; empty where each place has one."""
    threat: str
    """Threat, or kind of fault and site."""
    place: str
    """Level, or layer and bit."""
    metric: str

    @property
    def text(self) -> str:
        """How a table calls it."""
        parts = [self.variant, self.threat, self.place, "" if self.metric == "acc" else self.metric]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Cell:
    """One measured number."""

    value: float
    interval: Interval | None = None
    n: int | None = None
    unit: str = FRACTION


@runtime_checkable
class Measured(Protocol):
    """The numbers of one place."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def confidence(self) -> float:
        """How often its intervals hold the truth, as a fraction."""

    def cells(self) -> Mapping[Key, Cell]:
        """Return what was measured, in order."""

    def against(self, other: Any, key: Key) -> tuple[Interval | None, str]:
        """Return the interval of this place minus the other by shared units, and what these are.

        None where there are no shared ones; the text then says why no difference can be taken at
        all, or is empty.
        """

    def notes(self, other: Any) -> Sequence[str]:
        """Return what differs from the other place in numbers under one name."""


def names_of(places: Sequence[Path]) -> list[str]:
    """Return short names that differ: the last part of a path, or all of it.

    Example:
        >>> names_of([Path("runs/a"), Path("runs/b/networks/s1")])
        ['a', 's1']
        >>> names_of([Path("a/x"), Path("b/x")])
        ['a/x', 'b/x']
    """
    short = [place.name for place in places]
    return [str(place) for place in places] if len(set(short)) < len(short) else short
