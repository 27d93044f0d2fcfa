"""`bitproof matrix`: networks times threats, from a recipe or for networks that are there."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer

from bitproof.cli.console import print_table, watcher
from bitproof.cli.evaluate import changed_evaluation, parse_numbers
from bitproof.cli.outcome import Finish, report_problems
from bitproof.cli.running import executor_of, make_room, run_recipe, shipped_recipe
from bitproof.cli.work import tell_work
from bitproof.core.directory import FACTS
from bitproof.core.errors import RecipeError, near, shorten
from bitproof.core.files import write_text
from bitproof.core.stop_request import StopRequest
from bitproof.evaluation import Executor
from bitproof.recipe.matrix_threats import LISTS, MatrixThreats, read_choice
from bitproof.recipe.measure_networks import measure_networks
from bitproof.recipe.stored_networks import images_of
from bitproof.recipe.work import estimate_measurement
from bitproof.report import matrix_choices, matrix_lines, matrix_rows, write_matrix

RECIPE = ".toml"
DEMO = "matrix-digits.toml"
DEMO_WORKERS = 2
Options = Mapping[str, Any]


def run_matrix(
    what: Sequence[str],
    options: Options,
    *,
    sets: Sequence[str],
    out: Path | None,
    json_path: Path | None,
    executor: Executor | None,
    device: str,
    data_dir: Path | None,
    resume: bool,
    yes: bool,
) -> None:
    """Measure networks under all threats, print the matrix and keep it as a page.

    Raises:
        RecipeError: options do not go together.
    """
    places = [Path(word) for word in what]
    recipes = [place for place in places if place.suffix == RECIPE]
    show = partial(print_matrix, json_path=json_path)
    if recipes:
        if len(places) > 1:
            raise RecipeError(f"matrix: wanted one recipe, or networks, got {len(places)} names")
        if given := [name for name, value in options.items() if value is not None]:
            raise RecipeError(
                f"--{given[0]}: wanted it for networks; a recipe says so itself, see --set"
            )
        run_recipe(
            places[0],
            out,
            sets=sets,
            executor=executor,
            device=device,
            data_dir=data_dir,
            resume=resume,
            yes=yes,
            show=lambda folder, _report: show(folder),
        )
        return
    asked = threats_of(options)
    start = time.perf_counter()
    folder, watch, stop = out or Path("runs") / "matrix", watcher(), StopRequest()
    with report_problems(Finish(stop, begun=(folder / FACTS).exists)):
        test = images_of(places, data=options["data"] or "", data_dir=data_dir)
        evaluation, left = asked.evaluation(test)
        for line in left:
            watch.say(line)
        evaluation = changed_evaluation(evaluation.model_dump(mode="json"), sets)
        measure_networks(
            places,
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
            consent=lambda networks, images: tell_work(
                lambda: estimate_measurement(networks, evaluation, images, data_dir=data_dir),
                watch,
                yes=yes,
            ),
        )
    show(folder)
    watch.say(f"took {time.perf_counter() - start:.0f} s")


def run_matrix_demo(
    out: Path, *, sets: Sequence[str], device: str, resume: bool, fresh: bool, yes: bool
) -> None:
    """Run the matrix on digits; in its usual place an earlier one makes room."""
    make_room(out, wanted=fresh and not resume)
    run_recipe(
        shipped_recipe(DEMO),
        out,
        sets=sets,
        executor=executor_of("auto", min(DEMO_WORKERS, os.cpu_count() or 1)),
        device=device,
        data_dir=None,
        resume=resume,
        yes=yes,
        show=lambda folder, _report: print_matrix(folder),
    )


def threats_of(options: Options) -> MatrixThreats:
    """Return the threats that options ask for.

    Raises:
        RecipeError: an option is malformed.
    """
    given: dict[str, Any] = {}
    if options["threats"] is not None:
        if options["threats"] not in LISTS:
            raise RecipeError(
                f"--threats: no list {shorten(options['threats'])}. "
                f"{near(options['threats'], LISTS)}"
            )
        given["which"] = options["threats"]
    if options["ber"] is not None:
        given["bers"] = tuple(parse_numbers(options["ber"], "--ber"))
        if given["bers"][-1] > 1:
            raise RecipeError("--ber: wanted fractions up to 1 (0.1 % is 1e-3)")
    if options["epsilon"] is not None:
        radii = parse_numbers(options["epsilon"], "--epsilon")
        if len(radii) > 1:
            raise RecipeError("--epsilon: wanted one radius; half of it is measured, too")
        given["epsilon"] = radii[0]
    for name in ("images", "chips", "multiplier", "seed"):
        if options[name] is not None:
            given[name] = options[name]
    if options["choice"] is not None:
        given["choice"] = read_choice(options["choice"])
    return MatrixThreats(**given)


def print_matrix(folder: Path, *, json_path: Path | None = None) -> None:
    """Write the page of a matrix; print its table, what to choose when, and where the page is."""
    page = write_matrix(folder)
    header, *rows = matrix_lines(folder)
    print_table(header, rows, title="accuracy, % (± half of the 95 % interval)", numbers=True)
    for line in matrix_choices(folder):
        typer.echo(line)
    if json_path:
        content = {"rows": matrix_rows(folder), "choices": list(matrix_choices(folder))}
        write_text(json_path, json.dumps(content, indent=1, allow_nan=False) + "\n")
        typer.echo(f"all numbers: {json_path}")
    typer.echo(f"matrix: {page}")
