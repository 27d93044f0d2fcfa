"""Searches over multipliers from the command line: run them, and print what came out."""

import time
from collections.abc import Sequence
from pathlib import Path

import typer

from bitproof.cli.console import print_table, watcher
from bitproof.cli.options import parse_shard
from bitproof.cli.outcome import Finish, report_problems
from bitproof.cli.work import tell_work
from bitproof.core.stop_request import StopRequest
from bitproof.evaluation import Executor
from bitproof.explore.directory import ExplorationDirectory
from bitproof.recipe.building import choose_device
from bitproof.recipe.exploration import ExplorationRecipe, explore_recipe
from bitproof.recipe.overrides import parse_change
from bitproof.recipe.toml import read_spec
from bitproof.recipe.work import estimate_exploration
from bitproof.report.exploration_page import headline, read_exploration, speedup_text
from bitproof.report.exploration_tables import (
    chosen_table,
    elsewhere_table,
    elsewhere_text,
    front_table,
    levels_table,
    predictor_table,
    search_table,
)
from bitproof.report.page_table import PageTable


def run_exploration(
    path: Path,
    out: Path | None,
    *,
    sets: Sequence[str],
    executor: Executor,
    shard: str | None,
    device: str,
    data_dir: Path | None,
    resume: bool,
    yes: bool,
) -> None:
    """Carry out a search and print its tables and where the report is."""
    start = time.perf_counter()
    recipe = read_spec(path, ExplorationRecipe, [parse_change(text) for text in sets])
    folder = out or Path("runs") / recipe.name
    share = None if shard is None else parse_shard(shard)
    watch, stop = watcher(), StopRequest()
    with report_problems(Finish(stop, begun=ExplorationDirectory(folder).plan.exists)):
        report = explore_recipe(
            recipe,
            folder,
            executor=executor,
            shard=share,
            device=choose_device(device).type,
            data_dir=data_dir,
            recipe_dir=path.parent,
            resume=resume,
            progress=watch,
            stop=stop,
            consent=lambda splits: tell_work(
                lambda: estimate_exploration(
                    recipe, splits, folder, shard=share, data_dir=data_dir, recipe_dir=path.parent
                ),
                watch,
                yes=yes,
            ),
        )
    if report is None:
        watch.say("this share is done; the report comes with the last one")
    else:
        print_exploration(folder, report)
    watch.say(f"took {time.perf_counter() - start:.0f} s")


def print_exploration(folder: Path, report: Path) -> None:
    """Print what a search found, and where the report is."""
    summary = read_exploration(folder)
    _print("Front: choices that no other beats", front_table(summary))
    if summary["levels"]:
        _print("All choices measured: best at each cost, and by score", levels_table(summary))
    _print("Searches", search_table(summary))
    if summary["predictors"]:
        _print("Predictions of choices at random", predictor_table(summary))
    if summary["chosen"]:
        _print("The choice", chosen_table(summary))
        _print("The choice on other accelerators", elsewhere_table(summary))
        typer.echo(elsewhere_text(summary))
    typer.echo(headline(summary))
    if summary["chosen"] and summary["chosen"]["held_out"]:
        for objective, own, exact in zip(
            summary["objectives"],
            summary["chosen"]["held_out"],
            summary["held_out"],
            strict=True,
        ):
            what = f"{objective['title']} {objective['level'] or ''}".strip()
            typer.echo(f"images no search saw, {what}: {_text(own)}; exact products {_text(exact)}")
    for number, each in enumerate(summary.get("recovered") or ()):
        what = summary["objectives"][number]["title"]
        typer.echo(f"after recovery, {what}: {_text(each)}")
    for search in summary["searches"]:
        if "log10_speedup" in search:
            speed = {name: speedup_text(own) for name, own in search["log10_speedup"].items()}
            typer.echo(
                f"{search['search']} against measuring all choices: {speed['evaluations']} fewer "
                f"evaluations, {speed['seconds']} faster; without measuring anything "
                f"{speed['seconds_without_measuring']}"
            )
    typer.echo(f"report: {report}")


def _print(title: str, table: PageTable) -> None:
    rows = [[cell.text.replace("\n", " ") for cell in row] for row in table.rows]
    head = [cell.text.replace("\n", " ") for cell in table.head]
    print_table(head, rows, title=title, numbers=True)


def _text(interval: Sequence[float]) -> str:
    low, value, high = interval
    return f"{100 * value:.2f} % ({100 * low:.2f} to {100 * high:.2f})"
