"""`bitproof analyze`: scaling factors of networks side by side, and what faults make of them."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import typer

from bitproof.cli.console import print_table, watcher
from bitproof.cli.outcome import report_problems
from bitproof.core.errors import RecipeError
from bitproof.core.files import write_text
from bitproof.data import Dataset
from bitproof.quant import IntegerNetwork
from bitproof.recipe.analysis import Analysis, NetworkAnalysis, analyze, losses_of
from bitproof.recipe.stored_networks import open_networks
from bitproof.report.run import ANALYSIS, read_run
from bitproof.report.scaling import correlation_text, layer_cells, mean_cells

MOST_BESIDE = 4
"""Networks whose layers are printed side by side."""
MEANS = (
    "",
    "weight step",
    "activation step",
    "product",
    "flip / rms",
    "failures, %",
)


def print_analysis(
    places: Sequence[Path],
    *,
    data: str,
    trials: int,
    images: int,
    seed: int,
    threads: int | None,
    json_path: Path | None,
    data_dir: Path | None,
) -> None:
    """Analyze networks; print, and keep what was found beside a run that is the only place."""
    if threads:
        torch.set_num_threads(threads)
    with report_problems():
        networks, test = _open(places, data, data_dir)
        alone = places[0] if len(places) == 1 and places[0].is_dir() else None
        measured = alone is not None and (alone / "results.csv").is_file()
        found = analyze(
            networks,
            test,
            trials=trials,
            images=images,
            losses=losses_of(read_run(alone)) if alone is not None and measured else None,
            seed=seed,
            progress=watcher(),
        )
        _print(found)
        text = json.dumps(found.to_dict(), indent=1) + "\n"
        if json_path is not None:
            write_text(json_path, text)
        if alone is not None:
            write_text(alone / ANALYSIS, text)
            typer.echo(f"kept in {alone / ANALYSIS}; bitproof report {alone} shows it")


def _open(
    places: Sequence[Path], data: str, data_dir: Path | None
) -> tuple[dict[str, IntegerNetwork], Dataset]:
    """Return all networks, named apart, and the images that they share."""
    networks: dict[str, IntegerNetwork] = {}
    test = None
    for place in places:
        own, images = open_networks(place, data=data, data_dir=data_dir)
        if test is not None and test.digest() != images.digest():
            raise RecipeError(
                f"{place}: wanted networks for {test.name}, got one for {images.name}; "
                "analyze them apart"
            )
        test = images
        for name, network in own.items():
            known = name if name not in networks else f"{place}:{name}"
            networks[known] = network
    assert test is not None
    return networks, test


def _print(found: Analysis) -> None:
    rows = [mean_cells(one.to_dict()) for one in found.networks]
    print_table(MEANS, rows, title="Geometric means over layers", numbers=True)
    if len(found.networks) <= MOST_BESIDE:
        _print_layers(found.networks)
    for one in found.correlations:
        typer.echo(correlation_text(one.to_dict()))


def _print_layers(networks: Sequence[NetworkAnalysis]) -> None:
    header = ["layer"]
    for one in networks:
        header += [f"{one.name}: product", "flip / rms", "failures, %"]
    names = dict.fromkeys(layer.layer for one in networks for layer in one.layers)
    tables = [layer_cells(one.to_dict()) for one in networks]
    rows = [
        [name, *(cell for table in tables for cell in table.get(name, ("",) * 3))] for name in names
    ]
    title = "By layer: step of its sums, root mean square flip of what it reads, failure rate"
    print_table(header, rows, title=title, numbers=True)
