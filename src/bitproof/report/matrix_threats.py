"""The tables of single threats: all levels, their areas, and what measuring them took."""

from collections.abc import Callable
from typing import Any

from bitproof.report.matrix import Column, Matrix
from bitproof.report.matrix_areas import area, has_area
from bitproof.report.matrix_tables import row_text, title_of
from bitproof.report.page_table import DASH, PageCell, PageTable, make_table
from bitproof.report.paired import change
from bitproof.report.run_tables import best_of, clean_on
from bitproof.report.wording import METRIC_NAMES, count, outcome_name, percent, seconds
from bitproof.stats.intervals import wilson
from bitproof.stats.results import Row

Line = list[PageCell | str]
METRIC_WORDS = {"acc_min": "worst {unit}", "acc_std": "σ"}
"""How metrics of a threat are written, beside those of tasks and outcomes."""


def area_table(matrix: Matrix) -> PageTable:
    """Return the mean accuracy over the levels of each threat that has several."""
    columns = [column for column in matrix.columns if has_area(matrix, column)]
    found = {(n, c): area(matrix, n, c) for n in matrix.networks for c in columns}
    columns = [c for c in columns if any(found[n, c] for n in matrix.networks)]
    best = {c: _best_rows({n: found[n, c] for n in matrix.networks}) for c in columns}
    rows: list[Line] = [
        [
            name,
            *(
                PageCell(row_text(found[name, c]), "best" if name in best[c] else "")
                for c in columns
            ),
        ]
        for name in matrix.networks
    ]
    heads = [f"{title_of(matrix, c)}\n{_range(matrix, c)}" for c in columns]
    return make_table(["network", *heads], rows if columns else [], look="dense names")


def threat_table(matrix: Matrix, column: Column) -> PageTable:
    """Return all that was measured of one threat: every level, or every metric of a single one."""
    run, label = matrix.run, column.label
    levels = run.levels(column.threat)
    columns: list[tuple[str, Callable[[str], PageCell | str]]] = []
    same = {name: clean_on(run, name, column.threat) for name in matrix.networks}
    if any(same.values()):
        size = next(one.total for one in same.values() if one)
        columns.append((f"clean\nthe same {count(size, 'image')}", lambda n: _counted(same[n])))
    for level in levels:
        best = best_of(run, matrix.networks, column.threat, level)
        leveled = len(levels) > 1 or level
        head = f"{label.pretty_level(level)}\n{label.symbol}" if leveled else "accuracy"
        columns.append((head, _level_cell(matrix, column, level, best)))
    for metric in _metrics(matrix, column):
        head = METRIC_WORDS.get(metric) or METRIC_NAMES.get(metric) or outcome_name(metric)
        head = head.replace("_", " ").format(unit=column.unit)
        note = f"\n{label.symbol} = {label.pretty_level(column.level)}" if len(levels) > 1 else ""
        columns.append((head + note, _metric_cell(matrix, column, metric)))
    rows = [[name, *(write(name) for _, write in columns)] for name in matrix.networks]
    return make_table(["network", *(head for head, _ in columns)], rows, look="dense names")


def effort_table(matrix: Matrix) -> PageTable:
    """Return what each cell took over all its levels; equal networks are measured once."""
    rows: list[Line] = []
    first: dict[str, str] = {}
    for name in matrix.networks:
        same = first.setdefault(matrix.run.network_of(name), name)
        if same != name:
            rows.append([name, *(PageCell(f"{DASH}\nas {same}") for _ in matrix.columns), DASH])
            continue
        efforts = [matrix.effort(name, column.threat) for column in matrix.columns]
        spent = sum(each.seconds or 0.0 for each in efforts)
        trials = sum(each.trials for each in efforts)
        rows.append([name, *(_effort_text(e.seconds, e.trials) for e in efforts)])
        rows[-1].append(_effort_text(spent or None, trials))
    heads = [title_of(matrix, column) for column in matrix.columns]
    return make_table(["network", *heads, "all"], rows, look="dense names")


def _best_rows(rows: dict[str, Row | None]) -> set[str]:
    """Return the same for figures that were never paired."""
    known = {name: row for name, row in rows.items() if row is not None}
    if len(known) < 2 or any(row.interval is None for row in known.values()):
        return set()
    first = max(known.values(), key=lambda row: row.value)
    tied = {
        name for name, row in known.items() if (moved := change(row, first)) and moved.sign <= 0
    }
    return set() if len(tied) == len(known) else tied


def _level_cell(
    matrix: Matrix, column: Column, level: float, best: set[str]
) -> Callable[[str], PageCell | str]:
    def write(name: str) -> PageCell | str:
        row = matrix.run.find(name, column.threat, level)
        return PageCell(row_text(row), "best" if name in best else "")

    return write


def _metric_cell(matrix: Matrix, column: Column, metric: str) -> Callable[[str], PageCell | str]:
    return lambda name: row_text(matrix.run.find(name, column.threat, column.level, metric=metric))


def _metrics(matrix: Matrix, column: Column) -> list[str]:
    """Return what else was measured at the level of the matrix, in the order of the results."""
    found = (
        row.metric
        for row in matrix.run.rows
        if (row.threat, row.level) == (column.threat, column.level) and row.metric != "acc"
    )
    return list(dict.fromkeys(found))


def _counted(one: Any) -> str:
    if one is None:
        return DASH
    low, value, high = wilson(one.correct, one.total)
    return f"{percent(value)}\n{percent(low)}–{percent(high)}"


def _effort_text(spent: float | None, trials: int) -> str:
    if not trials:
        return DASH
    return f"{DASH if spent is None else seconds(spent)}\n{count(trials, 'trial')}"


def _range(matrix: Matrix, column: Column) -> str:
    levels = matrix.run.levels(column.threat)
    if column.label.logarithmic:
        levels = [level for level in levels if level > 0]
    low, high = (column.label.pretty_level(level) for level in (levels[0], levels[-1]))
    return f"{column.label.symbol} from {low} to {high}"
