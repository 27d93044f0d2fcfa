import json
from pathlib import Path

import pytest
import torch

from bitproof.approx import Arithmetic
from bitproof.core.errors import RecipeError, ResumeError, SpecError, StoppedError
from bitproof.core.stop_request import StopRequest
from bitproof.data import DATA
from bitproof.evaluation import Processes
from bitproof.explore.directory import ExplorationDirectory
from bitproof.quant import load_network
from bitproof.recipe import ExplorationRecipe, explore_recipe, read_recipe, run
from bitproof.recipe.toml import parse_spec, read_spec
from bitproof.stats import read_results

RECIPE = """
recipe = 1
name = "small"
data = { kind = "digits" }
model = { kind = "digits_cnn" }

[train]
epochs = 4
learning_rate = 0.1

[quantization]
activation_signed = true
activation_symmetric = true
weight = { kind = "affine", symmetric = true, signed = true }

[recover.retrain]
kind = "approximation_aware"
optimization = { epochs = 1, learning_rate = 0.01 }

[multipliers]
exact = { kind = "exact", signed = true }
mild = { kind = "truncated", columns = 5, signed = true }
coarse = { kind = "truncated", columns = 7, signed = true }

[exploration]
costs = "costs.csv"
images = 100
profile_images = 64
check = 12
goal = { minimize = { power = 1.0 }, max_drop = 0.05 }

[[exploration.evaluation.threats]]
kind = "clean"
[[exploration.evaluation.threats]]
kind = "memory_faults"
levels = [1e-2]
chips = 2
images = 60

[[exploration.searches]]
kind = "hawx"
budget = 14
[[exploration.searches]]
kind = "random"
budget = 6
"""
COSTS = """name,area_um2,power_mw,delay_ns
exact,700,0.4,1.5
mild,500,0.3,1.4
coarse,300,0.1,1.2
"""
SHIPPED = sorted((Path(__file__).parents[2] / "recipes").glob("hawx*.toml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "costs.csv").write_text(COSTS)
    return tmp_path


def small(*lines: str) -> ExplorationRecipe:
    text = RECIPE
    for line in lines:
        before, after = line.split(" -> ")
        assert before in text
        text = text.replace(before, after)
    return parse_spec(text, ExplorationRecipe, name="small.toml")


@pytest.mark.slow
def test_a_search_writes_all_that_it_promises(folder: Path) -> None:
    out = folder / "out"
    explore_recipe(small(), out, recipe_dir=folder)
    directory = ExplorationDirectory(out)
    summary = json.loads(directory.summary.read_text())
    chosen = summary["chosen"]
    assert chosen["accs"][0] >= summary["exact"]["accs"][0][1] - 0.05
    assert [one["threat"] for one in summary["objectives"]] == ["clean", "random_flips"]
    assert {one["predictor"] for one in summary["predictors"]} == {
        "accuracy",
        "power",
        "area",
        "latency",
    }
    assert directory.report.read_text().startswith("<!doctype html>")
    assert directory.front.read_text().startswith("search,cost,power,area,latency,energy,")
    # The choice as a network, as an arithmetic, and as a recipe: the same answers.
    splits = DATA.build({"kind": "digits"}).load(None)
    network = load_network(directory.chosen_network)
    test = splits.test
    right = int((network(test.inputs()).argmax(1) == test.labels).sum())
    assert right / len(test) == pytest.approx(chosen["held_out"][0][1])
    arithmetic = Arithmetic.model_validate_json(directory.chosen.read_text())
    again = arithmetic.apply(load_network(directory.network), splits.train.inputs())
    assert torch.equal(again(test.inputs()), network(test.inputs()))
    run(read_recipe(directory.recipe), folder / "run", recipe_dir=out, device="cpu")
    rows = {
        (row.variant, row.threat): row.interval
        for row in read_results(folder / "run/results.csv")
        if row.metric == "acc"
    }
    for number, threat in enumerate(("clean", "random_flips")):
        for variant, accs in (
            ("chosen", chosen["held_out"]),
            ("chosen+retrain", summary["recovered"]),
        ):
            assert rows[variant, threat] == pytest.approx(accs[number])


BARE = ("check = 12 -> check = 0", "kind = \"memory_faults\"\nlevels = [1e-2]\nchips = 2\n"
        " -> kind = \"clean\"\nname = \"again\"\n",
        "[recover.retrain] -> [harden.nothing]",
        "kind = \"approximation_aware\"\noptimization = { epochs = 1, learning_rate = 0.01 }"
        " -> kind = \"approximate\"")  # fmt: skip


@pytest.mark.slow
def test_a_search_that_was_stopped_goes_on_to_the_same(
    folder: Path, after: type[StopRequest]
) -> None:
    explore_recipe(small(*BARE), folder / "whole", recipe_dir=folder)
    for looks in (3, 40, 5):
        with pytest.raises(StoppedError):
            explore_recipe(
                small(*BARE),
                folder / "parts",
                recipe_dir=folder,
                resume=(folder / "parts" / "plan.json").exists(),
                stop=after(looks),
            )
    assert not list((folder / "parts" / "checkpoints").glob("*"))
    explore_recipe(small(*BARE), folder / "parts", recipe_dir=folder, resume=True)
    assert found(folder / "parts") == found(folder / "whole")


@pytest.mark.slow
def test_workers_and_shares_find_the_same(folder: Path) -> None:
    explore_recipe(small(*BARE), folder / "whole", recipe_dir=folder)
    explore_recipe(
        small(*BARE), folder / "workers", recipe_dir=folder, executor=Processes(workers=2)
    )
    assert explore_recipe(small(*BARE), folder / "s", recipe_dir=folder, shard=(2, 2)) is None
    assert explore_recipe(small(*BARE), folder / "s", recipe_dir=folder, shard=(1, 2)) is not None
    assert found(folder / "workers") == found(folder / "whole") == found(folder / "s")


def found(out: Path) -> object:
    """Return what a search found, without times."""
    summary = json.loads((out / "exploration.json").read_text())
    points = [[one["points"], one["best"]] for one in summary["searches"]]
    return points, summary["front"], summary["chosen"], summary["scores"]


@pytest.mark.slow
def test_another_search_in_the_same_place_is_refused(folder: Path) -> None:
    with pytest.raises(StoppedError):
        explore_recipe(small(*BARE), folder / "o", recipe_dir=folder, stop=StopAtOnce())
    with pytest.raises(ResumeError, match="holds a search already; go on with --resume"):
        explore_recipe(small(*BARE), folder / "o", recipe_dir=folder)
    other = small(*BARE, "images = 100 -> images = 90")
    with pytest.raises(ResumeError, match=r"recipe\.exploration\.images: 100 before, 90 now"):
        explore_recipe(other, folder / "o", recipe_dir=folder, resume=True)


class StopAtOnce(StopRequest):
    @property
    def requested(self) -> bool:
        return True


@pytest.mark.slow
def test_parts_of_a_search_without_its_plan_are_not_taken(folder: Path) -> None:
    explore_recipe(small(*BARE), folder / "o", recipe_dir=folder)
    (folder / "o" / "network.safetensors").unlink()
    explore_recipe(small(*BARE), folder / "o", recipe_dir=folder, resume=True)  # made again
    (folder / "o" / "plan.json").unlink()
    with pytest.raises(ResumeError, match=r"without its plan\.json"):
        explore_recipe(small(*BARE), folder / "o", recipe_dir=folder)


def test_too_few_images_are_refused_before_training(folder: Path) -> None:
    wanted = small("images = 100 -> images = 5000")
    with pytest.raises(SpecError, match=r"wanted 5000 of validation, got .*; set data.validation"):
        explore_recipe(wanted, folder / "o", recipe_dir=folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('model = { kind = "digits_cnn" } -> ', "wanted one of 'model' and 'network'"),
        ('model = { kind = "digits_cnn" } -> network = "x"', "need a 'model'"),
        ('kind = "hawx" -> kind = "haws"', "no kind 'haws'. Did you mean 'hawx'?"),
        ("max_drop = 0.05 -> max_drop = 2.0", "max_drop: should be less than or equal to 1"),
        ("power = 1.0 -> powr = 1.0", "wanted one of power, multiplier_power"),
        ("recover.retrain -> recover.chosen", "wanted another name for stage 'chosen'"),
    ],
)
def test_faulty_recipes_are_refused_with_their_line(change: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        small(change)
    assert message in str(caught.value)
    assert "small.toml" in str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_searches_can_be_read_and_name_their_source(path: Path) -> None:
    recipe = read_spec(path, ExplorationRecipe)
    assert recipe.name == path.stem
    assert "arXiv" in recipe.source
    assert recipe.exploration.searches[0].kind == "hawx"
