"""Counts of choices on disk; several processes have a file each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitproof.core.json_lines import JsonLines
from bitproof.metrics import Tally


@dataclass(frozen=True)
class Counted:
    """What was measured of one choice."""

    tallies: tuple[Tally, ...]
    """Of all tasks of the evaluation, in their order."""
    seconds: float
    """What it took, preparation included."""


class CountStore:
    """Counts of choices by key; with a path, they outlive the process.

    `others` are files of other processes, which are only read.
    """

    def __init__(self, path: Path | None = None, others: Sequence[Path] = ()) -> None:
        self._log = JsonLines(path) if path else None
        self._counts: dict[str, Counted] = {}
        for each in others:
            self._counts |= JsonLines(each).read(_parsed)
        if self._log:
            self._counts |= self._log.read(_parsed)

    def get(self, key: str) -> Counted | None:
        """Return what is known of a choice."""
        return self._counts.get(key)

    def add(self, key: str, counted: Counted) -> None:
        """Keep the counts of a choice."""
        if self._log:
            counts = [
                [one.correct, one.total, *([dict(one.others)] if one.others else [])]
                for one in counted.tallies
            ]
            seconds = round(counted.seconds, 6)
            self._log.append({"key": key, "counts": counts, "seconds": seconds})
        self._counts[key] = counted


def _parsed(entry: dict[str, Any]) -> tuple[str, Counted]:
    tallies = tuple(
        Tally(int(one[0]), int(one[1]), tuple((*one[2:], {})[0].items())) for one in entry["counts"]
    )
    return str(entry["key"]), Counted(tallies, float(entry["seconds"]))
