"""Running recipes and printing what came out."""

import shutil
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import typer

from bitproof.cli.console import print_table, watcher
from bitproof.cli.outcome import Finish, report_problems
from bitproof.cli.work import tell_work
from bitproof.core.stop_request import StopRequest
from bitproof.evaluation import EXECUTORS, Executor
from bitproof.kernels.library import why_absent
from bitproof.recipe import RunDirectory, read_recipe, run
from bitproof.recipe.overrides import parse_change
from bitproof.recipe.work import estimate_run
from bitproof.report import corruption_lines, result_table
from bitproof.train.process_group import is_main_process

DEMO = "resq-digits.toml"


def run_demo(
    out: Path, *, sets: Sequence[str], device: str, resume: bool, fresh: bool, yes: bool
) -> None:
    """Run the demo; in its usual place an earlier one makes room, unless it is under way."""
    make_room(out, wanted=fresh and not resume)
    recipe = shipped_recipe(DEMO)
    run_recipe(recipe, out, sets=sets, device=device, data_dir=None, resume=resume, yes=yes)


def make_room(out: Path, *, wanted: bool) -> None:
    """Remove an earlier run if that is wanted, unless it is under way."""
    directory = RunDirectory(out)
    if wanted and directory.recipe.exists():
        with directory.claimed():
            shutil.rmtree(out)


def shipped_recipe(name: str) -> Path:
    """Return a recipe that is shipped: inside the installed package, or in the checkout."""
    installed = Path(str(files("bitproof"))) / "recipes" / name
    checkout = Path(__file__).parents[3] / "recipes" / name
    return installed if installed.exists() else checkout


def run_recipe(
    path: Path,
    out: Path | None,
    *,
    sets: Sequence[str],
    executor: Executor | None = None,
    device: str,
    data_dir: Path | None,
    resume: bool,
    yes: bool,
    show: Callable[[Path, Path], None] | None = None,
) -> None:
    """Carry out a recipe and print what came out, from its directory and report.

    None: the result table and where the report is.
    """
    start = time.perf_counter()
    recipe = read_recipe(path, [parse_change(text) for text in sets])
    out = out or Path("runs") / recipe.name
    watch, stop = watcher(), StopRequest()
    if recipe.multipliers and why_absent() and is_main_process():
        watch.say(f"products of multipliers take the slow way: {why_absent()}")
    with report_problems(Finish(stop, begun=RunDirectory(out).recipe.exists)):
        report = run(
            recipe,
            out,
            device=device,
            data_dir=data_dir,
            recipe_dir=path.parent,
            resume=resume,
            executor=executor,
            progress=watch,
            stop=stop,
            consent=lambda splits: tell_work(
                lambda: estimate_run(recipe, splits, out, data_dir=data_dir), watch, yes=yes
            ),
        )
    if not is_main_process():
        return
    for warning in RunDirectory(out).facts().get("warnings", []):
        watch.say(f"warning: {warning}")
    (show or print_results)(out, report)
    watch.say(f"took {time.perf_counter() - start:.0f} s")


def executor_of(engine: str, workers: int | None) -> Executor:
    """Return who computes: here unless there are several workers, or as the engine says."""
    if engine == "auto":
        engine = "in_process" if workers in (None, 1) else "processes"
    table: dict[str, Any] = {"kind": engine}
    if workers is not None and engine != "in_process":
        table["workers"] = workers
    return EXECUTORS.build(table)


def print_results(directory: Path, report: Path) -> None:
    """Print the result table and where the report is."""
    header, *rows = result_table(directory)
    title = "accuracy, % (± half of the 95 % interval)"
    print_table(header, rows, title=title, numbers=True)
    if silent := corruption_lines(directory):
        title = "silent data corruption, % (95 % interval)"
        print_table(silent[0], silent[1:], title=title, numbers=True)
    typer.echo(f"report: {report}")
