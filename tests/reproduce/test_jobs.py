from collections.abc import Callable
from pathlib import Path

import pytest

from bitproof.core.errors import RecipeError
from bitproof.reproduce import Job, all_jobs, cells_of, find_table, read_jobs
from bitproof.reproduce.jobs import SIZES, recipes_folder

SHIPPED = all_jobs()


def test_a_job_has_recipe_and_plan(job: Job) -> None:
    assert (job.network, job.dataset, job.recipe.name) == ("tiny", "digits", "tiny-digits")
    assert (job.plan.seeds, job.plan.keep) == ((0,), ("baseline",))


def test_a_size_that_a_table_lacks_has_no_jobs(folder: Path) -> None:
    assert read_jobs(find_table("resq-matrix"), "full") == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("gain_ber =", "gain_bre =", r"table.toml:3: .*Did you mean 'gain_ber'"),
        ("seeds = [0]", "seeds = []", "table.toml:2: .*seeds"),
        ("seeds = [0]", "seeds = [3, 3]", "table.toml:2: .*wanted each seed once"),
        ("gain_ber = 1e-2", "gain_ber = 2e-2", r"gain_ber: wanted one of \[0.01\], got 0.02"),
        ("gain_epsilon = 0.05", "gain_epsilon = 0.5", "gain_epsilon: wanted one of"),
        ('keep = ["baseline"]', 'keep = ["float"]', "keep: wanted integer variants, got 'float'"),
        ('keep = ["baseline"]', 'keep = ["s3"]', "keep: wanted integer variants, got 's3'"),
        ('"float", "baseline", ', '"float", ', "gain_against: wanted one of the variants"),
        ("jobs.tiny-digits", "jobs.tiny-mnist", "tiny-mnist.toml: cannot read the recipe"),
        ("jobs.tiny-digits", "jobs.tiny", "table.toml:"),
    ],
)
def test_a_plan_that_does_not_fit_is_told(
    old: str, new: str, problem: str, folder: Path, change: Callable[..., Job]
) -> None:
    with pytest.raises(RecipeError, match=problem):
        change(old, new)


def test_there_are_jobs_of_both_sizes() -> None:
    assert {job.size for job in SHIPPED} == set(SIZES)
    networks = {job.network for job in SHIPPED if job.size == "full"}
    papers = {"resnet18", "vgg16", "efficientnet_b0", "swin_tiny", "simplenet", "resnet56"}
    assert networks == papers


@pytest.mark.parametrize("job", SHIPPED, ids=lambda job: f"{job.size}-{job.name}")
def test_a_shipped_job_is_what_it_is_called(job: Job) -> None:
    recipe = job.recipe
    assert recipe.name == job.name
    assert recipe.title
    assert "arXiv" in recipe.source or "doi" in recipe.source
    assert recipe.data.kind == job.dataset
    assert job.network.rstrip("0123456789") == recipe.model.kind.rstrip("0123456789")
    assert set(job.table.matrix) <= set(recipe.variants)
    assert recipe.seed == 0, "seeds are told in the plan"
    assert len(cells_of(job)) >= 10 or job.plan.max_drop is not None
    assert (job.size == "small") == bool(job.plan.note)


def test_no_recipe_lies_beside_the_plans() -> None:
    files = {path for path in recipes_folder().rglob("*.toml") if path.name != "table.toml"}
    assert files == {job.path for job in SHIPPED}
