"""Changes that are laid over the table of a recipe before it is read: `evaluation.chips=5`."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bitproof.core.errors import RecipeError, one_line, shorten
from bitproof.core.spec import NONE
from bitproof.recipe.lines import Location

LIST_POSITION = re.compile(r"[0-9]{1,9}")
DEEPEST = 100
"""Parts of a key; no recipe has tables in tables so deep."""


@dataclass(frozen=True)
class Change:
    """A value for one place of a recipe."""

    place: Location
    """Keys, and positions in lists from 0."""
    value: Any
    """A TOML value."""
    said: str
    """How the user said it, for messages."""

    def touches(self, location: Location) -> bool:
        """Return whether one of the two places lies in the other."""
        shorter = min(len(self.place), len(location))
        return shorter > 0 and self.place[:shorter] == location[:shorter]


def parse_change(text: str) -> Change:
    """Return the change that `KEY=VALUE` asks for; a bare word is a string.

    Raises:
        RecipeError: it has another form.

    Example:
        >>> parse_change("injection.faults.0.channels=[1, 2]").place
        ('injection', 'faults', 0, 'channels')
        >>> parse_change("injection.per=cell").value
        'cell'
    """
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    said = f"--set {one_line(text)}"
    if not equals or not all(parts) or len(parts) > DEEPEST:
        raise RecipeError(f"{said}: wanted KEY=VALUE, such as evaluation.seed=1")
    place = tuple(int(part) if LIST_POSITION.fullmatch(part) else part for part in parts)
    return Change(place, _parse_value(value.strip()), said)


def override(table: dict[str, Any], changes: Iterable[Change]) -> dict[str, Any]:
    """Return `table` with the changes, one after the other; tables that lack are made.

    Where a name stands for a component (`data = "digits"`), its fields can be set as well; the
    position after the last of a list adds to it.

    Raises:
        RecipeError: a list has no such position, or what should hold the field is no table.

    Example:
        >>> override({"data": "digits"}, [parse_change("data.test_size=40")])
        {'data': {'kind': 'digits', 'test_size': 40}}
    """
    for change in changes:
        table = _changed(table, change, depth=0)
    return table


def look_up(table: Any, place: Location) -> Any:
    """Return what stands at a place of a table, None if nothing does."""
    for key in place:
        table = table.get(key) if isinstance(table, dict) else None
    return table


def _parse_value(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, a number of thousands of digits, lists in lists
        return text
    return table["value"] if len(table) == 1 else text


def _changed(old: Any, change: Change, *, depth: int) -> Any:
    """Return what stands at the first `depth` keys of the place, with the change in it."""
    if depth == len(change.place):
        return change.value
    key = change.place[depth]
    if old in (None, NONE):
        old = [] if isinstance(key, int) else {}
    elif isinstance(old, str):
        old = {"kind": old}
    where = ".".join(map(str, change.place[:depth]))
    if isinstance(old, list):
        if not isinstance(key, int) or key > len(old):
            raise RecipeError(
                f"{change.said}: {where} is a list: wanted a position from 0 to {len(old)} "
                f"(such as {where}.0), got {shorten(str(key))}"
            )
        known = old[key] if key < len(old) else None
        return [*old[:key], _changed(known, change, depth=depth + 1), *old[key + 1 :]]
    if not isinstance(old, dict):
        raise RecipeError(f"{change.said}: {where} is {shorten(old)}, which has no fields")
    return {**old, str(key): _changed(old.get(str(key)), change, depth=depth + 1)}
