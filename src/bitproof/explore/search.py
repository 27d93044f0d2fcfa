"""What every search promises: it measures choices until its budget is spent, and stops.

Model:  a search is deterministic: what it measures depends on the problem, its own fields and its
        seed. So it goes on after an interruption by beginning again, with what was measured known.
"""

from abc import abstractmethod
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Field, SerializeAsAny

from bitproof.core.registry import Registry
from bitproof.core.rng import derive_seed
from bitproof.core.spec import Spec
from bitproof.core.types import Rounds, Seed
from bitproof.explore.problem import Problem
from bitproof.explore.trial import Trial


class Search(Spec):
    """A way to choose multipliers."""

    kind: str
    name: Annotated[str, Field(max_length=100)] = ""
    """What results call it; empty: its kind."""
    budget: Rounds = 64
    """Choices that it may measure."""
    seed: Seed = 0
    """Root of whatever it draws."""

    @property
    def title(self) -> str:
        """What results call it."""
        return self.name or self.kind

    @abstractmethod
    def run(self, problem: Problem, trial: Trial) -> None:
        """Measure choices through `trial`.

        Raises:
            SpecError: the problem is not one for this search.
            BudgetSpentError: the budget is spent.
        """

    def random(self) -> np.random.Generator:
        """Return a generator of this search."""
        return np.random.Generator(np.random.SFC64(derive_seed(self.seed, "search", self.kind)))


SEARCHES: Registry[Search] = Registry("searches")
AnySearch = Annotated[SerializeAsAny[Search], BeforeValidator(SEARCHES.validate)]
