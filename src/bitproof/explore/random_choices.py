"""Choices drawn at random."""

from typing import Literal

import numpy as np

from bitproof.core.types import Count
from bitproof.explore.problem import Problem
from bitproof.explore.search import SEARCHES, Search
from bitproof.explore.trial import Trial
from bitproof.explore.units import Choice


@SEARCHES.register
class RandomChoices(Search):
    """Each choice takes one to `kinds` multipliers, and gives each unit one of them.

    Choices of few kinds reach mild and coarse networks alike; with all kinds at once, all choices
    are about as harmful.

    Example:
        >>> RandomChoices(budget=100).kinds
        4
    """

    kind: Literal["random"] = "random"
    kinds: Count = 4
    """Most multipliers in one choice."""

    def run(self, problem: Problem, trial: Trial) -> None:
        """Measure one draw after the other."""
        draw = self.random()
        trial.measure(
            [
                random_choice(draw, problem.units.count, len(problem.blocks), self.kinds)
                for _ in range(self.budget)
            ]
        )


def random_choice(draw: np.random.Generator, units: int, blocks: int, kinds: int) -> Choice:
    """Return a choice of at most `kinds` blocks.

    Example:
        >>> random_choice(np.random.default_rng(0), 4, 3, 2).tolist()
        [2, 2, 2, 2]
    """
    pool = draw.choice(blocks, draw.integers(1, min(kinds, blocks) + 1), replace=False)
    return draw.choice(pool, units).astype(np.int64)
