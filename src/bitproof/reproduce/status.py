"""The state of the reproduction for the console: what there is, and what there could be."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bitproof.reproduce.asymmetry import asymmetry_sheet, tally_of_claims
from bitproof.reproduce.cells import cells_of
from bitproof.reproduce.claims import claim_lines
from bitproof.reproduce.jobs import Job, Size, read_jobs
from bitproof.reproduce.result import CellResult, check_places, read_cells
from bitproof.reproduce.sheets import (
    EMPTY,
    Sheet,
    TextTable,
    against_theirs,
    cell_table,
    column_title,
    labels_of,
    value_text,
)
from bitproof.reproduce.state import JobState, job_state, totals
from bitproof.reproduce.tables import Table

STALE, PARTIAL = " *", "…"
LEGEND = (
    "accuracy, gains over '{against}', energy saved, % (± half of the 95 % interval); "
    f"{STALE.strip()} stale, {PARTIAL} under way, {EMPTY} missing"
)


def status_sheets(
    tables: Sequence[Table], sizes: Sequence[Size], *, results: Path, work: Path
) -> Iterator[Sheet]:
    """Yield the grid of each job, then ours against theirs and the totals of each table.

    Args:
        tables: which tables.
        sizes: at which sizes.
        results: the folder of finished cells.
        work: the folder of runs.

    Raises:
        DataError: a finished cell is damaged, or lies in the wrong place.
        RecipeError: a recipe is damaged.
    """
    check_places(results)
    for size in sizes:
        for table in tables:
            jobs = read_jobs(table, size)
            states = [job_state(job, results=results, work=work) for job in jobs]
            for state in states:
                yield from _job_sheets(state)
            yield _table_sheet(table, size, states, strays(results, jobs, size, table))


def listing(tables: Sequence[Table], sizes: Sequence[Size]) -> TextTable:
    """Return the jobs of tables: how many cells they have, and of what.

    Raises:
        RecipeError: a recipe is damaged.
    """
    rows = []
    for size in sizes:
        for table in tables:
            for job in read_jobs(table, size):
                cells = cells_of(job)
                columns = dict.fromkeys(cell.key[1:] for cell in cells if cell.metric != "gain")
                rows.append(
                    (
                        *(size, table.name, job.name, str(len(cells))),
                        " ".join(job.variants),
                        ", ".join(column_title(each, job.labels()) for each in columns),
                        " ".join(map(str, job.plan.seeds)),
                    )
                )
    return TextTable(("size", "table", "job", "cells", "variants", "threats", "seeds"), tuple(rows))


def strays(results: Path, jobs: Sequence[Job], size: Size, table: Table) -> list[str]:
    """Return the names of finished cells that no job of today has.

    Raises:
        DataError: a finished cell is damaged.
    """
    known = {cell.name for job in jobs for cell in cells_of(job)}
    return [name for name in read_cells(results, size, table.name) if name not in known]


def _job_sheets(state: JobState) -> Iterator[Sheet]:
    job = state.job
    where = f"{job.size} {job.table.name} {job.name}"
    if not state.begun and not any(one.result for one in state.cells):
        yield Sheet(f"{where}: {totals(state.cells)}", None)
        return
    texts = {one.cell: _text(one.result, one.status) for one in state.cells}
    changes = Counter(one.changed for one in state.cells if one.status == "stale")
    lines = [f"scaled down: {job.plan.note}"] if job.plan.note else []
    lines += [totals(state.cells)]
    lines += [f"{number} stale: {what} changed" for what, number in changes.items()]
    legend = LEGEND.format(against=job.plan.gain_against)
    yield Sheet(f"{where}: {legend}", cell_table(texts, job.labels()), tuple(lines))
    title = f"{where}: clean accuracy, attack and fault resilience at the levels of the gains, %"
    yield from asymmetry_sheet(title, job, _fresh(state))
    if told := tuple(claim_lines(job, _fresh(state))):
        yield Sheet(f"{where}: claims of the papers", None, told)


def _table_sheet(table: Table, size: Size, states: Sequence[JobState], unknown: list[str]) -> Sheet:
    jobs, results = [state.job for state in states], [_fresh(state) for state in states]
    lines = [totals(one for state in states for one in state.cells)]
    lines += against_theirs(table, [one for part in results for one in part], labels_of(jobs))
    if table.matrix:
        lines += tally_of_claims(zip(results, jobs, strict=True))
    if unknown:
        lines.append(f"{len(unknown)} results belong to no cell of today, such as {unknown[0]}")
    return Sheet(f"{size} {table.name}", None, tuple(lines))


def _fresh(state: JobState) -> list[CellResult]:
    """Return the results that recipe and behaviour of today stand behind."""
    return [one.result for one in state.cells if one.result and one.status == "done"]


def _text(result: CellResult | None, status: str) -> str:
    if result is None:
        return PARTIAL if status == "partial" else EMPTY
    return value_text(result) + (STALE if status == "stale" else "")
