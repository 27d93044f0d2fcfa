"""Tables of a page: rows of text, made by one function and shown by one macro of the templates.

The first line of a cell is its text, further lines stand below it in small letters.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bitproof.report.wording import ABSENT, flat, percent, span, value
from bitproof.stats.intervals import Interval
from bitproof.stats.results import Row

T = TypeVar("T")
DASH = "–"
MOST_NAMES = 8
"""Names in a row of text; the others are counted."""


@dataclass(frozen=True)
class PageCell:
    """A text with CSS classes; those of the first cell of a row hold for the row."""

    text: str
    look: str = ""
    heat: float = 0.0
    """Depth of its colour, from 0 to 1, where the look has one."""
    link: str = ""
    """The place on the page that its text leads to, without `#`; none: it is no link."""


@dataclass(frozen=True)
class PageTable:
    """A table; without a head it is a list of facts. A row of one cell heads those below it."""

    head: Sequence[PageCell]
    rows: Sequence[Sequence[PageCell]]
    title: str
    look: str
    """CSS classes: `wide`, `dense`, `names` (rows or columns have names that somebody typed)."""


Columns = Sequence[tuple[str, Callable[[T], PageCell | str]]]
"""The head of each column, and what to write there of one thing."""


def make_table(
    head: Iterable[PageCell | str],
    rows: Iterable[Iterable[PageCell | str]],
    *,
    title: str = "",
    look: str = "",
) -> PageTable:
    """Return a table; the first cell of a row names it."""
    return PageTable(_cells(head), [_cells(row) for row in rows], title, look)


def table_of(
    things: Iterable[T],
    columns: Columns[T],
    *,
    title: str = "",
    look: str = "",
) -> PageTable:
    """Return a table with a row for each thing, and what to write in each column."""
    rows = ([write(each) for _, write in columns] for each in things)
    return make_table((head for head, _ in columns), rows, title=title, look=look)


def facts_table(facts: Mapping[str, Any], look: str = "") -> PageTable:
    """Return facts by name; missing ones say so."""
    rows = ((k, ABSENT if v is None or v == "" else str(v)) for k, v in facts.items())
    return make_table([], rows, look=f"facts-table {look}")


def settings_table(parts: Mapping[str, Mapping[str, Any]]) -> PageTable:
    """Return the settings of several components, a row each, under the name of the component."""
    rows: list[list[PageCell | str]] = []
    for name, values in parts.items():
        kind = values.get("kind")
        rows.append([PageCell(f"{name}\n{kind if kind is not None else ''}", "group")])
        rows += [[key, one] for key, one in flat(values).items() if key != "kind"]
    return make_table([], rows, look="facts-table names")


def accuracy_text(row: Row | None) -> str:
    """Return an accuracy in per cent with its interval below, a dash where there is none."""
    if row is None:
        return DASH
    if row.unit != "fraction":
        return f"{row.value:.3g}\n{row.unit}"
    ends = f"\n{percent(row.interval.low)}–{percent(row.interval.high)}" if row.interval else ""
    return percent(row.value) + ends


def rate_text(rate: Interval | None) -> str:
    """Return a rate in per cent with its interval below, a dash where there is none."""
    return DASH if rate is None else f"{value(rate)}\n{span(rate, '–')}"


def percent_text(fraction: float | None) -> str:
    """Return a fraction in per cent with the sign, a dash where there is none."""
    return DASH if fraction is None else f"{percent(fraction)} %"


def few(names: Sequence[str]) -> str:
    """Return names as text; of many, the first.

    Example:
        >>> few(["a", "b"]), few("abcdefghij")[-10:]
        ('a, b', 'and 2 more')
    """
    left = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {left} more" if left > 0 else "")


def _cells(contents: Iterable[PageCell | str]) -> list[PageCell]:
    return [each if isinstance(each, PageCell) else PageCell(each) for each in contents]
