"""Accuracy of one network, asked for by options alone: they make a recipe, which is run."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import typer

from bitproof.cli.console import print_table, watcher
from bitproof.cli.outcome import Finish, report_problems
from bitproof.cli.work import tell_work
from bitproof.core.directory import FACTS
from bitproof.core.errors import RecipeError, shorten
from bitproof.core.files import write_text
from bitproof.core.stop_request import StopRequest
from bitproof.evaluation import Evaluation, Executor, MemoryFaults
from bitproof.quant.scheme import ACCURATE
from bitproof.recipe import Recipe, run
from bitproof.recipe.measure_networks import measure_networks
from bitproof.recipe.overrides import Change, override, parse_change
from bitproof.recipe.recipe import FLOAT
from bitproof.recipe.toml import parse_spec
from bitproof.recipe.work import estimate_run
from bitproof.report.evaluation_table import accuracy_lines, accuracy_table
from bitproof.report.run import read_run

WIDTHS = (8,)
IMAGES = 1000
"""Test images that everything is measured on, the first ones."""
CHIPS = 50
SCHEMES = (ACCURATE, "rquant")
Options = Mapping[str, Any]
WIDE_BIASES = (
    "biases are 32-bit words in this scheme, and bit errors in them do much: --site weight keeps "
    "them whole, --scheme rquant stores them as short as weights"
)


def parse_numbers(text: str, option: str) -> list[float]:
    """Return the numbers of a list with commas, rising and each once; fractions are numbers.

    Raises:
        RecipeError: one is no number above zero.

    Example:
        >>> parse_numbers("1e-2,1e-3", "--ber"), parse_numbers("1/4", "--pgd")
        ([0.001, 0.01], [0.25])
    """
    found = set()
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            number = float(Fraction(part.replace(" ", "")))
        except (ValueError, ZeroDivisionError, OverflowError):
            number = math.nan
        if not 0 < number < math.inf:
            raise RecipeError(
                f"{option}: wanted numbers above 0 with commas, such as 1e-3,1e-2 or 1/255, "
                f"got {shorten(part)}"
            )
        found.add(number)
    if not found:
        raise RecipeError(f"{option}: wanted numbers with commas, such as 1e-3,1e-2, got none")
    return sorted(found)


def parse_widths(text: str) -> tuple[int, ...]:
    """Return the word widths of a list with commas, the widest first, each once.

    Raises:
        RecipeError: one is no whole number from 2 to 8.

    Example:
        >>> parse_widths("4,8")
        (8, 4)
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts or [text]:
        if part not in set("2345678"):
            raise RecipeError(
                f"--bits: wanted widths from 2 to 8 with commas, such as 4,6,8, got {shorten(part)}"
            )
    return tuple(sorted(set(map(int, parts)), reverse=True))


def threats_of(options: Options) -> list[dict[str, Any]]:
    """Return what options ask to measure, all on the same images."""
    images, chips = options["images"] or IMAGES, options["chips"] or CHIPS
    threats: list[dict[str, Any]] = [{"kind": "clean", "images": images}]
    if options["ber"]:
        rates = parse_numbers(options["ber"], "--ber")
        if rates[-1] > 1:
            raise RecipeError(f"--ber: wanted fractions up to 1 (0.1 % is 1e-3), got {rates[-1]:g}")
        faults = {"kind": "memory_faults", "levels": rates, "chips": chips, "images": images}
        if options["site"]:
            faults["sites"] = _words(options["site"])
        threats.append(faults)
        if options["protect"]:
            kinds = [{"kind": name} for name in _words(options["protect"])]
            threats.append({**faults, "protections": kinds})
    elif given := [name for name in ("protect", "site", "chips") if options[name]]:
        raise RecipeError(f"--{given[0]}: wanted bit errors as well, such as --ber 1e-3")
    if options["pgd"]:
        radii = parse_numbers(options["pgd"], "--pgd")
        attack = {"kind": "linf_pgd", "epsilon": radii[-1]}
        images_attacked = {"levels": radii, "images": images}
        threats.append({"kind": "adversarial_examples", "attack": attack, **images_attacked})
    return threats


def _words(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def recipe_of(options: Options, sets: Sequence[str]) -> Recipe:
    """Return the recipe that options stand for; `sets`, of `KEY=VALUE`, are laid on top.

    Raises:
        RecipeError: an option is missing or malformed, or the recipe is.
    """
    if not options["model"]:
        raise RecipeError("evaluate: wanted --model, such as m:make, or --network, got neither")
    if not options["data"]:
        raise RecipeError("evaluate: wanted --data, such as digits or folder:DIR, got none")
    scheme = options["scheme"] or ACCURATE
    if scheme not in SCHEMES:
        raise RecipeError(f"--scheme: wanted {' or '.join(SCHEMES)}, got {shorten(scheme)}")
    widths = parse_widths(options["bits"]) if options["bits"] else WIDTHS
    tables = {
        f"int{bits}": {"preset": scheme, "bits": bits, "activation_bits": bits} for bits in widths
    }
    changes = [
        *_given(options),
        Change(("name",), "evaluate", "evaluate"),
        Change(("title",), f"{options['model']} on {options['data']}", "evaluate"),
        Change(("quantization",), next(iter(tables.values())), "--bits"),
        Change(("variants",), [FLOAT, *tables], "--bits"),
        Change(("evaluation", "threats"), threats_of(options), "--ber, --pgd"),
        *(
            Change(("stages", name), {"kind": "requantize", "scheme": table}, "--bits")
            for name, table in tables.items()
        ),
        *map(parse_change, sets),
    ]
    return parse_spec("", Recipe, name="", changes=changes)


def _given(options: Options) -> Iterator[Change]:
    for name in ("model", "weights", "data", "task"):
        if options[name]:
            yield Change((name,), options[name], f"--{name}")


def run_evaluation(
    options: Options,
    sets: Sequence[str],
    *,
    out: Path | None,
    json_path: Path | None,
    executor: Executor | None,
    device: str,
    data_dir: Path | None,
    resume: bool,
    yes: bool,
) -> None:
    """Measure one network as options ask, print one table, and keep a run directory."""
    start = time.perf_counter()
    folder = out or Path("runs") / "evaluate"
    watch, stop = watcher(), StopRequest()
    handler = Finish(stop, begun=(folder / FACTS).exists)
    if options["network"]:
        evaluation = _evaluation_of_network(options, sets)
        with report_problems(handler):
            report = measure_networks(
                Path(options["network"]),
                evaluation,
                folder,
                data=options["data"] or "",
                task=options["task"],
                executor=executor,
                device=device,
                data_dir=data_dir,
                resume=resume,
                progress=watch,
                stop=stop,
            )
    else:
        recipe = recipe_of(options, sets)
        with report_problems(handler):
            report = run(
                recipe,
                folder,
                device=device,
                data_dir=data_dir,
                resume=resume,
                executor=executor,
                progress=watch,
                stop=stop,
                consent=lambda splits: tell_work(
                    lambda: estimate_run(recipe, splits, folder, data_dir=data_dir), watch, yes=yes
                ),
            )
    print_evaluation(folder, report, json_path)
    if not options["network"] and recipe.quantization.bias is None and _breaks_biases(recipe):
        watch.say(WIDE_BIASES)
    watch.say(f"took {time.perf_counter() - start:.0f} s")


def _breaks_biases(recipe: Recipe) -> bool:
    """Return whether bit errors reach biases."""
    threats = recipe.evaluation.threats
    return any(isinstance(one, MemoryFaults) and "bias" in one.sites for one in threats)


def _evaluation_of_network(options: Options, sets: Sequence[str]) -> Evaluation:
    """Return what is measured on stored networks, which are neither built nor quantized."""
    for name in ("model", "weights", "bits", "scheme"):
        if options[name]:
            raise RecipeError(f"--{name}: wanted it, or --network, got both")
    return changed_evaluation({"threats": threats_of(options)}, sets)


def changed_evaluation(table: dict[str, Any], sets: Sequence[str]) -> Evaluation:
    """Return an evaluation of stored networks from its table; `sets` are laid on top.

    Raises:
        RecipeError: they name other fields than those of an evaluation.
        SpecError: a field is out of range.
    """
    changes = [parse_change(text) for text in sets]
    changed: dict[str, Any] = override({"evaluation": table}, changes)
    if more := sorted(changed.keys() - {"evaluation"}):
        raise RecipeError(f"--set {more[0]}: with networks, wanted fields of 'evaluation' alone")
    made = Evaluation.from_table(changed["evaluation"])
    assert isinstance(made, Evaluation)
    return made


def print_evaluation(folder: Path, report: Path, json_path: Path | None) -> None:
    """Print what was measured: one table with intervals, and a line for each network."""
    found = read_run(folder)
    header, *rows = accuracy_table(found)
    print_table(header, rows, title="accuracy, % (95 % interval)", numbers=True)
    for line in accuracy_lines(found):
        typer.echo(line)
    watch = watcher()
    for warning in found.facts.warnings or ():
        watch.say(f"warning: {warning}")
    if json_path:
        facts = {
            "title": found.facts.title,
            "data": found.facts.data,
            "model": found.facts.model,
            "warnings": list(found.facts.warnings or ()),
            "rows": [asdict(row) for row in found.rows],
        }
        write_text(json_path, json.dumps(facts, indent=1, allow_nan=False) + "\n")
    typer.echo(f"report: {report}")
