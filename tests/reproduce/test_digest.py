from collections.abc import Callable
from dataclasses import replace

import pytest

from bitproof.reproduce import Job
from bitproof.reproduce.digest import _decisive, recipe_digest, whole_digest

HOW = "0" * 16
"""A behaviour."""


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ('name = "tiny-digits"', 'name = "tiny-digits"\ntitle = "x"\nsource = "y"', []),
        ('name = "tiny-digits"', 'name = "tiny-digits"\nseed = 4', []),
        ('"s1", "s2"]', '"s1", "s2", "s1+s2"]', []),
        ("seeds = [0]", "seeds = [0, 1]", ["float", "baseline", "s1", "s2"]),
        ("chips = 3", "chips = 4", ["float", "baseline", "s1", "s2"]),
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
    assert whole_digest(later, "s1", [0], HOW) == whole_digest(job, "s1", [0], HOW)
    assert whole_digest(later, "s1", [1], HOW) != whole_digest(job, "s1", [0], HOW)
    assert whole_digest(later, "s1", later.plan.seeds, HOW) != whole_digest(
        job, "s1", job.plan.seeds, HOW
    )


def test_another_behaviour_is_another_digest(job: Job) -> None:
    assert whole_digest(job, "s1", [0], HOW) != whole_digest(job, "s1", [0], "1" * 16)


def test_a_field_with_a_default_that_says_nothing_new_is_left_out(job: Job) -> None:
    """So new fields can come; what toy size would hide counts always."""
    stage = job.recipe.stages["s1"]
    assert stage.model_dump()["distance"] == "relative"
    same = job.recipe.model_copy(
        update={"stages": {**job.recipe.stages, "s1": stage.model_copy(update={"steps": 7})}}
    )
    more = job.recipe.model_copy(
        update={"stages": {**job.recipe.stages, "s1": stage.model_copy(update={"steps": 8})}}
    )
    digests = [recipe_digest(replace(job, recipe=r), "s1", [0]) for r in (job.recipe, same, more)]
    assert digests[0] == digests[1] != digests[2]


def test_only_what_was_given_and_what_toy_size_limits_decides() -> None:
    full = {"kind": "a", "new": 1, "own": 2, "steps": 7, "inner": {"kind": "b", "x": 1}}
    assert _decisive(full, {"own": 2}) == {"kind": "a", "own": 2, "steps": 7}
    full["inner"]["epochs"] = 20  # type: ignore[index]
    assert _decisive(full, {})["inner"] == {"epochs": 20}
    assert _decisive({"all": [full]}, {"all": [{"own": 2}]})["all"][0]["own"] == 2
