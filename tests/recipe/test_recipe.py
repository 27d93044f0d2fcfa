from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bitproof.approx import EvoApprox, Truncated
from bitproof.harden import Approximate, ApproximationAware
from bitproof.recipe import Recipe, read_recipe
from bitproof.recipe.toml import write_recipe

BASE: dict[str, Any] = {
    "name": "x",
    "data": "digits",
    "model": {"kind": "digits_cnn"},
    "train": {},
    "stages": {"retrain": {"kind": "approximation_aware"}},
    "multipliers": {
        "mild": {"kind": "truncated", "columns": 2},
        "Rough": {"kind": "truncated", "columns": 6},
    },
}


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({**BASE, **changes})


def test_a_star_stands_for_each_multiplier_in_turn() -> None:
    variants = recipe(variants=["float", "baseline", "*", "*+retrain", "retrain+mild"]).variants
    assert variants == (
        *("float", "baseline", "mild", "Rough", "mild+retrain", "Rough+retrain", "retrain+mild"),
    )


def test_variants_that_a_star_repeats_are_refused() -> None:
    with pytest.raises(ValidationError, match="wanted each once"):
        recipe(variants=["baseline", "*", "mild"])


def test_a_star_without_multipliers_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"multipliers for '\*\+retrain', there are none"):
        recipe(variants=["baseline", "*+retrain"], multipliers={})


@pytest.mark.parametrize("name", ["baseline", "float", "retrain"])
def test_a_multiplier_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(ValidationError, match=f"another name for multiplier '{name}': it is taken"):
        recipe(multipliers={name: {"kind": "exact"}})


def test_near_multipliers_are_named() -> None:
    with pytest.raises(ValidationError, match=r"no stage 'mild2' in .*Did you mean 'mild'"):
        recipe(variants=["retrain+mild2"])


def test_a_multiplier_is_a_stage() -> None:
    found = recipe()
    assert found.stage("mild") == Approximate(multiplier=Truncated(columns=2))
    assert found.stage("retrain") == ApproximationAware()


def test_a_recipe_with_a_star_survives_a_round_trip(tmp_path: Path) -> None:
    before = recipe(variants=["baseline", "*"])
    write_recipe(before, tmp_path / "r.toml")
    assert read_recipe(tmp_path / "r.toml") == before


def test_multipliers_count_in_the_digest() -> None:
    other = {**BASE["multipliers"], "mild": {"kind": "evoapprox", "name": "mul8s_1L2H"}}
    assert recipe(multipliers=other).multipliers["mild"] == EvoApprox(name="mul8s_1L2H")
    assert recipe(multipliers=other).digest() != recipe().digest()
