"""Recipes of full size go through every phase, with few images and one epoch."""

from pathlib import Path
from typing import Any

import pytest

from bitproof.recipe import Recipe, run
from bitproof.reproduce import Job, all_jobs, find_table
from bitproof.stats import read_results

SMALL = {
    "variant": "mini",
    "train_size": 64,
    "test_size": 8,
    "epochs": 1,
    "images_per_epoch": 8,
    "batch_size": 8,
    "warmup_steps": 1,
    "grid_points": 2,
    "calibration_images": 8,
    "chips": 1,
    "images": 4,
    "attack_images": 4,
    "queries": 1,
    "steps": 1,
}
"""Sizes that change how long a run takes, and not what it does."""


def shrink(value: Any, name: str = "") -> Any:
    """Return a recipe's table with all sizes replaced, and one level of each threat."""
    if isinstance(value, dict):
        return {key: shrink(part, key) for key, part in value.items()}
    if name == "levels":
        return value[:1]
    if name == "threats":
        return [shrink(threat) for threat in value]
    return ["float", "baseline", "s1+s2+s3"] if name == "variants" else SMALL.get(name, value)


def test_a_shrunken_recipe_keeps_its_method() -> None:
    for job in all_jobs([find_table("resq-matrix")], ["full"]):
        small = Recipe.model_validate(shrink(job.recipe.to_dict()))
        assert (small.model, small.stages.keys()) == (job.recipe.model, job.recipe.stages.keys())


@pytest.mark.slow
@pytest.mark.parametrize(
    "job",
    [job for job in all_jobs(sizes=["full"]) if job.dataset == "cifar100"],
    ids=lambda job: job.name,
)
def test_a_full_recipe_runs_at_toy_size(job: Job, tmp_path: Path, data_dir: Path) -> None:
    recipe = Recipe.model_validate(shrink(job.recipe.to_dict()))
    run(recipe, tmp_path / "run", device="cpu", data_dir=data_dir / "mini")
    measured = {row.variant for row in read_results(tmp_path / "run" / "results.csv")}
    assert measured == {"float", "baseline", "s1+s2+s3"}
