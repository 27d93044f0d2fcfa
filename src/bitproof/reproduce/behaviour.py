"""How the code behaves for a job: a digest of its own recipe, carried out at toy size.

Model:  the recipe is shrunk to a few images, steps and chips, and run on one thread of the CPU.
        The digest is taken of numbers alone: the stored integers, scales and zero points of every
        network, the counts of every measurement, and the cells that they come to. Names of
        modules, variants, threats and files do not enter it, so that code can be moved and renamed
        as long as it does the same. Floats may differ between processors and versions of torch;
        so digests are compared on one machine, or with those of an older revision on this one.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from bitproof.core.errors import BitproofError, RecipeError
from bitproof.quant import load_network
from bitproof.recipe import RunDirectory
from bitproof.recipe import run as run_recipe
from bitproof.recipe.recipe import FLOAT
from bitproof.reproduce.cells import cells_of
from bitproof.reproduce.collect import SeedRun, estimates_of
from bitproof.reproduce.jobs import Job
from bitproof.reproduce.toy import toy

DIGITS = 16
"""Hex digits of a digest."""


def behaviour_of(job: Job, data_dir: Path | None = None) -> str:
    """Return the digest of what a job does at toy size; it runs in this process, on one thread.

    Raises:
        BitproofError: in its kinds, for whatever is wrong with recipe, data or weights.
    """
    plan = job.plan.model_copy(update={"seeds": job.plan.seeds[:1], "keep": ()})
    small = replace(job, recipe=toy(job.recipe), plan=plan, source=None)
    with tempfile.TemporaryDirectory() as scratch, _one_thread():
        run = SeedRun(small, plan.seeds[0], RunDirectory(Path(scratch) / "run"))
        run_recipe(
            run.recipe,
            run.folder.path,
            device="cpu",
            data_dir=data_dir,
            recipe_dir=job.path.parent,
        )
        return _digest(run, data_dir)


def _digest(run: SeedRun, data_dir: Path | None) -> str:
    """Return the digest of all numbers in a finished run, in the order of its variants."""
    state = hashlib.sha256()
    for variant in run.recipe.variants:
        if variant == FLOAT:
            continue
        network = load_network(run.folder.network(variant))
        grids = [coded.grid for coded in network.tensors.values()]
        numbers = [coded.codes for coded in network.tensors.values()]
        for grid in (*grids, *network.grids.values()):
            numbers += [grid.scale, grid.zero_point]
        for tensor in numbers:
            state.update(tensor.contiguous().numpy().tobytes())
    lines = run.folder.tallies.read_text(encoding="utf-8").splitlines()
    counts = {
        (one["level"], one["trial"], one["correct"], one["total"])
        for one in map(json.loads, lines)
        if not one.get("reference")  # clean counts beside others, which came later
    }
    state.update(repr(sorted(counts)).encode())
    found = estimates_of(run.job, run, run.recipe.data.load(data_dir).test)
    for cell in cells_of(run.job):
        (low, value, high), n = found[cell.key]
        state.update(f"{cell.level} {low:.10g} {value:.10g} {high:.10g} {n}\n".encode())
    return state.hexdigest()[:DIGITS]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: sums of floats depend on how many share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def behaviours(
    jobs: Sequence[Job], data_dir: Path | None = None, *, workers: int | None = None
) -> Iterator[tuple[Job, str | BitproofError]]:
    """Yield each job with its digest, or with what stood in its way; several at a time.

    Args:
        jobs: what is to be carried out at toy size.
        data_dir: folder of data sets.
        workers: processes; None: one for each core.
    """
    workers = min(workers or os.cpu_count() or 1, max(len(jobs), 1))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        todo = [pool.submit(_attempt, job, data_dir) for job in jobs]
        for job, future in zip(jobs, todo, strict=True):
            yield job, future.result()


def _attempt(job: Job, data_dir: Path | None) -> str | BitproofError:
    try:
        return behaviour_of(job, data_dir)
    except BitproofError as error:
        return error


def behaviours_at(
    revision: str, jobs: Sequence[Job], data_dir: Path | None = None
) -> dict[str, str]:
    """Return the digests that an older revision of this checkout gives, by `job_key`.

    Its code runs in a work tree of its own, on this machine; what it cannot do is left out.

    Raises:
        RecipeError: there is no such revision, or it cannot tell how it behaves.
    """
    root = Path(__file__).parents[3]
    with tempfile.TemporaryDirectory() as scratch:
        tree, found = Path(scratch) / "tree", dict[str, str]()
        _call(["git", "worktree", "add", "--detach", str(tree), revision], root)
        try:
            _call([sys.executable, "hatch_build.py"], tree)  # its C library
            around = {**os.environ, "PYTHONPATH": str(tree / "src")}
            if data_dir is not None:
                around["BITPROOF_DATA"] = str(data_dir.resolve())
            for size, table in dict.fromkeys((job.size, job.table.name) for job in jobs):
                answer = Path(scratch) / f"{size}-{table}.json"
                options = ["--size", size, "--check", "--json", str(answer)]
                words = [sys.executable, "-m", "bitproof", "reproduce", table, *options]
                _call(words, root, around, gives=answer)
                found |= json.loads(answer.read_text(encoding="utf-8"))
            return found
        finally:
            _call(["git", "worktree", "remove", "--force", str(tree)], root)


def _call(
    words: list[str],
    folder: Path,
    around: dict[str, str] | None = None,
    *,
    gives: Path | None = None,
) -> None:
    """Run a program, which has done its work if it says so, or if it `gives` a file."""
    done = subprocess.run(
        words, cwd=folder, env=around, capture_output=True, text=True, check=False
    )
    if done.returncode and not (gives and gives.exists()):
        said = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
        raise RecipeError(f"--against: '{' '.join(words[:4])} ...' failed: {said[-1]}")


def job_key(job: Job) -> str:
    """Return the name of a job that is unique over sizes and tables."""
    return f"{job.size}/{job.table.name}/{job.name}"


def machine() -> str:
    """Return what floats depend on beside the code: processor, instruction set, torch."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{model}, {capability}, torch {torch.__version__}, Python {platform.python_version()}"
