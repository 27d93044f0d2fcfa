"""Several runs, networks, campaigns or searches side by side: one table of values and differences.

Model:  the first place is what others are compared with. Where both met the same chips, images or
        faults, the unit is the chip, the image (the block of them, where only counts are kept) or
        the fault, and the interval is that of its differences; elsewhere the two intervals are
        combined as if they were measured independently, and the table says so. Each interval holds
        by itself, not all of them together. What was measured on other images, under other settings
        or as another task stands beside without a difference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitproof.core.errors import DataError, shorten
from bitproof.report.campaign_summary import SUMMARY
from bitproof.report.compared import Cell, Key, Measured
from bitproof.report.compared_campaigns import open_campaigns
from bitproof.report.compared_runs import networks_of, open_runs
from bitproof.report.compared_searches import open_searches
from bitproof.report.exploration_page import is_exploration
from bitproof.report.wording import count
from bitproof.stats.intervals import Interval, difference

SIDE = "unpaired"
"""How a difference is told whose two sides are taken as independent."""


@dataclass(frozen=True)
class Difference:
    """How much a place lies above the first one."""

    value: float
    interval: Interval | None
    how: str
    """`paired by 50 chips`, `unpaired`, or why there is none."""

    @property
    def paired(self) -> bool:
        """Whether the interval is that of differences of shared units."""
        return self.how.startswith("paired")


@dataclass(frozen=True)
class ComparedRow:
    """One key with the numbers of all places."""

    key: Key
    cells: tuple[Cell | None, ...]
    differences: tuple[Difference | None, ...]
    """Of all places but the first."""


@dataclass(frozen=True)
class Comparison:
    """Everything that is shown."""

    kind: str
    places: tuple[str, ...]
    rows: tuple[ComparedRow, ...]
    confidence: float | None = 0.95
    """How often an interval holds the truth, as a fraction; None: places differ in it."""
    notes: tuple[str, ...] = field(default=())
    """What differs under one name, and why numbers have no difference, once each."""


def compare(places: Sequence[Path | str]) -> Comparison:
    """Return several places side by side; of one run alone, its networks.

    Args:
        places: directories of runs, of campaigns or of searches, or networks of runs, such as
            `runs/NAME/networks/VARIANT`; all of one kind.

    Raises:
        DataError: a place is none of these, they are of several kinds, or share no number.
    """
    measured = _open([Path(place) for place in places])
    if len(measured) < 2:
        raise DataError(
            "compare: wanted two places or more, or a run with several networks, got "
            + (measured[0].name if measured else "none")
        )
    kinds = [type(one) for one in measured]
    for one, kind in zip(measured, kinds, strict=True):
        if kind is not kinds[0]:
            raise DataError(
                f"compare: wanted places of one kind, got {_kind(kinds[0])} ({measured[0].name}) "
                f"and {_kind(kind)} ({one.name})"
            )
    tables = [one.cells() for one in measured]
    shared = list(dict.fromkeys(key for table in tables for key in table))
    rows: list[ComparedRow] = []
    notes = {note: None for one in measured[1:] for note in one.notes(measured[0])}
    for key in shared:
        found = [table.get(key) for table in tables]
        if sum(cell is not None for cell in found) < 2:
            continue
        changes = [
            _difference(key, (measured[0], found[0]), (one, cell))
            for one, cell in zip(measured[1:], found[1:], strict=True)
        ]
        for one, change in zip(measured[1:], changes, strict=True):
            if change is not None and change.interval is None and change.how:
                notes.setdefault(f"{one.name} against {measured[0].name}: {change.how}", None)
        rows.append(ComparedRow(key, tuple(found), tuple(changes)))
    if not rows:
        names = " and ".join(one.name for one in measured[:2])
        raise DataError(f"compare: {names} share no number")
    left = len(shared) - len(rows)
    if left:
        verbs = ("stands", "is") if left == 1 else ("stand", "are")
        told = "{} {} in one place alone and {} left out".format(count(left, "number"), *verbs)
        notes.setdefault(told, None)
    called = tuple(one.name for one in measured)
    sure = {one.confidence for one in measured}
    confidence = sure.pop() if len(sure) == 1 else None
    return Comparison(_kind(kinds[0]), called, tuple(rows), confidence, tuple(notes))


def _difference(
    key: Key, first: tuple[Measured, Cell | None], other: tuple[Measured, Cell | None]
) -> Difference | None:
    (one, before), (two, after) = first, other
    if before is None or after is None:
        return None
    value = after.value - before.value
    paired, words = two.against(one, key)
    if paired is not None:
        return Difference(value, paired, f"paired by {words}")
    if words:
        return Difference(value, None, words)
    if before.interval is None or after.interval is None:
        return Difference(value, None, "")
    return Difference(value, difference(after.interval, before.interval), SIDE)


def _kind(kind: type) -> str:
    return str(getattr(kind, "kind", kind.__name__))


def _open(places: Sequence[Path]) -> list[Measured]:
    for path in places:
        if places.count(path) > 1:
            raise DataError(f"compare: wanted each place once, got {shorten(str(path))} again")
    searches = [path for path in places if is_exploration(path)]
    campaigns = [path for path in places if (path / SUMMARY).is_file()]
    runs = [path for path in places if path not in {*searches, *campaigns}]
    if len(runs) == len(places) == 1:
        return list(networks_of(runs[0]))
    found: dict[Path, Measured] = {}
    found |= zip(searches, open_searches(searches), strict=True)
    found |= zip(campaigns, open_campaigns(campaigns), strict=True)
    found |= zip(runs, open_runs(runs), strict=True)
    return [found[path] for path in places]


def flat_comparison(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield one row for each number: what and where, its interval, and the difference."""
    for row in comparison.rows:
        changes = (None, *row.differences)
        for place, cell, change in zip(comparison.places, row.cells, changes, strict=True):
            if cell is None:
                continue
            ends, gap = cell.interval, change.interval if change else None
            yield {
                "variant": row.key.variant,
                "threat": row.key.threat,
                "at": row.key.place,
                "metric": row.key.metric,
                "place": place,
                "value": cell.value,
                "ci_low": ends.low if ends else None,
                "ci_high": ends.high if ends else None,
                "n": cell.n,
                "unit": cell.unit,
                "difference": change.value if change else None,
                "difference_low": gap.low if gap else None,
                "difference_high": gap.high if gap else None,
                "how": change.how if change else None,
            }
