"""Searches by pymoo's NSGA-II: on choices as they are, and as ALWANN does it.

Model:  cost and one minus accuracy are minimized; every individual is measured by emulation.
        ALWANN's accelerator has few kinds of multipliers in tiles: an individual names the kinds,
        and which kind each layer's tile is.
Source: Deb et al., "NSGA-II", IEEE TEC 2002, as in pymoo (Apache 2.0); Mrazek et al., "ALWANN",
        ICCAD 2019 (weight tuning is not here).
"""

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from bitproof.core.errors import SpecError
from bitproof.core.packages import Package
from bitproof.core.rng import derive_seed
from bitproof.explore.problem import Problem
from bitproof.explore.search import SEARCHES, Search
from bitproof.explore.trial import Trial
from bitproof.explore.units import Choice

PYMOO = Package("pymoo", wanted_by="explore", install="pip install 'bitproof[explore]'")
MOST_IDLE = 30
"""Generations without a new choice after which a search ends: few choices are left."""
Genes = Int64[np.ndarray, " genes"]


class Genetic(Search):
    """NSGA-II over whole numbers; a subclass says what they mean."""

    packages: ClassVar[tuple[Package, ...]] = (PYMOO,)

    population: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 20
    """Individuals of a generation."""

    @abstractmethod
    def largest(self, problem: Problem) -> Genes:
        """Return the largest value of each gene; the smallest is 0."""

    @abstractmethod
    def choice(self, genes: Genes, problem: Problem) -> Choice:
        """Return what genes stand for."""

    def run(self, problem: Problem, trial: Trial) -> None:
        """Measure one generation after the other, until the budget is spent.

        Raises:
            AdapterError: pymoo is not installed.
        """
        algorithm, idle = _algorithm(self, self.largest(problem)), 0
        while len(trial.points) < self.budget and idle < MOST_IDLE:
            problem.measuring.check_stop()
            before = len(trial.points)
            population = algorithm.ask()
            if population is None or not len(population):
                return  # there is no individual that it has not had
            choices = [
                self.choice(np.asarray(genes, np.int64), problem) for genes in population.get("X")
            ]
            points = trial.measure(choices)
            population.set("F", np.array([[point.cost, 1 - point.acc] for point in points]))
            for individual in population:
                individual.evaluated.update(("F", "G", "H"))
            algorithm.tell(infills=population)
            idle = idle + 1 if len(trial.points) == before else 0


@SEARCHES.register
class Nsga2(Genetic):
    """Each gene is the multiplier of a unit.

    Example:
        >>> Nsga2(population=10, budget=100).title
        'nsga2'
    """

    kind: Literal["nsga2"] = "nsga2"

    def largest(self, problem: Problem) -> Genes:
        """Return the last multiplier for every unit."""
        return np.full(problem.units.count, len(problem.blocks) - 1)

    def choice(self, genes: Genes, problem: Problem) -> Choice:  # noqa: ARG002
        """Return genes as they are."""
        return genes


@SEARCHES.register
class Alwann(Genetic):
    """The first genes are the kinds of multipliers in tiles, the others the tile of each layer.

    Example:
        >>> Alwann(tiles=2).tiles
        2
    """

    kind: Literal["alwann"] = "alwann"
    tiles: Annotated[int, Field(ge=1, le=1_000, strict=True)] = 3
    """Kinds of multipliers on the accelerator."""

    def largest(self, problem: Problem) -> Genes:
        """Return the last multiplier for each tile, and the last tile for every layer.

        Raises:
            SpecError: units are filters.
        """
        if problem.units.granularity != "layer":
            raise SpecError(f"{self.title}: wanted layers as units, got filters")
        kinds = np.full(self.tiles, len(problem.blocks) - 1)
        return np.concatenate([kinds, np.full(problem.units.count, self.tiles - 1)])

    def choice(self, genes: Genes, problem: Problem) -> Choice:  # noqa: ARG002
        """Return the kind of each layer's tile."""
        found: Choice = genes[: self.tiles][genes[self.tiles :]]
        return found


def _algorithm(search: Genetic, largest: Genes) -> Any:
    """Return pymoo's NSGA-II on whole numbers from 0 to `largest`."""
    PYMOO.load()
    from pymoo.algorithms.moo.nsga2 import NSGA2  # noqa: PLC0415 - optional
    from pymoo.core.problem import Problem as Space  # noqa: PLC0415
    from pymoo.operators.crossover.sbx import SBX  # noqa: PLC0415
    from pymoo.operators.mutation.pm import PM  # noqa: PLC0415
    from pymoo.operators.repair.rounding import RoundingRepair  # noqa: PLC0415
    from pymoo.operators.sampling.rnd import IntegerRandomSampling  # noqa: PLC0415

    space = Space(n_var=len(largest), n_obj=2, xl=np.zeros(len(largest)), xu=largest, vtype=int)
    algorithm = NSGA2(
        pop_size=search.population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=0.9, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    seed = derive_seed(search.seed, "search", search.kind) % 2**31
    algorithm.setup(space, termination=("n_gen", 10**6), seed=seed, verbose=False)
    return algorithm
