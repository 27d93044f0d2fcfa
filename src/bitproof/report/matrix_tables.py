"""The tables of the matrix: networks are rows, threats are columns."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bitproof.report.findings import interval_text
from bitproof.report.matrix import (
    ATTACKS,
    FAULTS,
    THREATENING,
    Column,
    Matrix,
    MatrixCell,
    is_alike,
)
from bitproof.report.matrix_choices import Fronts, Standing
from bitproof.report.page_table import (
    DASH,
    PageCell,
    PageTable,
    accuracy_text,
    make_table,
    percent_text,
)
from bitproof.report.run_tables import best_of
from bitproof.report.wording import count, percent, points
from bitproof.stats.results import Row
from bitproof.stats.threats import Family

FAMILY_WORDS: dict[Family, str] = {
    "memory_fault": "memory",
    "compute_fault": "compute",
    "bit_flip_attack": "attack on bits",
    "input_attack": "attack on inputs",
    "hardware": "hardware",
    "crossing": "crossing",
    "none": "",
}
WORST: dict[str, Sequence[Family]] = {
    "worst fault": FAULTS,
    "worst attack": ATTACKS,
    "worst of all": THREATENING,
}
ALIKE = "all alike"
"""In the place of an interval of no width."""
STARTS = "starts"
"""The CSS class of the first column of a family."""
DEEPEST = 0.1
"""Changes are as deep in colour as their size, against the largest one, and this at least."""
Line = list[PageCell | str]


def heat_table(matrix: Matrix) -> PageTable:
    """Return accuracies in per cent, with their interval below, and the worst cases."""
    run, names = matrix.run, matrix.networks
    best = {c: best_of(run, names, c.threat, c.level) for c in matrix.columns}
    worst = {head: _worst(matrix, families) for head, families in WORST.items()}
    worst = {head: cells for head, cells in worst.items() if cells}
    leading = {head: _leading(matrix, list(cells.values())) for head, cells in worst.items()}
    starts = _starts(matrix.columns)
    rows: list[Line] = []
    for name in names:
        line: Line = [name]
        for column in matrix.columns:
            cell = _heat(matrix.find(name, column.threat), bold=name in best[column])
            line.append(_started(cell, column in starts))
        for head, cells in worst.items():
            shown = _heat(cells.get(name), bold=name in leading[head])
            if name in cells:
                text = f"{shown.text}\n{cells[name].column.label.title}"
                shown = replace(shown, text=text, look=f"{shown.look} worst")
            line.append(_started(shown, head == next(iter(worst))))
        rows.append(line)
    heads = [*(_head(matrix, column) for column in matrix.columns), *worst]
    return make_table(["network", *heads], rows, look="matrix dense names")


def difference_table(matrix: Matrix) -> PageTable:
    """Return changes in points against the first network, with their intervals."""
    others = [name for name in matrix.networks if name != matrix.first]
    cells = {
        (name, column): cell.change
        for name in others
        for column in matrix.columns
        if (cell := matrix.find(name, column.threat)) is not None and cell.change is not None
    }
    deepest = max([DEEPEST, *(abs(each.value) for each in cells.values())])
    starts = _starts(matrix.columns)
    rows: list[Line] = []
    for name in others:
        line: Line = [name]
        for column in matrix.columns:
            moved = cells.get((name, column))
            shown = PageCell(DASH)
            if moved is not None:
                look = ("gain" if moved.value > 0 else "loss") + (" clear" if moved.sign else "")
                alike = moved.low is not None and moved.low == moved.high
                text = f"{points(moved.value)}\n{ALIKE if alike else interval_text(moved)}"
                shown = PageCell(text, look, abs(moved.value) / deepest, column.place)
            line.append(_started(shown, column in starts))
        rows.append(line)
    heads = [_head(matrix, column) for column in matrix.columns]
    return make_table(["network", *heads], rows, look="matrix dense names")


def standing_table(fronts: Fronts) -> PageTable:
    """Return the figures of the front, a network a row; those on it first in their order."""
    columns: dict[str, Callable[[Standing], PageCell | str]] = {}
    titles = {"clean": "clean", "fault": "worst fault", "attack": "worst attack"}
    for figure, title in titles.items():
        if figure in fronts.figures:
            leading = _leading(fronts.matrix, [getattr(s, figure) for s in fronts.standings])
            columns[title] = _figure_cell(figure, leading)
    if fronts.some_power:
        columns["Power share"] = lambda one: percent_text(one.power)
    columns["front"] = lambda one: _front_text(fronts, one.network)
    rows = [[one.network, *(write(one) for write in columns.values())] for one in fronts.standings]
    return make_table(["network", *columns], rows, look="names")


def missing_line(matrix: Matrix) -> str:
    """Return which threats some network did not meet, and which networks; empty: none."""
    parts = [
        f"{column.words}: {', '.join(f'“{name}”' for name in matrix.unmet(column))}"
        for column in matrix.columns
        if matrix.unmet(column)
    ]
    return "; ".join(parts)


def unpaired(matrix: Matrix) -> tuple[Column, ...]:
    """Return the columns of which some difference has an interval that is not of pairs."""
    return tuple(
        column
        for column in matrix.columns
        if any(
            cell.change is not None and cell.change.low is not None and not cell.change.paired
            for cell in matrix.column_cells(column)
        )
    )


def row_text(row: Row | None) -> str:
    """Return an accuracy in per cent, with its interval below where that tells something."""
    if row is None or not is_alike(row):
        return accuracy_text(row)
    return f"{percent(row.value)}\n{ALIKE}"


def title_of(matrix: Matrix, column: Column) -> str:
    """Return what a threat is called; where two are called alike, with its name in the results."""
    title = column.label.title
    alike = sum(one.label.title == title for one in matrix.columns) > 1
    return f"{title} ({column.threat})" if alike and column.threat != title else title


def _heat(cell: MatrixCell | None, *, bold: bool) -> PageCell:
    """Return an accuracy, coloured by how far it lies above or below one half."""
    if cell is None:
        return PageCell(DASH)
    height = 2 * cell.row.value - 1
    look = ("high" if height >= 0 else "low") + (" best" if bold else "")
    return PageCell(row_text(cell.row), look, abs(height), cell.column.place)


def _started(cell: PageCell, first: bool) -> PageCell:
    return replace(cell, look=f"{cell.look} {STARTS}".strip()) if first else cell


def _starts(columns: Sequence[Column]) -> set[Column]:
    """Return the first column of each family but the first."""
    families = [column.family for column in columns]
    return {c for i, c in enumerate(columns) if i and families[i] != families[i - 1]}


def _worst(matrix: Matrix, families: Sequence[Family]) -> dict[str, MatrixCell]:
    found = {name: matrix.worst(name, families) for name in matrix.networks}
    return {name: cell for name, cell in found.items() if cell is not None}


def _leading(matrix: Matrix, cells: Sequence[MatrixCell | None]) -> set[str]:
    """Return the networks of the best cell and of those that cannot be told from it.

    None where all tie, or intervals are not known.
    """
    known = [cell for cell in cells if cell is not None]
    if len(known) < 2 or any(cell.row.interval is None for cell in known):
        return set()
    best = {cell.network for cell in matrix.best_of(known)}
    return set() if len(best) == len(known) else best


def _figure_cell(figure: str, leading: set[str]) -> Callable[[Standing], PageCell | str]:
    def write(one: Standing) -> PageCell | str:
        cell: Any = getattr(one, figure)
        if cell is None:
            return DASH
        text = row_text(cell.row)
        if figure != "clean":
            text += f"\n{cell.column.words}"
        return PageCell(text, "best" if one.network in leading else "", link=cell.column.place)

    return write


def _front_text(fronts: Fronts, network: str) -> str:
    if network in fronts.front:
        return "◆"
    return "◇" if network in fronts.near else ""


def _head(matrix: Matrix, column: Column) -> str:
    level = f"{column.label.symbol} = {column.label.pretty_level(column.level)}"
    lines = [FAMILY_WORDS[column.family], level if column.level else "", _sizes(matrix, column)]
    return "\n".join([title_of(matrix, column), *filter(None, lines)])


def _sizes(matrix: Matrix, column: Column) -> str:
    """Return the number of independent units, as a range where networks differ."""
    sizes = sorted({c.row.n for c in matrix.column_cells(column) if c.row.n is not None})
    if not sizes:
        return ""
    noun = {"batch": "batche"}.get(column.unit, column.unit) if sizes[-1] != 1 else column.unit
    many = count(sizes[-1], noun)
    return many if len(sizes) == 1 else f"{sizes[0]} to {many}"
