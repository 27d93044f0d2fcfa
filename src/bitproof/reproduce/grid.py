"""The cells of a job as a table: a line for each variant, a column for each threat and level."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bitproof.report.wording import percent, points
from bitproof.reproduce.cells import Cell
from bitproof.reproduce.result import CellResult
from bitproof.stats.threats import ThreatLabel

Column = tuple[str, float | None, str]
"""Threat, level and metric."""
EMPTY = "–"
WORDS = {"linf": "L∞", "l2": "L2", "pgd": "PGD", "apgd": "APGD", "autoattack": "AutoAttack"}


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
    label = label_of(threat)
    name = "BER" if threat == "random_flips" else label.title
    text = "clean" if threat == "none" else f"{name} {label.level_text(level)}"
    return f"gain: {text}" if metric == "gain" else text


def label_of(threat: str) -> ThreatLabel:
    """Return how the threats of the published tables are written."""
    if threat == "random_flips":
        return ThreatLabel("memory_fault", "Random bit flips", "BER", "scientific")
    title = " ".join(WORDS.get(word, word) for word in threat.split("_"))
    return ThreatLabel("input_attack", title, "ε", "pixels")


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
