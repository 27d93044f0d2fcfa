"""Does bitproof support a network? What it says, printed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from torch import nn

from bitproof.cli.console import print_table, watcher
from bitproof.core.errors import RecipeError, shorten
from bitproof.core.files import write_text
from bitproof.core.rng import make_generator
from bitproof.models import ModelSpec, take_weights
from bitproof.quant.scheme import ACCURATE
from bitproof.recipe.building import build, untrained, weights_of
from bitproof.recipe.check import check
from bitproof.recipe.check_result import COLUMNS, Check
from bitproof.recipe.overrides import Change, parse_change
from bitproof.recipe.recipe import NetworkRecipe
from bitproof.recipe.toml import parse_spec

CALIBRATION, TEST = 512, 1000
"""Training inputs that ranges are measured on, and test inputs that accuracies are compared on."""
WIDTH = 8
"""Bits that `evaluate` takes where none are said."""
NO_DATA = "digits"
"""Stands in the recipe for data that nobody asked for."""


def print_check(
    model: str,
    *,
    weights: str | None,
    data: str | None,
    bits: int,
    shape: str | None,
    classes: int,
    sets: Sequence[str],
    json_path: Path | None,
    data_dir: Path | None,
) -> None:
    """Print what becomes of a model as an integer network.

    `sets`, of `KEY=VALUE`, change the recipe that the options stand for, such as `data.channels=1`.

    Raises:
        BitproofError: in its kinds, for what cannot be built, read or quantized.
    """
    if data and shape:
        raise RecipeError("--input: wanted it, or --data, got both")
    options = {"model": model, "weights": weights, "data": data or NO_DATA}
    changes = [Change((name,), value, f"--{name}") for name, value in options.items() if value]
    scheme = {"preset": ACCURATE, "bits": bits, "activation_bits": bits}
    changes.append(Change(("name",), "check", "check"))
    changes.append(Change(("quantization",), scheme, "--bits"))
    changes += map(parse_change, sets)
    recipe = parse_spec("", NetworkRecipe, name="", changes=changes)
    assert recipe.model is not None
    path = weights_of(recipe.weights, recipe.model, recipe_dir=None, data_dir=data_dir)
    if data:
        found, notes = _with_data(recipe, path, model, data_dir)
    else:
        network, notes = _built(recipe.model, path, _shape_of(shape), classes)
        found = check(network, _shape_of(shape), scheme=recipe.quantization, name=model)
    watch = watcher()
    for note in notes:
        watch.say(note)
    print_table(COLUMNS, found.rows, title=found.lines[0], numbers=True)
    for line in found.lines[1:]:
        typer.echo(line)
    said = [f" --weights {weights}"] if weights else []
    said += [f" --bits {bits}"] if bits != WIDTH else []
    said += [f" --data {data or 'DATA'} --ber 1e-3", *(f" --set {text}" for text in sets)]
    typer.echo(f"next: bitproof evaluate --model {model}{''.join(said)}")
    if json_path:
        content: Mapping[str, Any] = {**found.to_dict(), "notes": notes}
        write_text(json_path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _with_data(
    recipe: NetworkRecipe, path: Path | None, name: str, data_dir: Path | None
) -> tuple[Check, list[str]]:
    spec, taken = recipe.model, list[str]()
    assert spec is not None
    splits = recipe.data.load(data_dir)
    model = build(spec, splits.train, weights=path, tell=taken.append)
    notes = [f"weights: {said}" for said in taken]
    if path is None and (warning := untrained(model, spec, splits.train)):
        notes.append(f"warning: {warning}")
    inputs = splits.train.inputs(slice(0, CALIBRATION))
    test = splits.test.first(min(len(splits.test), TEST))
    return check(model, inputs, test=test, scheme=recipe.quantization, name=name), notes


def _built(
    spec: ModelSpec, path: Path | None, shape: tuple[int, ...] | None, classes: int
) -> tuple[nn.Module, list[str]]:
    """Return a model for inputs of a shape, and what there is to say of its weights."""
    channels = shape[0] if shape else 3
    size = shape[1] if shape and len(shape) > 1 else 32
    model = spec.build(
        in_channels=channels, image_size=size, n_classes=classes, generator=make_generator(0)
    )
    if path is None:
        return model, ["weights: none given; those that the model is made with"]
    model, said = take_weights(model, path)
    return model, [f"weights: {said}"] if said else []


def _shape_of(text: str | None) -> tuple[int, ...] | None:
    """Return the shape of one input, of sizes with commas."""
    if text is None:
        return None
    parts = [part.strip() for part in text.replace("x", ",").split(",")]
    if not all(part.isdecimal() and 0 < int(part) < 2**20 for part in parts):
        raise RecipeError(f"--input: wanted sizes such as 3,32,32, got {shorten(text)}")
    return tuple(map(int, parts))
