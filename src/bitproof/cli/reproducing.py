"""The published tables: doing what is missing, and telling what is there."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
import typer

from bitproof.cli.console import print_table, watcher
from bitproof.cli.outcome import Finish, leave, report_problems
from bitproof.core.errors import RecipeError, near, shorten
from bitproof.core.files import write_text
from bitproof.core.stop_request import StopRequest
from bitproof.reproduce import (
    SIZES,
    TABLES,
    Place,
    Size,
    Table,
    all_jobs,
    cells_of,
    check,
    check_against,
    document,
    find_table,
    fits,
    job_key,
    job_state,
    listing,
    status_sheets,
    totals,
    work,
    write_down,
)

KEPT = "what is finished is kept; the same command goes on"


def chosen_tables(name: str | None) -> list[Table]:
    """Return the table of that name, or all."""
    return [find_table(name)] if name else list(TABLES.values())


def chosen_sizes(name: str | None) -> Sequence[Size]:
    """Return the size of that name, or all."""
    if name and name not in SIZES:
        raise RecipeError(
            f"--size: wanted one of {', '.join(SIZES)}, got {shorten(name)}. {near(name, SIZES)}"
        )
    return [size for size in SIZES if not name or size == name]


def print_listing(table: str | None, size: str | None) -> None:
    """Print the jobs of the tables."""
    grid = listing(chosen_tables(table), chosen_sizes(size))
    print_table(grid.header, grid.rows, title="what can be reproduced", numbers=False)


def print_status(table: str | None, size: str | None, *, results: Path, work_dir: Path) -> None:
    """Print what is done, stale, under way and missing."""
    tables, sizes = chosen_tables(table), chosen_sizes(size)
    for sheet in status_sheets(tables, sizes, results=results, work=work_dir):
        if sheet.grid:
            print_table(sheet.grid.header, sheet.grid.rows, title=sheet.title, numbers=True)
        else:
            typer.echo(sheet.title)
        for line in sheet.lines:
            typer.echo(f"  {line}")


def write_document(path: Path, results: Path) -> None:
    """Write the page of all results."""
    write_text(path, document(results))
    typer.echo(f"written: {path}")


def print_check(
    table: str | None,
    size: str | None,
    *,
    against: str | None,
    stamp: bool,
    place: Place,
    json_path: Path | None,
) -> None:
    """Print whether each job still behaves as it did; leave with 1 if one does not."""
    jobs = all_jobs(chosen_tables(table), chosen_sizes(size))
    found = (
        check_against(against, jobs, place.data_dir)
        if against
        else check(jobs, place.results, place.data_dir)
    )
    digests, verdicts = {}, []
    for one in found:
        typer.echo(f"{job_key(one.job)}: {one.verdict} {one.digest}{one.problem}")
        verdicts.append(one.verdict)
        if one.digest:
            digests[job_key(one.job)] = one.digest
        if one.digest and (stamp or (against and one.verdict == "equal")):
            write_down(one.job, one.digest, place.results, equal_to=against or "")
    if json_path:
        write_text(json_path, json.dumps(digests, indent=1) + "\n")
    typer.echo(", ".join(f"{verdicts.count(each)} {each}" for each in dict.fromkeys(verdicts)))
    if "changed" in verdicts or "failed" in verdicts:
        raise typer.Exit(1)


def reproduce_cells(
    table: str | None,
    size: str | None,
    *,
    cells: Sequence[str],
    minutes: float | None,
    place: Place,
) -> None:
    """Do what is missing, for as long as there is time, and print what is done and left."""
    tables, (scale,) = chosen_tables(table), chosen_sizes(size or "full")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "reproduce: not for torchrun; start it once for each GPU, with CUDA_VISIBLE_DEVICES: "
            "the processes share jobs and seeds"
        )
    if scale == "full" and place.device != "cpu" and not torch.cuda.is_available():
        raise RecipeError(
            "reproduce: full size wants a CUDA GPU, and this torch sees none; "
            "take --size small, or insist with --device cpu"
        )
    jobs = all_jobs(tables, [scale])
    for pattern in cells:
        if not any(fits(cell, [pattern]) for job in jobs for cell in cells_of(job)):
            raise RecipeError(
                f"--cell: no cell is called like {shorten(pattern)}; names are NETWORK-"
                "DATASET.VARIANT.THREAT-LEVEL.METRIC, such as 'resnet18-*.s1+s2.*.acc'"
            )
    stop = StopRequest(None if minutes is None else 60 * minutes)
    handler = Finish(stop, begun=lambda: True, kept=KEPT)
    with report_problems(handler):
        work(jobs, place, patterns=cells, progress=watcher(), stop=stop)
    states = [job_state(job, results=place.results, work=place.work) for job in jobs]
    typer.echo(f"{scale}: {totals(one for state in states for one in state.matching(cells))}")
    if handler.asked:
        leave(handler.line, handler.code)
    left = sum(len(state.needed(cells)) for state in states)
    typer.echo(f"{left} cells left; {KEPT}" if left else "nothing left to do")
