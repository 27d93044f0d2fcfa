"""Own data in recipes, on the command line and in Python: run directory, resume, identity."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bitproof.core.directory import read_json
from bitproof.core.errors import DataError, ModelError, RecipeError, ResumeError
from bitproof.data import DATA, Dataset, Splits
from bitproof.injection import Injection
from bitproof.models import InMemoryModel
from bitproof.quant import quantize, save_network
from bitproof.recipe import InjectionRecipe, inject_recipe, read_recipe, run
from bitproof.stats import read_results

RECIPE = """
name = "own"
{data}
model = {{ kind = "digits_cnn", width = 4 }}
variants = ["baseline"]
train = {{ epochs = 1 }}
quantization = {{ calibration_images = 16 }}
evaluation = {{ threats = [{{ kind = "clean" }}] }}
"""


def images(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8), np.uint8), np.arange(n) % 3


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Return a recipe whose data lie beside it."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (x, y), (x_test, y_test) = images(0, 40), images(1, 20)
    np.savez(folder / "mine.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    (folder / "own.toml").write_text(RECIPE.format(data='data = "npz:mine.npz"'))
    return folder / "own.toml"


def test_a_run_finds_its_data_beside_the_recipe_and_refuses_changed_ones(
    recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(recipe, out, device="cpu")
    assert read_json(out / "run.json")["data"]["name"] == "mine"
    before = (out / "results.csv").read_bytes()
    run(str(recipe), str(out), device="cpu", resume=True)
    assert (out / "results.csv").read_bytes() == before
    (x, y), (x_test, y_test) = images(7, 40), images(1, 20)
    np.savez(recipe.parent / "mine.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    with pytest.raises(ResumeError, match=r"cannot go on.*data\.train") as caught:
        run(recipe, out, device="cpu", resume=True)
    assert len(str(caught.value).splitlines()) == 1


def test_notes_about_data_are_warnings_of_the_run(recipe: Path, tmp_path: Path) -> None:
    x, y = images(0, 40)
    np.savez(recipe.parent / "mine.npz", x=x, y=np.sort(y))
    run(recipe, tmp_path / "run", device="cpu")
    warnings = " ".join(read_json(tmp_path / "run" / "run.json")["warnings"])
    assert "came sorted by class" in warnings
    assert "were cut off as one" in warnings


def test_own_splits_and_model_get_a_run_directory_and_resume(tmp_path: Path) -> None:
    path, out = tmp_path / "r.toml", tmp_path / "run"
    path.write_text(
        RECIPE.format(data="")
        .replace("train = ", "train_ = ")
        .replace("train_ = { epochs = 1 }\n", "")
    )
    x, y = images(0, 60)
    data = Dataset.from_arrays(x, y, name="rays")
    splits = Splits(data.first(40), data.subset([]), data.subset(range(40, 60)))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    report = run(path, out, splits=splits, model=model, device="cpu")
    assert report == out / "report.html"
    facts = read_json(out / "run.json")
    assert (facts["data"]["name"], facts["model"]["kind"]) == ("rays", "in_memory")
    wanted = float((model(splits.test.inputs()).argmax(1) == splits.test.labels).float().mean())
    found = {row.metric: row.value for row in read_results(out / "results.csv")}
    assert found["acc"] == pytest.approx(wanted, abs=0.051)  # eight bits: one answer in twenty
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    before = (out / "results.csv").read_bytes()
    run(path, out, splits=splits, model=model, device="cpu", resume=True)
    assert (out / "results.csv").read_bytes() == before
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    with pytest.raises(ResumeError, match=r"weights_digest"):
        run(path, out, splits=splits, model=model, device="cpu", resume=True)


def new_function() -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that lies at another address each time."""
    return lambda x: x


class Activated(nn.Module):
    """A linear layer and what its user says is done to it; one class for several functions."""

    def __init__(self, activation: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.activation, self.layer = activation, nn.Linear(4, 2)

    def extra_repr(self) -> str:
        return f"activation={self.activation}"  # with its address


def test_own_models_of_other_structure_and_equal_weights_are_told_apart() -> None:
    layer = nn.Linear(4, 2)
    alone, squeezed = (nn.Sequential(layer, end) for end in (nn.ReLU(), nn.Sigmoid()))
    strided, even = nn.AvgPool2d(3, stride=2), nn.AvgPool2d(3, stride=1)
    digests = [
        InMemoryModel.of(module).weights_digest
        for module in (alone, squeezed, nn.Sequential(layer, strided), nn.Sequential(layer, even))
    ]
    assert len({*digests}) == 4
    assert InMemoryModel.of(nn.Sequential(layer, nn.ReLU())).weights_digest == digests[0]
    first, second = (Activated(new_function()) for _ in range(2))
    second.load_state_dict(first.state_dict())
    assert repr(first) != repr(second)
    assert InMemoryModel.of(first).weights_digest == InMemoryModel.of(second).weights_digest


def test_a_recipe_of_weights_takes_no_own_model(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text('weights = "w.safetensors"\n' + recipe.read_text())
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    for given in (recipe, read_recipe(recipe)):
        with pytest.raises(
            RecipeError, match=r"weights: wanted none .* names 'w\.safeten"
        ) as caught:
            run(given, tmp_path / "run", model=model, device="cpu")
        assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_stored_recipe_of_own_splits_says_that_they_came_from_python(tmp_path: Path) -> None:
    path, out = tmp_path / "r.toml", tmp_path / "run"
    path.write_text(RECIPE.format(data='data = "digits"'))
    data = Dataset.from_arrays(*images(0, 60), name="rays")
    run(path, out, splits=Splits(data.first(40), data.subset([]), data.first(20)), device="cpu")
    stored = read_recipe(out / "recipe.toml")
    assert stored.data.kind == "in_memory"
    with pytest.raises(DataError, match=r"'rays' was handed over in Python; call bp\.run"):
        run(stored, tmp_path / "other", device="cpu")


def test_a_stored_recipe_of_an_own_model_says_so(recipe: Path, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    run(recipe, tmp_path / "run", model=model, device="cpu")
    stored = read_recipe(tmp_path / "run" / "recipe.toml")
    with pytest.raises(ModelError, match=r"Sequential was handed over in Python"):
        run(stored, tmp_path / "other", device="cpu", recipe_dir=recipe.parent)


@pytest.mark.parametrize("shape", [(3, 32), (7,), (1, 4, 4, 4)])
def test_a_network_for_images_takes_no_other_inputs(shape: tuple[int, ...], tmp_path: Path) -> None:
    data = Dataset.from_arrays(torch.rand(20, *shape), torch.arange(20) % 3, name="rays")
    splits = Splits(data, data.subset([]), data)
    (tmp_path / "r.toml").write_text(RECIPE.format(data=""))
    with pytest.raises(ModelError, match=r"digits_cnn: wanted images .*, rays holds inputs of"):
        run(tmp_path / "r.toml", tmp_path / "run", splits=splits, device="cpu")


def test_a_campaign_tells_notes_and_refuses_changed_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path, out = tmp_path / "a.npz", tmp_path / "campaign"
    network = quantize(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(9, 6))
    save_network(network, tmp_path / "network")
    recipe = InjectionRecipe(
        data=DATA.build(f"npz:{path}"),
        network=str(tmp_path / "network"),
        injection=Injection(trials=8, images=6),
    )
    np.savez(path, x=rng.random((40, 6)), y=np.sort(np.arange(40) % 2))
    inject_recipe(recipe, out)
    warnings = " ".join(read_json(out / "summary.json")["campaign"]["warnings"])
    assert "came sorted by class" in warnings
    assert "cut off as one" in warnings
    inject_recipe(recipe, out, resume=True)
    np.savez(path, x=rng.random((40, 6)), y=np.sort(np.arange(40) % 2))
    with pytest.raises(ResumeError, match=r"another campaign\. images: [0-9a-f]{40,}") as caught:
        inject_recipe(recipe, out, resume=True)
    assert len(str(caught.value).splitlines()) == 1
