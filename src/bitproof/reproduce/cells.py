"""The numbers of a job: one cell for each variant, threat, level and metric.

`acc` is the accuracy, `auc_fr` its mean over the decades of the bit error rate, `sdc1` and `sdc5`
are rates of silent corruption, as in `results.csv`; `gain` is the accuracy minus that of another
variant, mostly the quantized network without hardening; `energy_saved` is the memory energy that
the lowest safe voltage saves, at the largest loss of accuracy that is the level (the least saving,
where even the highest rate is safe).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from bitproof.core.errors import RecipeError
from bitproof.recipe.recipe import FLOAT
from bitproof.reproduce.jobs import Job

Key = tuple[str, str, float | None, str]
"""Variant, threat, level and metric."""


@dataclass(frozen=True)
class Cell:
    """One number to be reproduced.

    Example:
        >>> Cell("resq-matrix", "lenet5", "mnist", "s1+s2", "linf_pgd", 1 / 255, "acc").name
        'lenet5-mnist.s1+s2.linf_pgd-0.00392157.acc'
    """

    table: str
    network: str
    dataset: str
    variant: str
    threat: str
    level: float | None
    metric: str

    @property
    def job(self) -> str:
        """The name of the job that it belongs to."""
        return f"{self.network}-{self.dataset}"

    @property
    def key(self) -> Key:
        """What it is within its job."""
        return (self.variant, self.threat, self.level, self.metric)

    @property
    def name(self) -> str:
        """A name that is unique in its table and size, and can be read."""
        level = f"-{self.level:g}" if self.level else ""
        return f"{self.job}.{self.variant}.{self.threat}{level}.{self.metric}"


def cells_of(job: Job) -> list[Cell]:
    """Return the cells of a job, in the order of its variants.

    Raises:
        RecipeError: two levels are so near that their cells would have one name.
    """
    cells = [
        Cell(job.table.name, job.network, job.dataset, *key)
        for variant in job.variants
        for key in _keys(job, variant)
    ]
    if len({cell.name for cell in cells}) < len(cells):
        raise RecipeError(f"{job.path}: evaluation: wanted levels that differ in six digits")
    return cells


def _keys(job: Job, variant: str) -> Iterator[Key]:
    threats = job.measured()
    if job.plan.max_drop is not None:
        for title, threat in threats.items():
            if threat.label.symbol == "BER":
                yield variant, title, job.plan.max_drop, "energy_saved"
        return
    for title, threat in threats.items():
        places = product(threat.levels or (0.0,), threat.metrics)
        yield from ((variant, title, level, metric) for level, metric in places)
        if threat.label.logarithmic:
            yield variant, title, None, "auc_fr"
    if variant not in {FLOAT, job.plan.gain_against}:
        for title, threat in threats.items():
            wanted = job.gain_level(threat)
            if wanted is not None:
                level = nearest(wanted, threat.levels) if threat.levels else 0.0
                yield variant, title, level, "gain"


def nearest(level: float, levels: tuple[float, ...]) -> float:
    """Return the level that is meant, digit for digit as the recipe has it.

    Example:
        >>> nearest(0.0039215686, (1 / 255, 2 / 255)) == 1 / 255
        True
    """
    return min(levels, key=lambda known: math.fabs(known - level))
