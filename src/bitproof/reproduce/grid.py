"""The cells of a job as a table: a line for each variant, a column for each threat and level."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bitproof.recipe.recipe import BASELINE, FLOAT
from bitproof.report.wording import percent, points
from bitproof.reproduce.cells import Cell
from bitproof.reproduce.result import CellResult
from bitproof.stats.threats import FAMILIES, ThreatLabel

Column = tuple[str, float | None, str]
"""Threat, level and metric."""
Labels = Mapping[str, ThreatLabel]
"""How threats are written, by name."""
EMPTY = "–"


@dataclass(frozen=True)
class TextTable:
    """Text in lines and columns."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def cell_table(cells: Iterable[Cell], look: Callable[[Cell], str], labels: Labels) -> TextTable:
    """Return the cells of one job as a table.

    Args:
        cells: the cells.
        look: what to write for a cell.
        labels: how threats are written.
    """
    table = {(cell.variant, cell.threat, cell.level, cell.metric): cell for cell in cells}
    variants = sorted({key[0] for key in table}, key=_place_of_variant)
    columns = sorted({key[1:] for key in table}, key=lambda column: _place(column, labels))
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
    titles = (column_title(column, labels) for column in columns)
    return TextTable(("variant", *titles), tuple(rows))


def column_title(column: Column, labels: Labels) -> str:
    """Return the head of a column.

    Example:
        >>> labels = {"linf_pgd": ThreatLabel("input_attack", "L∞ PGD", "ε", "pixels")}
        >>> column_title(("linf_pgd", 8 / 255, "acc"), labels)
        'L∞ PGD 8/255'
        >>> labels = {"random_flips": ThreatLabel("memory_fault", "Flips", "BER", "scientific")}
        >>> column_title(("random_flips", 1e-3, "gain"), labels)
        'gain: BER 1e-3'
    """
    threat, level, metric = column
    label = labels.get(threat, ThreatLabel(title=threat))
    if level is None:
        return metric.upper().replace("_", "-")
    name = label.symbol if label.family == "memory_fault" else label.title
    text = "clean" if threat == "clean" else f"{name} {label.level_text(level)}"
    return f"gain: {text}" if metric == "gain" else text


def value_text(result: CellResult) -> str:
    """Return value and half interval: per cent, or percentage points for a gain."""
    half = percent((result.ci_high - result.ci_low) / 2)
    show = points if result.metric == "gain" else percent
    return f"{show(result.value)} ± {half}"


def _place_of_variant(variant: str) -> tuple[int, int, str]:
    first = {FLOAT: 0, BASELINE: 1}
    return first.get(variant, 2), variant.count("+"), variant


def _place(column: Column, labels: Labels) -> tuple[bool, int, str, bool, float]:
    threat, level, metric = column
    place = FAMILIES.index(labels.get(threat, ThreatLabel()).family)
    return metric == "gain", place, threat, level is None, level or 0.0
