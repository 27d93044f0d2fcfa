"""The matrix of a run on the console, in plain characters."""

from pathlib import Path

from bitproof.report.console import ABSENT, PLAIN
from bitproof.report.matrix import Column, Matrix, is_alike, matrix_of
from bitproof.report.matrix_areas import area, has_area
from bitproof.report.matrix_choices import choice_lines, fronts_of
from bitproof.report.matrix_tables import WORST
from bitproof.report.run import CLEAN, read_run
from bitproof.report.wording import NBSP
from bitproof.stats.results import Row

UNKNOWN = " ±?"
"""In the place of half an interval of no width."""
PLAIN_TEXT = str.maketrans({"“": '"', "”": '"', NBSP: " ", "−": "-", "–": "-", **PLAIN})


def matrix_lines(run_dir: Path) -> list[list[str]]:
    """Return header and rows: a threat a row, a network a column, then worst cases and areas.

    Accuracies in per cent with half the width of their interval.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
    """
    matrix = matrix_of(read_run(run_dir))
    names = matrix.networks
    lines = [["threat", *names]]
    for column in matrix.columns:
        cells = (matrix.find(name, column.threat) for name in names)
        lines.append([_at(column), *(_accuracy(cell.row if cell else None) for cell in cells)])
    for head, families in WORST.items():
        if matrix.counted(families):
            worst = (matrix.worst(name, families) for name in names)
            lines.append([head, *(_accuracy(cell.row if cell else None) for cell in worst)])
    for column in matrix.columns:
        if has_area(matrix, column):
            areas = [_accuracy(area(matrix, name, column)) for name in names]
            lines += [[f"AUC {column.threat}", *areas]]
    return lines


def matrix_choices(run_dir: Path) -> list[str]:
    """Return what to choose when, in plain sentences; none where there is nothing to choose.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
    """
    fronts = fronts_of(matrix_of(read_run(run_dir)))
    matrix = fronts.matrix
    lines = [_plain(line) for line in choice_lines(fronts, _at)] + _left_out(matrix)
    if any(cell.alike for cell in matrix.cells.values()):
        lines.append("±?: all draws of a cell came out alike, which tells no interval.")
    return lines


def _left_out(matrix: Matrix) -> list[str]:
    """Return which threats no worst case counts, and who lacks them."""
    return [
        _plain(f"Worst cases leave out {_at(column)}: not measured on {', '.join(who)}.")
        for column in matrix.uncounted()
        if (who := matrix.unmet(column))
    ]


def _at(column: Column) -> str:
    """Return a threat and its level, if it has levels."""
    if column.threat == CLEAN or not column.level:
        return column.threat
    symbol = PLAIN.get(column.label.symbol, column.label.symbol)
    return f"{column.threat} {symbol} {column.label.level_text(column.level)}"


def _accuracy(row: Row | None) -> str:
    if row is None:
        return ABSENT
    half = f" ±{50 * (row.interval.high - row.interval.low):.1f}" if row.interval else ""
    return f"{100 * row.value:.1f}{UNKNOWN if is_alike(row) else half}"


def _plain(text: str) -> str:
    return text.translate(PLAIN_TEXT)
