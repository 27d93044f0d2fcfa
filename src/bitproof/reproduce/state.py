"""Which cells of a job are done, stale, under way or missing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from bitproof.reproduce.cells import Cell, cells_of
from bitproof.reproduce.checking import Stamp, read_stamps
from bitproof.reproduce.collect import seed_runs
from bitproof.reproduce.digest import parts_of, recipe_digest
from bitproof.reproduce.jobs import Job
from bitproof.reproduce.result import CellResult, read_cells

Status = Literal["done", "stale", "partial", "missing"]
STATUSES: tuple[Status, ...] = ("done", "stale", "partial", "missing")
"""`stale`: recipe or behaviour changed since. `partial`: no result yet, but its job has begun."""


@dataclass(frozen=True)
class CellState:
    """Where one cell stands."""

    cell: Cell
    result: CellResult | None
    changed: str
    """What changed since: `recipe`, `behaviour`, both, or nothing."""
    status: Status


@dataclass(frozen=True)
class JobState:
    """Where one job stands."""

    job: Job
    begun: bool
    """Whether there is something to go on with."""
    cells: tuple[CellState, ...]

    def matching(self, patterns: Sequence[str] = ()) -> list[CellState]:
        """Return the cells that match one of the patterns, or all where there is none."""
        return [state for state in self.cells if fits(state.cell, patterns)]

    def needed(self, patterns: Sequence[str] = ()) -> list[CellState]:
        """Return those of them that are not done."""
        return [state for state in self.matching(patterns) if state.status != "done"]


def job_state(job: Job, *, results: Path, work: Path) -> JobState:
    """Return where a job stands.

    Args:
        job: what is to be reproduced.
        results: the folder of finished cells.
        work: the folder of runs.

    Raises:
        DataError: a finished cell is damaged.
    """
    found = read_cells(results, job.size, job.table.name)
    stamp = read_stamps(results, job.size, job.table.name).get(job.name)
    recipes = {name: recipe_digest(job, name, job.plan.seeds) for name in job.recipe.variants}
    begun = any(run.begun() for run in seed_runs(job, work))
    states = []
    for cell in cells_of(job):
        result = found.get(cell.name)
        changed = what_changed(result, recipes[cell.variant], stamp) if result else ""
        status: Status = "stale" if changed else "done"
        if result is None:
            status = "partial" if begun else "missing"
        states.append(CellState(cell, result, changed, status))
    return JobState(job, begun, tuple(states))


def what_changed(result: CellResult, recipe: str, stamp: Stamp | None) -> str:
    """Return what is no longer as it was when a cell was measured, in words; or nothing."""
    before = parts_of(result.digest)
    known = stamp.digests.values() if stamp else ()
    same = {"recipe": before["recipe"] == recipe, "behaviour": before["behaviour"] in known}
    return " and ".join(name for name, equal in same.items() if not equal)


def fits(cell: Cell, patterns: Sequence[str]) -> bool:
    """Return whether a cell's name matches one of the patterns; none stands for any name.

    Example:
        >>> cell = Cell("resq-matrix", "lenet5", "mnist", "s1", "clean", 0.0, "acc")
        >>> fits(cell, ["*.s1.*"]), fits(cell, ["*.s2.*"]), fits(cell, [])
        (True, False, True)
    """
    return not patterns or any(fnmatchcase(cell.name, pattern) for pattern in patterns)


def totals(states: Iterable[CellState]) -> str:
    """Return how many cells are done, stale, partial and missing, in words."""
    found = [state.status for state in states]
    return ", ".join(f"{found.count(status)} {status}" for status in STATUSES)
