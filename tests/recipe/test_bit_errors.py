"""The bit error robustness line as a recipe: from random weights to counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from bitproof.core.errors import RecipeError, SpecError
from bitproof.recipe import Recipe, read_recipe, run
from bitproof.recipe.toml import write_recipe
from bitproof.stats import read_results

SHORT = {"epochs": 1, "batch_size": 32, "images_per_epoch": 64}
LADDER: dict[str, Any] = {
    "name": "ladder",
    "data": {"kind": "digits", "train_size": 96, "test_size": 40},
    "model": {"kind": "digits_cnn"},
    "stages": {
        "normal": {
            "kind": "quantization_aware",
            "quantization": {"preset": "normal", "bits": 4, "calibration_images": 32},
            "optimization": SHORT,
        },
        "randbet": {
            "kind": "randbet",
            "quantization": {"preset": "rquant", "calibration_images": 32},
            "w_max": 0.2,
            "rates": [0.05],
            "activate_below": "none",
            "optimization": SHORT,
        },
    },
    "variants": ["normal", "randbet"],
    "evaluation": {
        "threats": [
            {"kind": "clean"},
            {"kind": "memory_faults", "levels": [0.05], "chips": 2, "images": 20},
        ]
    },
}


def with_stage(name: str, **fields: Any) -> Recipe:
    stages = {**LADDER["stages"], name: {**LADDER["stages"][name], **fields}}
    return Recipe.model_validate({**LADDER, "stages": stages})


def test_a_ladder_starts_from_random_weights_and_ends_on_its_own_words(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(LADDER)
    run(recipe, tmp_path / "run", device="cpu")
    rows = read_results(tmp_path / "run" / "results.csv")
    assert {row.variant for row in rows} == {"normal", "randbet"}
    for variant, bits, signed in (("normal", 4, True), ("randbet", 8, False)):
        record = json.loads((tmp_path / "run" / "records" / f"{variant}.json").read_text())
        assert record["scheme"]["weight"]["bits"] == bits
        assert record["scheme"]["weight"]["signed"] == signed
        assert record["stages"][0]["record"]["left_float"] == []
    warnings = json.loads((tmp_path / "run" / "run.json").read_text())["warnings"]
    assert [line for line in warnings if "integers against floats" not in line] == []


def test_what_is_trained_as_floats_is_told(tmp_path: Path) -> None:
    scheme = {"bias": "none", "calibration_images": 32}
    recipe = with_stage("randbet", quantization=scheme).model_copy(
        update={"variants": ("randbet",)}
    )
    run(recipe, tmp_path / "run", device="cpu")
    (warning, *_) = json.loads((tmp_path / "run" / "run.json").read_text())["warnings"]
    assert "randbet: randbet trained" in warning
    assert "parts of the network as floats" in warning


@pytest.mark.parametrize("variants", [["baseline", "randbet"], ["float"]])
def test_other_variants_need_weights_or_training(variants: list[str]) -> None:
    with pytest.raises(ValueError, match="variants that all begin with a"):
        Recipe.model_validate({**LADDER, "variants": variants})


def test_a_preset_is_written_out_and_read_back(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(LADDER)
    write_recipe(recipe, tmp_path / "recipe.toml")
    assert read_recipe(tmp_path / "recipe.toml") == recipe
    assert read_recipe(tmp_path / "recipe.toml").digest() == recipe.digest()


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("quantization", {"preset": "rqant"}, r"no preset 'rqant'\. Did you mean 'rquant'"),
        ("quantization", {"preset": ["rquant"]}, "no preset"),
        ("quantization", {"preset": "rquant", "bits": 9}, "bits"),
        ("rates", [], "rates"),
        ("rates", [1.5], "ber"),
        ("branches", "both", "branches"),
        ("w_max", 0, "w_max"),
    ],
)
def test_bad_fields_are_refused(tmp_path: Path, field: str, value: Any, problem: str) -> None:
    with pytest.raises((RecipeError, SpecError, ValueError), match=problem):
        with_stage("randbet", **{field: value})
