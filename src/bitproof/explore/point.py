"""A measured choice: its accuracies, and what it takes on the accelerator."""

from dataclasses import dataclass

from bitproof.core.errors import SpecError
from bitproof.data.dataset import Dataset
from bitproof.evaluation.evaluation import Evaluation
from bitproof.explore.accelerator import HardwareFigures
from bitproof.explore.count_store import Counted
from bitproof.explore.emulation import counted_measurements
from bitproof.explore.units import Choice
from bitproof.metrics import Tally
from bitproof.stats.intervals import Interval


@dataclass(frozen=True, eq=False)
class Point:
    """A measured choice."""

    choice: Choice
    accs: tuple[Interval, ...]
    """Accuracy under each threat and level, with the interval that runs give it as well: between
    chips or trials where there are several, else over images."""
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
    """Return the accuracy under each threat and level, with the interval that the threat gives it.

    Raises:
        SpecError: a threat gives no accuracy of such a network.
    """
    counts: list[dict[float, list[Tally]]] = [{} for _ in evaluation.threats]
    for task, tally in zip(counted_measurements(evaluation, data), counted.tallies, strict=True):
        counts[task.threat].setdefault(task.level, []).append(tally)
    found = []
    for threat, own in zip(evaluation.threats, counts, strict=True):
        rows = {row.level: row.interval for row in threat.rows(own) if row.metric == "acc"}
        for level in own:
            if (interval := rows.get(level)) is None:
                raise SpecError(
                    f"evaluation: wanted threats that give an accuracy of every choice, "
                    f"{threat.title} gives none"
                )
            found.append(interval)
    return tuple(found)
