"""The key `task` of recipes: what it holds, what it decides, and what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import DataError, RecipeError
from bitproof.core.rng import make_generator
from bitproof.data import DATA, Dataset, DataSource
from bitproof.data.dataset import Published
from bitproof.data.layout import Layout
from bitproof.metrics import Binary, Regression
from bitproof.recipe import InjectionRecipe, Recipe, inject_recipe, run
from bitproof.stats import read_results


class BrightSides(DataSource):
    """Tiny images, labelled 1 where the left half is the brighter one."""

    kind: Literal["bright_sides"] = "bright_sides"

    def layouts(self) -> tuple[Layout, ...]:
        return ()

    def read(self, data_dir: Path | None) -> Published:  # noqa: ARG002
        images = torch.rand(120, 1, 4, 4, generator=make_generator(0, "sides"))
        labels = (images[..., :2].sum((1, 2, 3)) > images[..., 2:].sum((1, 2, 3))).long()
        data = Dataset("bright_sides", images, labels, 2)
        return Published(train=data.first(60), test=data.subset(range(60, 120)))


@pytest.fixture(autouse=True)
def source() -> Iterator[None]:
    DATA.register(BrightSides)
    yield
    del DATA._kinds["bright_sides"]


class Sides(nn.Module):
    """The difference of the halves, by one output."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Linear(16, 1)
        weights = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(4)
        self.weigh.weight.data, self.weigh.bias.data = weights[None], torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.weigh(x.flatten(1))
        return found


def judged(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs[:, 0] < 0) == labels.bool()


def table(**changes: Any) -> dict[str, Any]:
    model = f"{__name__}:Sides"
    return {"name": "sides", "data": "bright_sides", "model": model, "seed": 0, **changes}


def test_recipes_name_a_task_by_kind_or_table() -> None:
    named = InjectionRecipe.model_validate(table(task="binary"))
    assert named.task == Binary()
    whole = {"kind": "regression", "tolerance": 0.5}
    recipe = InjectionRecipe.model_validate(table(task=whole))
    assert recipe.task == Regression(tolerance=0.5)
    assert InjectionRecipe.model_validate(recipe.to_dict()) == recipe
    assert InjectionRecipe.model_validate(table()).task is None


@pytest.mark.parametrize(
    "task", [None, "binary", {"kind": "own", "function": f"{__name__}:judged"}]
)
def test_campaigns_of_a_recipe_judge_by_its_task(tmp_path: Path, task: Any) -> None:
    injection = {"trials": 10, "images": 40}
    recipe = InjectionRecipe.model_validate(table(task=task, injection=injection))
    assert inject_recipe(recipe, tmp_path / "c") is not None
    facts = json.loads((tmp_path / "c" / "summary.json").read_text())["campaign"]
    assert facts["task"]["kind"] == ("own" if isinstance(task, dict) else "binary")
    assert (facts["golden_acc"][1] > 0.9) == (not isinstance(task, dict))


def test_a_task_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    recipe = InjectionRecipe.model_validate(table(task="segmentation"))
    with pytest.raises(DataError, match="bright_sides: task 'segmentation' wants outputs"):
        inject_recipe(recipe, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def weights(folder: Path) -> str:
    torch.save(Sides().state_dict(), folder / "sides.pt")
    return "sides.pt"


def test_a_run_measures_a_binary_network_on_given_weights(tmp_path: Path) -> None:
    threats = [{"kind": "clean"}, {"kind": "memory_faults", "levels": [0.01], "chips": 2}]
    recipe = Recipe.model_validate(
        table(weights=weights(tmp_path), evaluation={"threats": threats})
    )
    run(recipe, tmp_path / "run", recipe_dir=tmp_path, device="cpu")
    rows = read_results(tmp_path / "run" / "results.csv")
    clean = {row.variant: row.value for row in rows if row.threat == "clean"}
    assert clean["float"] == 1.0
    assert clean["baseline"] > 0.9
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["task"] == {"kind": "binary", "probabilities": False}


def test_a_run_does_not_train_for_other_tasks_than_classes(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(table(train={"epochs": 1}))
    with pytest.raises(RecipeError, match="task: wanted a classification, the only task that is"):
        run(recipe, tmp_path / "run", device="cpu")
