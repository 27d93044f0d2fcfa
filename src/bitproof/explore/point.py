"""A measured choice: its accuracies, and what it takes on the accelerator."""

from dataclasses import dataclass

from bitproof.data.dataset import Dataset
from bitproof.evaluation.evaluation import Evaluation
from bitproof.explore.accelerator import HardwareFigures
from bitproof.explore.emulation import Counted, counted_tasks
from bitproof.explore.units import Choice
from bitproof.stats import wilson
from bitproof.stats.intervals import Interval


@dataclass(frozen=True, eq=False)
class Point:
    """A measured choice."""

    choice: Choice
    accs: tuple[Interval, ...]
    """Accuracy under each threat and level, Wilson's interval over images of all trials."""
    figures: HardwareFigures
    """Relative to exact products."""
    cost: float
    seconds: float
    """What measuring took."""
    number: int
    """How many were measured before it, by the same search."""

    @property
    def acc(self) -> float:
        """Accuracy under the first threat."""
        return self.accs[0].value


def accuracies(evaluation: Evaluation, data: Dataset, counted: Counted) -> tuple[Interval, ...]:
    """Return the accuracy under each threat and level, over all images of all trials."""
    sums: dict[tuple[int, float], list[int]] = {}
    for task, tally in zip(counted_tasks(evaluation, data), counted.tallies, strict=True):
        own = sums.setdefault((task.threat, task.level), [0, 0])
        own[0] += tally.correct
        own[1] += tally.total
    return tuple(wilson(right, total) for right, total in sums.values())
