"""Every recipe that is shipped can be read, says whose numbers it reproduces, and runs."""

from pathlib import Path
from typing import Any

import pytest

from bitproof.core.errors import DataError
from bitproof.recipe import Recipe, read_recipe, run
from bitproof.stats import read_results

FOLDER = Path(__file__).parents[2] / "recipes"
OTHERS = ("inject", "hawx")
"""Words in the names of recipes of campaigns and searches, which have tests of their own."""
SHIPPED = sorted(
    path for path in FOLDER.glob("*.toml") if not any(word in path.name for word in OTHERS)
)
SMALL = {
    "train_size": 64,
    "test_size": 20,
    "epochs": 1,
    "images_per_epoch": 16,
    "batch_size": 16,
    "warmup_steps": 1,
    "grid_points": 3,
    "calibration_images": 16,
    "chips": 2,
    "images": 10,
    "attack_images": 10,
    "steps": 1,
    "queries": 2,
    "trials": 2,
    "batches": 1,
    "targets": 1,
}
"""Sizes that change how long a run takes, and not what it does."""


def shrink(value: Any, name: str = "") -> Any:
    """Return a recipe's table with all sizes replaced, and no more than two levels of a threat."""
    if isinstance(value, dict):
        return {key: shrink(part, key) for key, part in value.items()}
    if name == "levels":
        return value[:2]
    if name == "threats":
        return [shrink(threat) for threat in value]
    return SMALL.get(name, value)


def toy(path: Path) -> Recipe:
    return Recipe.model_validate(shrink(read_recipe(path).to_dict()))


def cases() -> list[Any]:
    """Return all recipes; what needs data files and a large network is slow."""
    return [
        pytest.param(
            path,
            id=path.stem,
            marks=[] if path.stem == "resq-digits" else [pytest.mark.slow],
        )
        for path in SHIPPED
    ]


def test_there_are_recipes() -> None:
    assert {"resq-digits", "resq-resnet20-cifar10-quick"} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_recipe_can_be_read_and_names_its_source(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert recipe.title
    assert "arXiv" in recipe.source or "doi" in recipe.source


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shrunken_recipe_does_the_same_work(path: Path) -> None:
    whole, small = read_recipe(path), toy(path)
    assert small.variants == whole.variants
    assert small.stages.keys() == whole.stages.keys()
    assert list(small.evaluation.labels()) == list(whole.evaluation.labels())


def on_multiplier(recipe: Recipe, variant: str) -> bool:
    """Return whether a network multiplies through tables, whose registers are not modelled."""
    return any(part in recipe.multipliers for part in variant.split("+"))


@pytest.mark.parametrize("path", cases())
def test_recipe_runs_at_toy_size(
    path: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    recipe = toy(path)
    needs_files = recipe.data.kind != "digits" or recipe.weights
    data_dir = request.getfixturevalue("data_dir") if needs_files else None
    try:
        recipe.data.load(data_dir)
    except DataError as error:
        pytest.skip(str(error)[:100])
    report = run(recipe, tmp_path / "run", device="cpu", data_dir=data_dir, recipe_dir=FOLDER)
    rows = read_results(tmp_path / "run" / "results.csv")
    assert report.stat().st_size > 10_000
    for variant in recipe.variants:
        mine = [row for row in rows if row.variant == variant]
        levels = {
            threat: [row.level for row in mine if (row.threat, row.metric) == (threat, "acc")]
            for threat in dict.fromkeys(row.threat for row in mine)
        }
        assert levels == {
            threat.title: pytest.approx(list(threat.levels or (0.0,)))
            for threat in recipe.evaluation.threats
            if threat.kind != "black_box_check"
            and not (threat.kind == "register_faults" and on_multiplier(recipe, variant))
        }
