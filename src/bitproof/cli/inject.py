"""Fault-injection campaigns from the command line: options to a recipe, and what came out."""

import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import typer
from pydantic import ValidationError

from bitproof.cli.outcome import report_problems
from bitproof.cli.tables import print_table
from bitproof.cli.watching import watcher
from bitproof.core.errors import RecipeError, SpecError
from bitproof.core.spec import describe_problems
from bitproof.faults import write_fault_list
from bitproof.injection import EXECUTORS, Executor
from bitproof.injection.campaign import Shard, facts_in
from bitproof.injection.directory import CampaignDirectory
from bitproof.injection.sealed import read_fault_table
from bitproof.quant.quantizer import RQUANT
from bitproof.recipe.building import choose_device
from bitproof.recipe.injection import InjectionRecipe, inject_recipe
from bitproof.recipe.toml import read_spec
from bitproof.report import CampaignSummary, console_table, read_summary

Options = Mapping[str, Any]
"""What was said on the command line; None: nothing."""


def run_injection(
    path: Path | None,
    options: Options,
    *,
    out: Path | None,
    executor: Executor,
    shard: str | None,
    threads: int | None,
    device: str,
    data_dir: Path | None,
    resume: bool,
) -> None:
    """Carry out a campaign and print its tables and where the report is."""
    start = time.perf_counter()
    recipe = recipe_of(path, options)
    share = None if shard is None else parse_shard(shard)
    if threads:
        torch.set_num_threads(threads)
    folder = out or Path("runs") / recipe.name
    watch = watcher()
    with report_problems(interrupted="what is finished is kept, go on with --resume"):
        report = inject_recipe(
            recipe,
            folder,
            executor=executor,
            shard=share,
            device=choose_device(device).type,
            data_dir=data_dir,
            recipe_dir=None if path is None else path.parent,
            resume=resume,
            progress=watch,
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
    for line in _planned(summary):
        typer.echo(line)
    facts = facts_in(path)
    if "stop" in facts:
        low, value, high = (f"{100 * end:.3g}" for end in facts["stop"]["interval"])
        outcome = facts["stop"]["outcome"]
        typer.echo(f"interval of the stop rule: {outcome} {value} % ({low} to {high})")
    typer.echo(f"checksum of the counts: {facts['checksum']}")
    typer.echo(f"report: {report}")


def _planned(summary: CampaignSummary) -> Iterator[str]:
    """Yield what came of the planned number of trials."""
    told = summary.campaign
    for group in summary.groups:
        size = "" if group.population is None else f" of {group.population:,} places"
        ended = ", ended by the stop rule" if told.stopped else ""
        yield f"{group.label}: {group.trials:,} of {group.needed:,} planned trials{size}{ended}"


def export_faults(folder: Path, out: Path) -> None:
    """Write the faults of a campaign as CSV."""
    faults = read_fault_table(CampaignDirectory(folder).faults)
    write_fault_list(faults, out)
    typer.echo(f"{len(faults)} faults of {faults.n_trials} trials: {out}")


def is_campaign(folder: Path) -> bool:
    """Tell whether a directory holds a campaign, not a run."""
    return CampaignDirectory(folder).plan.is_file()


def recipe_of(path: Path | None, options: Options) -> InjectionRecipe:
    """Return the recipe in a file, or the one that options describe.

    Raises:
        RecipeError: the file is no recipe, or both came.
        SpecError: an option has a wrong value.
    """
    said = {name: value for name, value in options.items() if value not in (None, False, ())}
    if path is not None:
        if said:
            names = ", ".join("--" + name.replace("_", "-") for name in said)
            raise RecipeError(f"wanted a recipe or options that describe the campaign, got {names}")
        return read_spec(path, InjectionRecipe)
    try:
        return InjectionRecipe.model_validate(_table(said))
    except ValidationError as error:
        raise SpecError("; ".join(describe_problems(error, InjectionRecipe))) from None


def _table(said: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a recipe that options stand for."""
    group: dict[str, Any] = {
        name: _split(said[option])
        for name, option in (("sites", "site"), ("layers", "layer"), ("operations", "operation"))
        if option in said
    }
    for name, option in (("bits", "bit"), ("channels", "channel"), ("elements", "element")):
        if option in said:
            group[name] = said[option]
    if "kind" in said:
        group["kind"] = component(said["kind"])
    group |= {name: said[name] for name in ("count", "rate", "exhaustive") if name in said}
    fields = (
        *("trials", "margin", "confidence", "per", "allocation", "interval", "images"),
        *("only_correct", "fit_per_mbit", "seed", "stop_on"),
    )
    injection: dict[str, Any] = {name: said[name] for name in fields if name in said}
    injection["faults"] = [group]
    if "protect" in said:
        injection["protections"] = [component(text) for text in said["protect"]]
    if "stop" in said:
        injection["stop"] = component(said["stop"])
    table: dict[str, Any] = {"data": {"kind": said.get("data", "digits")}, "injection": injection}
    for name, option in (("weights", "weights"), ("network", "network"), ("fault_list", "list")):
        if option in said:
            table[name] = str(said[option])
    if "model" in said:
        text = said["model"]
        table["model"] = text if ":" in text else {"kind": text}
    if "bits" in said:
        words = {**RQUANT.model_dump(mode="json"), "bits": said["bits"]}
        table["quantization"] = {
            "weight": words,
            "bias": words,
            "activation_bits": said["bits"],
        }
    title = " ".join(f"--{name.replace('_', '-')} {_plain(value)}" for name, value in said.items())
    return {**table, "title": f"bitproof inject {title}".strip()}


def component(text: str) -> dict[str, Any]:
    """Return the table that `KIND` or `KIND:field=value,field=value` stands for.

    Raises:
        SpecError: a field has no value, or one that TOML does not know.

    Example:
        >>> component("stuck_at:value=1")
        {'kind': 'stuck_at', 'value': 1}
    """
    kind, _, rest = text.partition(":")
    table: dict[str, Any] = {"kind": kind}
    for part in filter(None, rest.split(",")):
        name, _, value = part.partition("=")
        try:
            table[name.strip()] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            table[name.strip()] = value.strip()
        if not value.strip():
            raise SpecError(f"{text}: wanted KIND or KIND:field=value, got '{part}'")
    return table


def executor_of(engine: str, workers: int | None) -> Executor:
    """Return who computes.

    Raises:
        UnknownKindError: there is no such engine.
    """
    if engine == "auto":
        engine = "in_process" if workers in (None, 1) else "processes"
    table: dict[str, Any] = {"kind": engine}
    if workers is not None and engine != "in_process":
        table["workers"] = workers
    return EXECUTORS.build(table)


def parse_shard(text: str) -> Shard:
    """Return number and count of `K/N`.

    Raises:
        SpecError: it is something else.
    """
    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 10**6):
        raise SpecError(f"shard: wanted K/N with K from 1 to N, such as 2/8, got '{text}'")
    return int(first), int(last)


def _split(values: Sequence[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
