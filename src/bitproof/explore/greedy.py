"""One unit after the other gets a cheaper multiplier, as measurements say: no predictions."""

from typing import Literal

import numpy as np

from bitproof.explore.problem import Problem
from bitproof.explore.search import SEARCHES, Search
from bitproof.explore.trial import Trial

LOST = 1e-4
"""Added to a loss of accuracy, so that none of it is not worth everything."""


@SEARCHES.register
class Greedy(Search):
    """Begin with exact products; measure each unit's next cheaper multiplier, keep the best one.

    Best is the most cost saved for the accuracy that is lost. With many units the budget ends
    early: each step measures every unit.

    Example:
        >>> Greedy(budget=200).kind
        'greedy'
    """

    kind: Literal["greedy"] = "greedy"

    def run(self, problem: Problem, trial: Trial) -> None:
        """Step down until every unit has its cheapest multiplier."""
        choice = problem.exact
        (now,) = trial.measure([choice])
        while True:
            steps = [step for unit in range(len(choice)) for step in _next(problem, choice, unit)]
            if not steps:
                return
            points = trial.measure(steps)
            worth = [
                (now.cost - point.cost) / (max(now.acc - point.acc, 0.0) + LOST) for point in points
            ]
            best = int(np.argmax(worth))
            choice, now = steps[best], points[best]


def _next(problem: Problem, choice: np.ndarray, unit: int) -> list[np.ndarray]:
    """Return the choice with the next cheaper multiplier in one unit, if there is one."""
    costs, scores = problem.costs[unit], problem.scores[unit]
    cheaper = np.flatnonzero(costs < costs[choice[unit]])
    if not len(cheaper):
        return []
    # Of multipliers that cost the same, the one with the smaller errors.
    block = min(cheaper.tolist(), key=lambda one: (-costs[one], scores[one]))
    changed = choice.copy()
    changed[unit] = block
    return [changed]
