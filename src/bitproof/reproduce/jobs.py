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

from bitproof.core.errors import RecipeError, near, shorten
from bitproof.core.spec import Spec
from bitproof.core.types import Fraction, Positive, Seed
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
    gain_ber: Positive | None = None
    """Level of the gains under memory faults; one of the recipe's. None: no such gains."""
    gain_epsilon: Positive | None = None
    """Radius of the gains under attack, input units; one of the recipe's. None: no such gains."""
    gain_against: str = BASELINE
    """The variant that gains are counted from."""
    max_drop: Fraction | None = None
    """The cells are the memory energy saved at this loss of accuracy, as a fraction of it, in the
    place of accuracies. None: accuracies."""
    runs_of: str = ""
    """Another table, whose job of the same name has the runs; empty: the job has its own."""
    variants: tuple[str, ...] = ()
    """Variants that give cells; none: all."""
    threats: tuple[str, ...] = ()
    """Threats that give cells; none: all."""
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
    source: "Job | None" = None
    """The job of another table that has the runs, if not this one."""

    @property
    def runner(self) -> "Job":
        """The job that has the runs."""
        return self.source or self

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants that give cells."""
        return self.plan.variants or self.recipe.variants

    def measured(self) -> dict[str, Threat]:
        """Return the threats that give cells, by name; checks are none."""
        return {
            threat.title: threat
            for threat in self.recipe.evaluation.threats
            if not isinstance(threat, BlackBoxCheck)
            and (not self.plan.threats or threat.title in self.plan.threats)
        }

    def labels(self) -> dict[str, ThreatLabel]:
        """Return how each threat is written."""
        return self.recipe.evaluation.labels()

    def gain_level(self, threat: Threat) -> float | None:
        """Return the level at which gains under a threat are taken; None: they are not."""
        if threat.label.family == "input_attack":
            return self.plan.gain_epsilon
        if not threat.levels:
            return 0.0 if self.plan.gain_ber or self.plan.gain_epsilon else None
        return self.plan.gain_ber

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
        where = f"{folder / size / table.name / PLANS}: {name}"
        source = None
        if plan.runs_of:
            if plan.runs_of not in TABLES or plan.runs_of == table.name:
                near_to = near(plan.runs_of, TABLES)
                raise RecipeError(
                    f"{where}: runs_of: no other table {shorten(plan.runs_of)}. {near_to}"
                )
            found = read_jobs(TABLES[plan.runs_of], size, folder=folder)
            source = next((job for job in found if job.name == name), None)
            if source is None or source.plan.seeds != plan.seeds:
                raise RecipeError(
                    f"{where}: runs_of: wanted a job {shorten(name)} of {plan.runs_of} "
                    "with its seeds"
                )
        path = folder / size / (plan.runs_of or table.name) / f"{name}.toml"
        recipe = _checked(read_recipe(path), plan, where=where)
        jobs.append(Job(table, size, name, path, recipe, plan, source))
    return jobs


def all_jobs(tables: Sequence[Table] | None = None, sizes: Sequence[Size] = SIZES) -> list[Job]:
    """Return the shipped jobs of several tables and sizes; all, if none is named."""
    wanted = TABLES.values() if tables is None else tables
    return [job for size in sizes for table in wanted for job in read_jobs(table, size)]


def _checked(recipe: Recipe, plan: JobPlan, *, where: str) -> Recipe:
    """Return the recipe, if it holds what the plan names."""
    _check_gains(recipe, plan, where=where)
    for variant in plan.keep:
        if variant == FLOAT or variant not in recipe.variants:
            raise RecipeError(f"{where}: keep: wanted integer variants, got {shorten(variant)}")
    titles = [threat.title for threat in recipe.evaluation.threats]
    for field, names, known in (
        ("variants", plan.variants, recipe.variants),
        ("threats", plan.threats, titles),
    ):
        if unknown := [name for name in names if name not in known]:
            raise RecipeError(
                f"{where}: {field}: wanted some of {list(known)}, got {shorten(unknown[0])}"
            )
    return recipe


def _check_gains(recipe: Recipe, plan: JobPlan, *, where: str) -> None:
    """Check that the recipe measures what gains are taken of."""
    for field, level, kind in (
        ("gain_ber", plan.gain_ber, MemoryFaults),
        ("gain_epsilon", plan.gain_epsilon, AdversarialExamples),
    ):
        for threat in recipe.evaluation.threats:
            counts = not plan.threats or threat.title in plan.threats
            if level is None or not isinstance(threat, kind) or not counts:
                continue
            if not any(math.isclose(level, one) for one in threat.levels):
                raise RecipeError(
                    f"{where}: {field}: wanted one of {list(threat.levels)}, got {level}"
                )
    gains = plan.gain_ber is not None or plan.gain_epsilon is not None
    if gains and plan.gain_against not in recipe.variants:
        raise RecipeError(
            f"{where}: gain_against: wanted one of the variants {list(recipe.variants)}, "
            f"got {shorten(plan.gain_against)}"
        )
