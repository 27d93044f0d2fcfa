"""The matrix of a run as one page, `matrix.html`, and as a table for programs, `matrix.csv`."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitproof.core.files import write_text
from bitproof.report import html, matrix_tables, matrix_threats
from bitproof.report.checks import checks_line
from bitproof.report.findings import TRADE
from bitproof.report.glossary import terms
from bitproof.report.html import Tile
from bitproof.report.matrix import Column, Matrix, MatrixCell, matrix_of
from bitproof.report.matrix_choices import Fronts, choice_lines, fronts_of, headline
from bitproof.report.page_table import few
from bitproof.report.run import CLEAN, Run, read_run
from bitproof.report.run_facts import alerts_of_matrix, environment
from bitproof.report.run_tables import network_table, stage_table
from bitproof.report.wording import ABSENT, count, percent, seconds

if TYPE_CHECKING:
    from bitproof.report.figures import Figure

PAGE = "matrix.html"
TABLE = "matrix.csv"
FIELDS = (
    *("network", "threat", "family", "level", "value", "ci_low", "ci_high", "n", "unit"),
    *("trials", "seconds", "difference", "difference_low", "difference_high", "paired", "worst"),
)
"""The columns of the table for programs."""
AREA = (
    "AUC",
    "Mean accuracy over the measured range of levels: over their logarithm where they are spread "
    "over decades, else over the levels themselves.",
)
"""What the term means where threats of all kinds have an area."""
CHANCE = 0.05
"""Share of differences whose interval excludes zero although there is none."""


def write_matrix(run_dir: Path, *, interactive: bool = False) -> Path:
    """Write `matrix.html` into a run directory, `matrix.csv` beside it; return the page.

    Args:
        run_dir: the directory.
        interactive: draw figures in the browser, by a program inside the page.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
        StorageError: the disk is full, or the place cannot be written.
    """
    return _write(read_run(run_dir), run_dir, interactive=interactive)


def rewrite_matrix(run: Run, run_dir: Path, *, interactive: bool = False) -> None:
    """Write the page of a run anew where its directory has one; elsewhere do nothing.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    if (run_dir / PAGE).exists():
        _write(run, run_dir, interactive=interactive)


def matrix_rows(run_dir: Path) -> list[dict[str, Any]]:
    """Return the cells of the matrix as plain values, by column and network.

    `value` and its interval are fractions; `difference` is that to the first network; `trials` and
    `seconds` are those of all levels of the threat together; `worst` tells whether a cell is the
    worst fault, the worst attack or the worst of all of its network. What is not known is None.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
    """
    return _rows(matrix_of(read_run(run_dir)))


def render(run: Run, *, interactive: bool = False) -> str:
    """Return the page; equal runs give equal pages."""
    matrix = matrix_of(run)
    found = [one for column in matrix.threats for one in _figures(matrix, column)]
    return html.render("matrix.html.j2", _context(matrix), found, interactive=interactive)


def _write(run: Run, run_dir: Path, *, interactive: bool) -> Path:
    path = run_dir / PAGE
    write_text(path, render(run, interactive=interactive))
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(matrix_of(run)))
    write_text(run_dir / TABLE, text.getvalue())
    return path


def _rows(matrix: Matrix) -> list[dict[str, Any]]:
    return [_row(matrix, cell) for column in matrix.columns for cell in matrix.column_cells(column)]


def _row(matrix: Matrix, cell: MatrixCell) -> dict[str, Any]:
    column, row, moved = cell.column, cell.row, cell.change
    effort = matrix.effort(cell.network, column.threat)
    values = (
        *(cell.network, column.threat, column.family, column.level),
        *(row.value, row.ci_low, row.ci_high, row.n, column.unit),
        *(effort.trials, effort.seconds),
        *((moved.value, moved.low, moved.high, moved.paired) if moved else (None,) * 4),
        matrix.is_worst(cell),
    )
    return dict(zip(FIELDS, values, strict=True))


def _figures(matrix: Matrix, column: Column) -> "list[Figure]":
    """Return the accuracies of all networks against the levels of a threat, if it has several."""
    from bitproof.report.run_charts import accuracy_figure  # noqa: PLC0415 - slow to import

    if len([level for level in matrix.run.levels(column.threat) if level > 0]) < 2:
        return []
    found = accuracy_figure(matrix.run, column.threat, matrix.networks)
    title = f"Accuracy by {column.label.symbol}"
    return [replace(one, section=column.place, name=column.place, title=title) for one in found]


def _context(matrix: Matrix) -> dict[str, Any]:
    run, facts, fronts = matrix.run, matrix.run.facts, fronts_of(matrix)
    spent = math.fsum(one.seconds for one in run.measurements)
    size = facts.model.get("parameters")
    model = str(facts.model.get("kind") or f"model {ABSENT}")
    differences = [c.change for c in matrix.cells.values() if c.change and c.change.low is not None]
    return {
        "brand": "robustness matrix",
        "heading": facts.title or facts.recipe_name or "Robustness matrix",
        "subtitle": [
            f"{count(len(matrix.networks), 'network')} × {count(len(matrix.threats), 'threat')}",
            *([f"{model}, {count(size, 'parameter')}"] if isinstance(size, int) else []),
            f"data: {facts.data.get('name') or ABSENT}",
            f"measuring: {seconds(spent) if spent else ABSENT}",
            f"finished: {facts.finished[:10] if facts.finished else ABSENT}",
        ],
        "alerts": alerts_of_matrix(run),
        "headline": headline(fronts),
        "aside": "In brackets: 95 % intervals." if matrix.cells else "",
        "tiles": _tiles(fronts),
        "checks": checks_line(run),
        "run": run,
        "facts": facts,
        "matrix": matrix,
        "heat": matrix_tables.heat_table(matrix),
        "alike": any(cell.alike for cell in matrix.cells.values()),
        "missing": matrix_tables.missing_line(matrix),
        "uncounted": few([column.words for column in matrix.uncounted()]),
        "changes": matrix_tables.difference_table(matrix),
        "unpaired": few([column.words for column in matrix_tables.unpaired(matrix)]),
        "differences": len(differences),
        "by_chance": round(CHANCE * len(differences)),
        "choices": choice_lines(fronts),
        "fronts": fronts,
        "standings": matrix_tables.standing_table(fronts),
        "no_power": _no_power(fronts),
        "trade": percent(TRADE),
        "areas": matrix_threats.area_table(matrix),
        "threats": [
            (column, matrix_threats.threat_table(matrix, column)) for column in matrix.columns
        ],
        "efforts": matrix_threats.effort_table(matrix),
        "spent": seconds(spent) if spent else None,
        "measured": count(len(run.measurements), "measurement"),
        "networks": network_table(run, matrix.networks),
        "stages": stage_table(run),
        "environment": environment(run),
        "glossary": terms(
            [
                *("baseline", "int8", "worst", "interval", "paired", "point", "front"),
                *(["power"] if fronts.some_power else []),
                *("auc", "ber", "chip", "epsilon", "pgd", "masking"),
            ],
            {"auc": AREA},
        ),
    }


def _tiles(fronts: Fronts) -> list[Tile]:
    """Return the best worst cases, and the best clean accuracy."""
    names = {
        "fault": "Best worst fault",
        "attack": "Best worst attack",
        "both": "Best worst of both",
        "clean": "Best clean",
    }
    tiles = []
    for figure, title in names.items():
        if not (best := fronts.best(figure)):
            continue
        cell: MatrixCell = getattr(best[0], figure)
        lines = [f"“{cell.network}”"]
        if cell.row.interval:
            ends = cell.row.interval
            lines.append(f"95 % interval {percent(ends.low)} to {percent(ends.high)} %")
        if cell.column.threat != CLEAN:
            lines.append(cell.column.words)
        if len(best) > 1:
            lines.append(f"and {len(best) - 1} that cannot be told from it")
        tiles.append(Tile(title, percent(cell.row.value), "%", lines, "even"))
    return tiles


def _no_power(fronts: Fronts) -> str:
    """Return why power is no part of the front; empty where it is, or nothing is approximate."""
    unknown = [one.network for one in fronts.standings if one.power is None]
    return few(unknown) if unknown and not fronts.has_power else ""
