"""Fault-injection campaigns from the command line: options to a recipe, and what came out."""

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import typer

from bitproof.cli.console import print_table, watcher
from bitproof.cli.options import parse_shard
from bitproof.cli.outcome import report_problems, resumable
from bitproof.cli.work import tell_work
from bitproof.core.errors import RecipeError
from bitproof.core.files import write_text
from bitproof.core.spec import NONE
from bitproof.core.user_code import looking_in
from bitproof.evaluation import Executor
from bitproof.faults import write_fault_list
from bitproof.injection.campaign import facts_in
from bitproof.injection.directory import CampaignDirectory
from bitproof.injection.outcomes import rows_of, worst_faults
from bitproof.injection.read_outcomes import read_outcomes
from bitproof.injection.sealed import read_fault_table
from bitproof.quant.scheme import ACCURATE
from bitproof.recipe.building import choose_device
from bitproof.recipe.campaign_work import estimate_injection
from bitproof.recipe.injection import InjectionRecipe, inject_recipe
from bitproof.recipe.lines import Location
from bitproof.recipe.overrides import Change, look_up, parse_change
from bitproof.recipe.toml import parse_spec, parse_table, read_text
from bitproof.report import CampaignSummary, console_table, read_summary
from bitproof.report.campaign_summary import FaultHarm
from bitproof.report.ranking import (
    RANKING_HEAD,
    WORST_HEAD,
    ranking_line,
    ranking_rows,
    ranking_title,
    worst_line,
    worst_rows,
)

PLACES: Mapping[str, Location] = {
    "model": ("model",),
    "weights": ("weights",),
    "network": ("network",),
    "data": ("data",),
    "task": ("task",),
    "list": ("fault_list",),
    "title": ("title",),
    "site": ("injection", "faults", 0, "sites"),
    "trials": ("injection", "trials"),
    "margin": ("injection", "margin"),
}
"""Where options stand in a recipe."""
PRESET = ("quantization", "preset")
MOST_RANKINGS = 6
"""Rankings whose tables are printed; of more, sentences alone."""
MOST_PLACES = 8
"""Places of a ranking that are printed."""


def run_injection(
    recipe: InjectionRecipe,
    *,
    out: Path | None,
    executor: Executor,
    shard: str | None,
    threads: int | None,
    device: str,
    data_dir: Path | None,
    recipe_dir: Path | None,
    resume: bool,
    yes: bool,
) -> None:
    """Carry out a campaign and print its tables and where the report is."""
    start = time.perf_counter()
    share = None if shard is None else parse_shard(shard)
    if threads:
        torch.set_num_threads(threads)
    folder = out or Path("runs") / recipe.name
    watch = watcher()
    with report_problems(resumable(CampaignDirectory(folder).plan.exists)):
        report = inject_recipe(
            recipe,
            folder,
            executor=executor,
            shard=share,
            device=choose_device(device).type,
            data_dir=data_dir,
            recipe_dir=recipe_dir,
            resume=resume,
            progress=watch,
            consent=lambda splits, network: tell_work(
                lambda: estimate_injection(
                    recipe,
                    splits.test,
                    network,
                    folder,
                    shard=share,
                    device=device,
                    recipe_dir=recipe_dir,
                ),
                watch,
                yes=yes,
            ),
        )
    if report is None:
        watch.say("this share is done; the report comes with the last one")
    else:
        print_campaign(folder, report)
    watch.say(f"took {time.perf_counter() - start:.0f} s")


def print_campaign(folder: Path, report: Path) -> None:
    """Print the tables of a campaign, what was planned, and where the report is."""
    path = CampaignDirectory(folder).summary
    summary = read_summary(path)
    for table in console_table(summary):
        print_table(table.header, table.rows, title=table.title, numbers=True)
    for ranking in summary.rankings if len(summary.rankings) <= MOST_RANKINGS else ():
        if ranking.of != "cell":
            rows = ranking_rows(ranking, MOST_PLACES)
            print_table(RANKING_HEAD, rows, title=ranking_title(summary, ranking), numbers=True)
    for line in [*(ranking_line(summary, one) for one in summary.rankings), worst_line(summary)]:
        if line:
            typer.echo(line)
    for line in _planned(summary):
        typer.echo(line)
    if summary.campaign.fidelity:
        typer.echo(summary.campaign.fidelity.line)
    for warning in summary.campaign.warnings:
        typer.echo(f"warning: {warning}")
    facts = facts_in(path)
    if "stop" in facts:
        low, value, high = (f"{100 * end:.3g}" for end in facts["stop"]["interval"])
        outcome = facts["stop"]["outcome"]
        typer.echo(f"interval of the stop rule: {outcome} {value} % ({low} to {high})")
    typer.echo(f"checksum of the counts: {facts['checksum']}")
    typer.echo(f"report: {report}")


def _planned(summary: CampaignSummary) -> Iterator[str]:
    """Yield what came of the planned number of trials."""
    for group in summary.groups:
        size = "" if group.population is None else f" of {group.population:,} places"
        ended = ", ended by the stop rule" if summary.campaign.stopped else ""
        yield f"{group.label}: {group.trials:,} of {group.needed:,} planned trials{size}{ended}"


def export_outcomes(folder: Path, out: Path, top: int) -> None:
    """Write what each fault of a campaign did as CSV, and print the worst ones."""
    outcomes = read_outcomes(folder)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(outcomes)
    writer.writerows(
        ["" if value is None else value for value in row.values()] for row in rows_of(outcomes)
    )
    write_text(out, text.getvalue())
    worst = [FaultHarm.model_validate(row) for row in worst_faults(outcomes, top)]
    trials = len(set(outcomes["trial"].tolist()))
    if worst:
        title = f"the {len(worst)} worst faults of {trials} trials"
        print_table(WORST_HEAD, worst_rows(worst), title=title, numbers=True)
    elif top:
        typer.echo(f"no fault of {trials} trials did harm")
    typer.echo(f"{len(outcomes['trial'])} faults of {trials} trials with what they did: {out}")


def export_faults(folder: Path, out: Path) -> None:
    """Write the faults of a campaign as CSV."""
    faults = read_fault_table(CampaignDirectory(folder).faults)
    write_fault_list(faults, out)
    typer.echo(f"{len(faults)} faults of {faults.n_trials} trials: {out}")


def is_campaign(folder: Path) -> bool:
    """Tell whether a directory holds a campaign, not a run."""
    return CampaignDirectory(folder).plan.is_file()


def recipe_of(
    path: Path | None, options: Mapping[str, Any], sets: Sequence[str]
) -> InjectionRecipe:
    """Return the recipe in a file, or the default one, with what was said on the command line.

    Without a file, a model is quantized by the preset `accurate`.

    `options` are values by name, None and empty where nothing was said; `sets`, of `KEY=VALUE`, are
    laid on top of them.
    """
    text, name = (read_text(path), str(path)) if path else ("", "")
    table = parse_table(text, name)
    said = {name: value for name, value in options.items() if value not in (None, [])}
    model = said.get("model")
    if path is None:
        words = [f"--{name} {_plain(value)}" for name, value in said.items()]
        words += [f"--set {text}" for text in sets]
        title = " ".join(["bitproof inject", *words])
        said = {"data": "digits", **said, "title": title}
        if model:
            table = {"quantization": {"preset": ACCURATE}}
    changes = [*_changes(said, table), *map(parse_change, sets)]
    if path is None and model:
        changes.insert(0, Change(PRESET, ACCURATE, "--model"))
    with looking_in(path.parent if path else None):
        return parse_spec(text, InjectionRecipe, name=name, changes=changes)


def _changes(said: Mapping[str, Any], table: Mapping[str, Any]) -> Iterator[Change]:
    """Yield what options change in the table of a recipe."""
    for name, value in said.items():
        if name == "bits":
            yield from _widths(value, table)
        elif name == "site":
            groups = look_up(table, ("injection", "faults"))
            if isinstance(groups, list) and len(groups) > 1:
                raise RecipeError(
                    f"--site: the recipe has {len(groups)} kinds of fault; say which, such as "
                    f"--set \"injection.faults.0.sites=['{value[0]}']\""
                )
            sites = [part.strip() for part in ",".join(value).split(",") if part.strip()]
            yield Change(PLACES[name], sites, "--site")
        else:
            yield Change(PLACES[name], value, f"--{name}")


def _widths(bits: int, table: Mapping[str, Any]) -> Iterator[Change]:
    """Yield the width of every word; quantizers of the recipe stay what they are otherwise."""
    if look_up(table, PRESET) is not None:
        yield Change(("quantization", "bits"), bits, "--bits")
        yield Change(("quantization", "activation_bits"), bits, "--bits")
        return
    for name in ("weight", "bias"):
        place = ("quantization", name)
        known = look_up(table, place)
        if known is None:
            yield Change(place, {"kind": "affine", "bits": bits}, "--bits")
        elif known != NONE:
            yield Change((*place, "bits"), bits, "--bits")
    yield Change(("quantization", "activation_bits"), bits, "--bits")


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
