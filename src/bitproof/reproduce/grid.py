"""The cells of a job as a table: a line for each variant, a column for each threat and level."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bitproof.report.threats import level_text, title
from bitproof.report.wording import percent, points
from bitproof.reproduce.cells import Cell
from bitproof.reproduce.result import CellResult

Column = tuple[str, float | None, str]
"""Threat, level and metric."""
EMPTY = "–"


@dataclass(frozen=True)
class Grid:
    """Text in lines and columns."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def make_grid(cells: Iterable[Cell], look: Callable[[Cell], str]) -> Grid:
    """Return the cells of one job as a table.

    Args:
        cells: the cells.
        look: what to write for a cell.
    """
    table = {(cell.variant, cell.threat, cell.level, cell.metric): cell for cell in cells}
    variants = sorted({key[0] for key in table}, key=_place_of_variant)
    columns = sorted({key[1:] for key in table}, key=_place_of_column)
    rows = [
        (
            variant,
            *(
                look(table[variant, *column]) if (variant, *column) in table else ""
                for column in columns
            ),
        )
        for variant in variants
    ]
    return Grid(("variant", *map(column_title, columns)), tuple(rows))


def column_title(column: Column) -> str:
    """Return the head of a column.

    Example:
        >>> column_title(("linf_pgd", 8 / 255, "acc")), column_title(("random_flips", 1e-3, "gain"))
        ('L∞ PGD 8/255', 'gain: BER 1e-3')
    """
    threat, level, metric = column
    if level is None:
        return "AUC-FR"
    name = "BER" if threat == "random_flips" else title(threat)
    text = "clean" if threat == "none" else f"{name} {level_text(threat, level)}"
    return f"gain: {text}" if metric == "gain" else text


def value_text(result: CellResult) -> str:
    """Return value and half interval: per cent, or percentage points for a gain."""
    half = percent((result.ci_high - result.ci_low) / 2)
    show = points if result.metric == "gain" else percent
    return f"{show(result.value)} ± {half}"


def _place_of_variant(variant: str) -> tuple[int, int, str]:
    first = {"float": 0, "none": 1}
    return first.get(variant, 2), variant.count("+"), variant


def _place_of_column(column: Column) -> tuple[bool, int, str, bool, float]:
    threat, level, metric = column
    place = {"none": 0, "random_flips": 1}.get(threat, 2)
    return metric == "gain", place, threat, level is None, level or 0.0
