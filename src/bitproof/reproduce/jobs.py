"""What has to be run for a table: a recipe for each network and data set, and how often.

recipes/reproduce/SIZE/TABLE/
    NETWORK-DATASET.toml    a recipe like any other, that `bitproof run` takes as well
    table.toml              seeds, levels of the gains, remarks: the `JobPlan` of each job

`SIZE` is `full`, the paper's, or `small`, what two CPU cores can do; the two are never mixed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from bitproof.core.errors import RecipeError
from bitproof.core.spec import Spec
from bitproof.core.types import Positive, Seed
from bitproof.evaluation import AdversarialExamples, BlackBoxCheck, MemoryFaults, Threat
from bitproof.recipe import Recipe, read_recipe, read_spec
from bitproof.recipe.recipe import BASELINE, FLOAT
from bitproof.reproduce.tables import TABLES, Table
from bitproof.stats.threats import ThreatLabel

Size = Literal["full", "small"]
SIZES: tuple[Size, ...] = ("full", "small")
"""The paper's size, and one for two CPU cores."""
PLANS = "table.toml"

JobName = Annotated[str, Field(pattern=r"^[a-z0-9_]+-[a-z0-9_]+$")]


class JobPlan(Spec):
    """What a job says beside its recipe.

    Example:
        >>> JobPlan(seeds=[0, 1], gain_ber=1e-3, gain_epsilon=0.01).seeds
        (0, 1)
    """

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Seeds of training: the recipe runs once with each."""
    gain_ber: Positive
    """Bit error rate of the gains; one of the recipe's."""
    gain_epsilon: Positive
    """Radius of the gains, input units; one of the recipe's."""
    keep: tuple[str, ...] = ()
    """Variants whose integer network, of the first seed, is kept beside the results."""
    note: str = ""
    """What is smaller than in the paper."""

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"wanted each seed once, got {list(seeds)}")
        return seeds


class TablePlan(Spec):
    """The jobs of one table at one size, by name."""

    jobs: dict[JobName, JobPlan]
    """`NETWORK-DATASET`, which is the name of the recipe beside this file."""


@dataclass(frozen=True)
class Job:
    """One network on one data set, with everything that is measured on it."""

    table: Table
    size: Size
    name: str
    path: Path
    """The recipe's file."""
    recipe: Recipe
    plan: JobPlan

    def measured(self) -> dict[str, Threat]:
        """Return the threats that give cells, by name; checks are none."""
        return {
            threat.title: threat
            for threat in self.recipe.evaluation.threats
            if not isinstance(threat, BlackBoxCheck)
        }

    def labels(self) -> dict[str, ThreatLabel]:
        """Return how each threat is written."""
        return self.recipe.evaluation.labels()

    def gain_level(self, threat: Threat) -> float:
        """Return the level at which gains under a threat are taken."""
        attack = threat.label.family == "input_attack"
        return self.plan.gain_epsilon if attack else self.plan.gain_ber

    @property
    def network(self) -> str:
        """The first half of the name."""
        return self.name.split("-")[0]

    @property
    def dataset(self) -> str:
        """The second half of the name."""
        return self.name.split("-")[1]


def recipes_folder() -> Path:
    """Return the recipes of all tables: inside the installed package, or in the checkout.

    Example:
        >>> recipes_folder().name
        'reproduce'
    """
    installed = Path(str(files("bitproof"))) / "recipes" / "reproduce"
    checkout = Path(__file__).parents[3] / "recipes" / "reproduce"
    return installed if installed.exists() else checkout


def read_plans(table: Table, size: Size, *, folder: Path | None = None) -> dict[str, JobPlan]:
    """Return the plans of a table's jobs by name, none where the table has no such size.

    Raises:
        RecipeError: the file is malformed; each problem is named with its line.
    """
    path = (folder or recipes_folder()) / size / table.name / PLANS
    return read_spec(path, TablePlan).jobs if path.exists() else {}


def read_jobs(table: Table, size: Size, *, folder: Path | None = None) -> list[Job]:
    """Return the jobs of a table, in the order of its file.

    Args:
        table: what is to be reproduced.
        size: how large.
        folder: where recipes lie; None for those that are shipped.

    Raises:
        RecipeError: a recipe is missing or malformed, or does not hold what its plan names.
    """
    folder = folder or recipes_folder()
    jobs = []
    for name, plan in read_plans(table, size, folder=folder).items():
        path = folder / size / table.name / f"{name}.toml"
        jobs.append(Job(table, size, name, path, _checked(read_recipe(path), plan, path), plan))
    return jobs


def all_jobs(tables: Sequence[Table] | None = None, sizes: Sequence[Size] = SIZES) -> list[Job]:
    """Return the shipped jobs of several tables and sizes; all, if none is named."""
    wanted = TABLES.values() if tables is None else tables
    return [job for size in sizes for table in wanted for job in read_jobs(table, size)]


def _checked(recipe: Recipe, plan: JobPlan, path: Path) -> Recipe:
    """Return the recipe, if it holds what the plan names."""
    where = f"{path.parent / PLANS}: {path.stem}"
    for field, level, kind in (
        ("gain_ber", plan.gain_ber, MemoryFaults),
        ("gain_epsilon", plan.gain_epsilon, AdversarialExamples),
    ):
        for threat in recipe.evaluation.threats:
            levels = threat.levels
            if isinstance(threat, kind) and not any(math.isclose(level, one) for one in levels):
                raise RecipeError(f"{where}: {field}: wanted one of {list(levels)}, got {level}")
    if BASELINE not in recipe.variants:
        raise RecipeError(f"{path}: variants: wanted '{BASELINE}' among them, gains are against it")
    for variant in plan.keep:
        if variant == FLOAT or variant not in recipe.variants:
            raise RecipeError(f"{where}: keep: wanted integer variants, got '{variant}'")
    return recipe
