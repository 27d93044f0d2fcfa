"""One search under way: what it has measured, within its budget."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bitproof.explore.point import Point
from bitproof.explore.problem import Problem
from bitproof.explore.units import Choice


class BudgetSpentError(Exception):
    """A search has measured as many choices as it may; it ends here."""


@dataclass(eq=False)
class Trial:
    """One search under way: what it measured, in order."""

    problem: Problem
    budget: int
    """Choices that may be measured."""
    label: str
    points: list[Point] = field(default_factory=list)
    thinking: float = 0.0
    """Seconds of the search itself, without measuring."""
    _known: dict[bytes, Point] = field(default_factory=dict)

    def measure(self, choices: Sequence[Choice]) -> list[Point]:
        """Return choices measured; what this search measured before is free.

        Raises:
            BudgetSpentError: not all of them fit into the budget; those that do are measured.
            StoppedError: asked to stop.
        """
        new: dict[bytes, Choice] = {}
        for choice in choices:
            if (key := choice.tobytes()) not in self._known:
                new.setdefault(key, choice)
        room = self.budget - len(self.points)
        taken = list(new.items())[:room]
        counts = self.problem.measuring.measure([choice for _, choice in taken], self.label)
        for (key, choice), counted in zip(taken, counts, strict=True):
            point = self.problem.point(choice, counted, len(self.points))
            self.points.append(point)
            self._known[key] = point
        if len(taken) < len(new):
            raise BudgetSpentError
        return [self._known[choice.tobytes()] for choice in choices]

    @property
    def seconds(self) -> float:
        """What measuring took, as if nothing had been known before."""
        return sum((point.seconds for point in self.points), 0.0)

    def best(self, acc0: float) -> Point | None:
        """Return the best measured choice for the goal, or None where none is within it."""
        goal = self.problem.goal
        able = [point for point in self.points if self.problem.fits(point.figures)]
        if goal.max_drop is None:
            return max(able, key=lambda point: (point.acc, -point.cost), default=None)
        able = [point for point in able if point.acc >= acc0 - goal.max_drop - 1e-12]
        return min(able, key=lambda point: (point.cost, -point.acc), default=None)
