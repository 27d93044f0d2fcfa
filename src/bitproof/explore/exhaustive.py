"""All choices, where there are few."""

from typing import Literal

import numpy as np

from bitproof.core.errors import SpecError
from bitproof.explore.problem import Problem
from bitproof.explore.search import SEARCHES, Search
from bitproof.explore.trial import Trial


@SEARCHES.register
class Exhaustive(Search):
    """Measure every choice there is; refused where the budget does not suffice.

    Example:
        >>> Exhaustive(budget=32).title
        'exhaustive'
    """

    kind: Literal["exhaustive"] = "exhaustive"

    def run(self, problem: Problem, trial: Trial) -> None:
        """Measure all choices, the first unit's slowest."""
        units, blocks = problem.units.count, len(problem.blocks)
        count = blocks**units
        if count > self.budget:
            size = str(count) if count < 10**12 else f"{blocks}^{units}"
            raise SpecError(
                f"{self.title}: wanted a budget of all {size} choices ({units} units, {blocks} "
                f"multipliers), got {self.budget}"
            )
        weights = blocks ** np.arange(units - 1, -1, -1)
        trial.measure([n // weights % blocks for n in range(count)])
