"""What recipes say of the weights that they start from."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bitproof.core.progress import Progress
from bitproof.core.rng import make_generator
from bitproof.models import DigitsCNN, take_weights
from bitproof.recipe import InjectionRecipe, Recipe, inject_recipe, run
from bitproof.recipe.building import find_weights

SPEC = {"kind": "digits_cnn", "width": 4}
DATA = {"kind": "digits", "train_size": 64, "test_size": 20}


class Said(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = DigitsCNN(width=4).build(
        in_channels=1, image_size=8, n_classes=10, generator=make_generator(3)
    )
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def campaign(folder: Path, **changes: object) -> tuple[list[str], dict[str, object], str]:
    table = {"model": SPEC, "data": DATA, "injection": {"trials": 4, "images": 8}, **changes}
    said = Said()
    recipe = InjectionRecipe.model_validate(table)
    report = inject_recipe(recipe, folder / "out", recipe_dir=folder, progress=said)
    assert report is not None
    facts = json.loads((folder / "out/summary.json").read_text())["campaign"]
    return said.lines, facts, report.read_text()


@pytest.mark.slow
def test_a_campaign_tells_what_was_taken_of_a_file(checkpoint: Path) -> None:
    lines, facts, report = campaign(checkpoint.parent, weights=checkpoint.name)
    told = "last.ckpt, took 'state_dict', dropped prefix 'model.'"
    assert f"weights: {told}" in lines
    assert facts["weights"] == told
    assert "last.ckpt, took" in report
    assert not any("untrained" in line for line in lines)


def test_a_campaign_on_an_untrained_network_warns(tmp_path: Path) -> None:
    lines, facts, report = campaign(tmp_path)
    (warning,) = (line for line in lines if line.startswith("warning: "))
    assert "the network is untrained: no weights were given" in warning
    assert facts["warnings"][0] == warning.removeprefix("warning: ")  # type: ignore[index]
    assert "the network is untrained" in report


def test_a_run_tells_what_was_taken_of_a_file(checkpoint: Path, tmp_path: Path) -> None:
    threats = [{"kind": "clean"}]
    table = {"name": "toy", "model": SPEC, "data": DATA, "weights": f"{checkpoint.name}:state_dict"}
    recipe = Recipe.model_validate({**table, "evaluation": {"threats": threats}})
    said = Said()
    report = run(recipe, tmp_path / "run", device="cpu", recipe_dir=tmp_path, progress=said)
    assert "weights: took 'state_dict', dropped prefix 'model.'" in said.lines
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["weights"].endswith("took 'state_dict', dropped prefix 'model.'")
    assert "dropped prefix" in report.read_text()


def test_a_choice_is_found_where_its_file_lies(checkpoint: Path) -> None:
    found = find_weights("last.ckpt:state_dict", checkpoint.parent)
    assert found == checkpoint.parent / "last.ckpt:state_dict"


def test_weights_of_a_plain_network_fit_it_behind_a_normalisation(tmp_path: Path) -> None:
    inner = nn.Linear(3, 2)
    torch.save(inner.state_dict(), tmp_path / "w.pt")
    loaded, said = take_weights(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), tmp_path / "w.pt")
    assert said == "put under '1.'"
    assert torch.equal(loaded.state_dict()["1.weight"], inner.weight)


FACTORY = """
import torch
from bitproof.models import DigitsCNN, load_weights
from bitproof.core.rng import make_generator

def random():
    spec = DigitsCNN(width=4)
    seed = int(torch.randint(1000, ()))
    sizes = {"in_channels": 1, "image_size": 8, "n_classes": 10}
    return spec.build(**sizes, generator=make_generator(seed))

def loaded():
    torch.manual_seed(0)
    return random()
"""


@pytest.mark.parametrize(("name", "warned"), [("random", True), ("loaded", False)])
def test_a_factory_may_bring_its_weights_and_random_ones_warn(
    name: str, warned: bool, tmp_path: Path
) -> None:
    (tmp_path / "bare_net.py").write_text(FACTORY)
    table = {"name": "toy", "model": f"bare_net:{name}", "data": DATA}
    recipe = Recipe.model_validate({**table, "evaluation": {"threats": [{"kind": "clean"}]}})
    said = Said()
    report = run(recipe, tmp_path / "run", device="cpu", recipe_dir=tmp_path, progress=said)
    facts = json.loads((tmp_path / "run/run.json").read_text())
    for told in (said.lines, facts["warnings"], [report.read_text()]):
        assert any("the network is untrained" in line for line in told) is warned


def test_a_built_in_architecture_needs_weights_or_training() -> None:
    with pytest.raises(ValueError, match="wanted 'weights', or a table 'train'"):
        Recipe.model_validate({"name": "toy", "model": SPEC, "data": DATA})
