"""Runs whose variants are networks on approximate multipliers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitproof.core.errors import StoppedError
from bitproof.core.stop_request import StopRequest
from bitproof.kernels.library import VARIABLE, library
from bitproof.quant import load_network
from bitproof.recipe import Recipe, read_recipe, run
from bitproof.stats import read_results

TOY = Path(__file__).with_name("toy.toml")
VARIANTS = ["baseline", "*", "s1+rough", "rough+means", "rough+retrain", "rough+slopes"]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    table = read_recipe(TOY).to_dict()
    training = {"epochs": 1, "images_per_epoch": 32, "batch_size": 32}
    retrain = {"kind": "approximation_aware", "ber": 1e-2, "optimization": training}
    table["stages"] |= {
        "means": {"kind": "approximate", "correct_means": True},
        "retrain": retrain,
        "slopes": {**retrain, "ber": 0.0, "gradient": "table"},
    }
    table["multipliers"] = {
        "rough": {"kind": "sign_magnitude", "of": {"kind": "truncated", "columns": 11}},
        "odd": {"kind": "mitchell", "signed": True},
    }
    return Recipe.model_validate({**table, "variants": VARIANTS})


@pytest.fixture(scope="module")
def finished(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("multipliers") / "run"
    run(recipe, out, device="cpu")
    return out


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, "none")
    library.cache_clear()
    yield
    monkeypatch.delenv(VARIABLE)
    library.cache_clear()


def test_every_variant_is_measured_on_its_multiplier(recipe: Recipe, finished: Path) -> None:
    rows = read_results(finished / "results.csv")
    assert list(dict.fromkeys(row.variant for row in rows)) == list(recipe.variants)
    networks = {name: load_network(finished / "networks" / name) for name in recipe.variants}
    assert not networks["baseline"].products
    names = {own.names for own in networks["s1+rough"].products.values()}
    assert names == {("sign_magnitude:truncated:columns=11",)}
    assert any(bool(own.offset.any()) for own in networks["rough+means"].products.values())
    assert networks["rough"].tensors.keys() == networks["baseline"].tensors.keys()
    assert len({network.digest() for network in networks.values()}) == len(networks)


def test_the_run_tells_what_multipliers_cost_and_how_far_they_are_off(finished: Path) -> None:
    told = json.loads((finished / "run.json").read_text())
    assert told["multipliers"]["rough"]["power_mw"] is None
    assert told["multipliers"]["rough"]["med"] > told["multipliers"]["odd"]["nmed"] > 0
    assert told["stages"]["odd"]["multiplier"] == {"kind": "mitchell", "signed": True}
    assert "Approximate multipliers" in (finished / "report.html").read_text()


@pytest.mark.slow
def test_the_results_do_not_depend_on_the_library(
    recipe: Recipe, finished: Path, tmp_path: Path, without_library: None
) -> None:
    assert library() is None
    run(recipe, tmp_path / "run", device="cpu")
    there = (tmp_path / "run" / "results.csv").read_bytes()
    assert there == (finished / "results.csv").read_bytes()


@pytest.mark.slow
def test_a_run_that_was_halted_goes_on_to_the_same_bytes(
    recipe: Recipe, finished: Path, tmp_path: Path
) -> None:
    class After(StopRequest):
        """Asks after some looks."""

        def __init__(self, looks: int) -> None:
            super().__init__()
            self.looks = looks

        def check(self) -> None:
            self.looks -= 1
            if self.looks < 0:
                self.request()
            super().check()

    halts = 0
    for looks in (3, 9, 14, 20, 1000):
        try:
            run(recipe, tmp_path / "run", device="cpu", resume=halts > 0, stop=After(looks))
        except StoppedError:
            halts += 1
    assert halts >= 3
    there = (tmp_path / "run" / "results.csv").read_bytes()
    assert there == (finished / "results.csv").read_bytes()
