import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import bitproof
from bitproof.approx import Truncated
from bitproof.recipe import Recipe
from bitproof.reproduce import Job, all_jobs
from bitproof.reproduce.digest import (
    LEFT_OUT,
    STARTS,
    TABLES_ONLY,
    cell_digest,
    code_digest,
    recipe_digest,
    run_digest,
    starts_of,
    what_changed,
)
from bitproof.reproduce.sources import Sources, installed_sources

PACKAGE = Path(bitproof.__file__).parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", "cli", "report", "explore")
    return Path(shutil.copytree(PACKAGE, tmp_path / "bitproof", ignore=ignore))


HARMLESS = (
    ("models/digits_cnn.py", "    width", "    # a remark\n    width"),
    ("harden/desensitize.py", "    steps: Count = 7\n", '    steps: Count = 7\n    """More."""\n'),
    ("models/resnet18.py", "from typing", "import os\nfrom typing"),
    ("core/errors.py", "class HaltedError", "class Late(Exception): pass\nclass HaltedError"),
    ("harden/adjust.py", "1024", "1025"),
    ("models/__init__.py", "__all__", "from bitproof.models.new import New\n__all__"),
)
HARMFUL = (
    ("campaign/evaluation.py", "BLOCK = 100", "BLOCK = 50"),
    ("models/digits_cnn.py", "width: Count = 16", "width: Count = 17"),
)


def edit(copy: Path, module: str, old: str, new: str) -> None:
    text = (copy / module).read_text()
    assert old in text, f"{module} has no such line any more"
    (copy / module).write_text(text.replace(old, new))


def test_remarks_and_other_components_keep_the_digest(job: Job, copy: Path) -> None:
    (copy / "models" / "new.py").write_text("class New: pass\n")
    for change in HARMLESS:
        edit(copy, *change)
    assert code_digest(job, "s1", sources=Sources(copy)) == code_digest(job, "s1")


@pytest.mark.parametrize("change", HARMFUL, ids=lambda change: change[0])
def test_a_constant_changes_the_digest(change: tuple[str, str, str], job: Job, copy: Path) -> None:
    edit(copy, *change)
    assert code_digest(job, "s1", sources=Sources(copy)) != code_digest(job, "s1")


def test_only_networks_on_multipliers_rest_on_their_code(job: Job, copy: Path) -> None:
    recipe = job.recipe.model_copy(update={"multipliers": {"mild": Truncated(columns=2)}})
    own = replace(job, recipe=recipe)
    before = {name: code_digest(own, name) for name in ("none", "mild")}
    edit(copy, "kernels/library.py", "TILE = 256", "TILE = 512")
    after = {name: code_digest(own, name, sources=Sources(copy)) for name in before}
    assert [name for name in before if before[name] != after[name]] == ["mild"]
    assert recipe_digest(own, "mild", [0]) != recipe_digest(own, "none", [0])
    assert recipe_digest(own, "none", [0]) == recipe_digest(job, "none", [0])


def modules_of(recipe: Recipe) -> list[str]:
    return installed_sources().closure(starts_of(recipe), without=LEFT_OUT)


def test_a_network_without_stages_rests_on_no_stage(job: Job) -> None:
    part = job.recipe.model_copy(update={"stages": {}})
    assert "bitproof.harden.desensitize" in modules_of(job.recipe)
    assert "bitproof.harden.desensitize" not in modules_of(part)


@pytest.mark.parametrize("job", all_jobs(), ids=lambda job: f"{job.size}-{job.name}")
def test_a_shipped_job_rests_on_what_makes_its_numbers(job: Job) -> None:
    found = set(modules_of(job.recipe))
    assert {type(job.recipe.model).__module__, type(job.recipe.data).__module__} <= found
    rooms = ("train.loop", "quant.integers", "quant.rules", "attacks.pgd", "faults.random_flips")
    assert {f"bitproof.{room}" for room in rooms} <= found
    assert not any(name.startswith(("bitproof.cli", "bitproof.report")) for name in found)
    assert not found & LEFT_OUT.keys()


@pytest.mark.parametrize("module", [*STARTS, *LEFT_OUT, *TABLES_ONLY])
def test_a_module_that_is_named_exists(module: str) -> None:
    at = PACKAGE.joinpath(*module.split(".")[1:])
    assert at.with_suffix(".py").is_file() or (at / "__init__.py").is_file()


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ('name = "tiny-digits"', 'name = "tiny-digits"\ntitle = "x"\nsource = "y"', []),
        ('name = "tiny-digits"', 'name = "tiny-digits"\nseed = 4', []),
        ('"s1", "s2"]', '"s1", "s2", "s1+s2"]', []),
        ("seeds = [0]", "seeds = [0, 1]", ["float", "none", "s1", "s2"]),
        ("chips = 3", "chips = 4", ["float", "none", "s1", "s2"]),
        ("[stages.s2]", "[stages.s2]\nsteps = 3", ["s2"]),
    ],
)
def test_the_recipe_s_digest_follows_what_decides_a_variant(
    old: str, new: str, changed: list[str], job: Job, change: Callable[..., Job]
) -> None:
    later = change(old, new)
    assert [
        variant
        for variant in job.recipe.variants
        if recipe_digest(job, variant, job.plan.seeds)
        != recipe_digest(later, variant, later.plan.seeds)
    ] == changed


def test_more_seeds_leave_the_runs_there_are_alone(job: Job, change: Callable[..., Job]) -> None:
    later = change("seeds = [0]", "seeds = [0, 1]")
    assert run_digest(later, "s1", 0) == run_digest(job, "s1", 0)
    assert run_digest(later, "s1", 1) != run_digest(job, "s1", 0)
    assert cell_digest(later, "s1") != cell_digest(job, "s1")


def test_a_digest_tells_which_half_changed(job: Job, change: Callable[..., Job]) -> None:
    before, after = cell_digest(job, "s1"), cell_digest(change("chips = 3", "chips = 4"), "s1")
    assert what_changed(before, before) == ""
    assert what_changed(before, after) == "recipe"
    assert what_changed("recipe:1 code:2", "recipe:2 code:1") == "recipe and code"


def test_the_running_package_is_read_once() -> None:
    assert installed_sources() is installed_sources()
