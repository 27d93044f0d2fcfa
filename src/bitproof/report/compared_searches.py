"""Searches over multipliers as places of a comparison: what each chose, and what that costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bitproof.report.compared import Cell, Key, names_of
from bitproof.report.exploration_page import read_exploration
from bitproof.stats.intervals import Interval

FIGURES = ("cost", "power", "area", "latency")
"""Of the choice, relative to exact products."""


@dataclass(frozen=True)
class ComparedSearch:
    """One finished search."""

    kind: ClassVar[str] = "a search"
    confidence: ClassVar[float] = 0.95

    name: str
    summary: Mapping[str, Any]

    def cells(self) -> Mapping[Key, Cell]:
        """Return accuracies of exact products and of the choice, and the choice's figures."""
        found: dict[Key, Cell] = {}
        chosen = self.summary["chosen"]
        for number, one in enumerate(self.summary["objectives"]):
            at = f"{one['level']:g}" if one["level"] else ""
            accs = {"exact": self.summary["exact"]["accs"]}
            if chosen is not None:
                accs |= {"chosen": chosen["intervals"]}
                if chosen["held_out"]:
                    accs |= {"chosen, images no search saw": chosen["held_out"]}
            for variant, ends in accs.items():
                acc = Interval(*ends[number])
                found[Key(variant, str(one["title"]), at, "acc")] = Cell(acc.value, acc)
        if chosen is not None:
            for name in FIGURES:
                found[Key("chosen", "", "", name)] = Cell(float(chosen[name]), unit="of exact")
        return found

    def against(self, other: "ComparedSearch", key: Key) -> tuple[Interval | None, str]:
        """Return that there are no shared units: searches keep no single images."""
        del key
        if self.summary["data"] != other.summary["data"]:
            return None, "other data, so no differences"
        return None, ""

    def notes(self, other: "ComparedSearch") -> Sequence[str]:
        """Return nothing: choices are what is compared."""
        del other
        return ()


def open_searches(places: Sequence[Path]) -> list[ComparedSearch]:
    """Return searches that are finished.

    Raises:
        DataError: a summary is missing or damaged.
    """
    names = names_of(places)
    return [
        ComparedSearch(n, read_exploration(path)) for n, path in zip(names, places, strict=True)
    ]
