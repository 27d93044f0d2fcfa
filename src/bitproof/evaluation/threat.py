"""What every threat promises: levels and trials, a measurement, rows; and the one without any.

Model:  a measurement is a network, a threat, a level and a trial; its outcome is a count of right
        answers. Where images are judged once, which are right is kept, too, in the order of the
        data set, so that two networks can be compared image by image. What is drawn depends on
        the evaluation's seed and the trial's number alone, so a count depends neither on the other
        measurements nor on who makes it.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny
from torch import Tensor

from bitproof.core.errors import shorten
from bitproof.core.passes import UNKNOWN, Passes
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import Count, Positive
from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import EvaluatedModel
from bitproof.evaluation.tasks import task_of
from bitproof.metrics import Tally, area_over_decades
from bitproof.metrics.tally import SQUARES
from bitproof.stats import Interval, Row, mean_interval, wilson
from bitproof.stats.clusters import ratio_rate
from bitproof.stats.threats import ThreatLabel

BATCH = 128
"""Images that run at once."""

UNITS = {"mae": "label"}
"""Units of what counts come to, where it is no fraction."""

Counts = Mapping[float, Sequence[Tally]]
"""The counts of one network under one threat: by level, in the order of trials."""


def _check_rising(levels: tuple[float, ...]) -> tuple[float, ...]:
    if any(high <= low for low, high in pairwise(levels)):
        raise ValueError(f"wanted rising levels, each once, got {shorten(list(levels))}")
    return levels


Levels = Annotated[tuple[Positive, ...], Field(max_length=1000), AfterValidator(_check_rising)]
"""Strengths of a threat, rising."""


MOST_TRIALS = 10**6
"""Trials of one threat on one network: they are listed before the first of them."""


def check_trials(levels: tuple[float, ...], trials: int) -> None:
    """Raise a ValueError where all levels together have too many trials."""
    if len(levels) * trials > MOST_TRIALS:
        raise ValueError(
            f"wanted at most {MOST_TRIALS} trials at all levels together, "
            f"got {len(levels)} levels x {trials}"
        )


@dataclass(frozen=True)
class Measurement:
    """One measurement on a network: which threat (its place in the evaluation), level and trial."""

    threat: int
    level: float
    trial: int


class Threat(Spec):
    """Something that a network has to stand, at several levels, in several trials each.

    A subclass has a `kind`, fields for its parameters, and `measure`. It may say more of itself in
    `label`, `tasks`, `identity` and `passes`, and turn its counts into other rows than those of
    `rows`.
    """

    integers_only: ClassVar[bool] = False
    """Whether nothing is measured of a float model."""
    on_multipliers: ClassVar[bool] = True
    """Whether a network can meet it on approximate multipliers, inside of `on_multiplier`."""

    kind: str
    name: Annotated[str, Field(pattern=r"^\w*$", max_length=100)] = ""
    """What results call it; empty: the name of what it consists of, such as `random_flips`."""
    levels: Levels = ()
    """Strengths, rising; none: the threat has no levels."""

    @property
    def title(self) -> str:
        """What results call it."""
        return self.name or self.kind

    @property
    def metrics(self) -> tuple[str, ...]:
        """What its rows measure at each level, with an interval."""
        return ("acc",)

    @property
    def label(self) -> ThreatLabel:
        """Return its family, and how it and its levels are written."""
        return ThreatLabel(title=self.title.replace("_", " "))

    def check(self, data: Dataset) -> None:
        """Refuse a data set, or its task, that it cannot measure on; here, none.

        Raises:
            BitproofError: before anything is measured.
        """

    def tasks(self, data: Dataset) -> list[tuple[float, int]]:  # noqa: ARG002
        """Return level and number of every trial on `data`; here, one trial at each level."""
        return [(level, 0) for level in self.levels or (0.0,)]

    @property
    def slowdown(self) -> float:
        """Time that a pass takes under it, in passes without faults; roughly, as measured once."""
        return 1.0

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return what all trials on one network take, at most, before any is made.

        Here: all test images once at each level, at least.

        Args:
            images: number of test images.
            layers: convolutions and linear layers of the network.
        """
        return max(1, len(self.levels)) * images * UNKNOWN

    @abstractmethod
    def measure(
        self, model: EvaluatedModel, data: Dataset, *, level: float, trial: int, seed: int
    ) -> Tally:
        """Return how many answers are right in one trial.

        Args:
            model: the network; it stays as it is.
            data: all test images, on its device.
            level: one of `levels`, 0 where there are none.
            trial: its number, from 0.
            seed: root of whatever is drawn; with `trial`, through `make_generator`.
        """

    def first_images(self, data: Dataset) -> int | None:  # noqa: ARG002
        """Return how many of the first test images it measures on; None: others, or not told.

        Clean accuracy is counted on the same ones, to stand beside.
        """
        return None

    def identity(self, data: Dataset) -> dict[str, Any]:  # noqa: ARG002
        """Return what a count depends on beside network, images, level, trial and seed."""
        return self.model_dump(mode="json", exclude={"name", "levels"})

    def rows(self, counts: Counts) -> list[Row]:
        """Return the rows of `results.csv`, without the network's name.

        Here, trials are the unit where there are several (Student's t between them), images where
        there is one (Wilson).
        """
        levels = {level: counts[level] for level in self.levels or (0.0,)}
        if all(len(trials) == 1 for trials in levels.values()):
            return pooled_rows(self.title, levels)
        return spread_rows(self.title, levels)

    def warnings(self, counts: Counts, others: Mapping[str, Counts], data: Dataset) -> list[str]:  # noqa: ARG002
        """Return what makes the counts doubtful; `others` holds those of all threats, by name."""
        return []


THREATS: Registry[Threat] = Registry("threats")
AnyThreat = Annotated[SerializeAsAny[Threat], BeforeValidator(THREATS.validate)]


@THREATS.register
class Clean(Threat):
    """Classify clean images.

    Example:
        >>> Clean(images=1000).title
        'clean'
    """

    kind: Literal["clean"] = "clean"
    images: Count | None = None
    """Test images, the first ones; None: all."""

    @property
    def label(self) -> ThreatLabel:
        """Return that it is none."""
        return ThreatLabel("none", "Clean")

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return one look at each image."""
        return Passes(at_most(images, self.images))

    def measure(self, model: EvaluatedModel, data: Dataset, **_draw: object) -> Tally:
        """Return how many clean images are classified right."""
        return count_each(model.predict, first(data, self.images))


def pooled_rows(title: str, counts: Counts) -> list[Row]:
    """Return the accuracy over the images of all trials at each level, with its interval.

    The interval is Wilson's, between images; see `acc_interval`. What else the counts come to, such
    as `miou`, has none.
    """
    rows = []
    for level, trials in counts.items():
        one = total(trials)
        rows.append(_row(title, level, "acc", acc_interval(one), one.images))
        rows += [
            Row("", title, level, name, value, n=one.images, unit=UNITS.get(name, "fraction"))
            for name, value in one.metrics.items()
        ]
    return rows


def acc_interval(tally: Tally, *, confidence: float = 0.95) -> Interval:
    """Return the accuracy with its interval: the image is the unit, also where answers have parts.

    Example:
        >>> from bitproof.metrics.tally import IMAGES, SQUARES
        >>> parts = dict(zip((IMAGES, *SQUARES), (4, 20_000, 20_000, 40_000)))
        >>> [round(end, 2) for end in acc_interval(Tally(200, 400, tuple(parts.items())))]
        [0.14, 0.5, 0.86]
    """
    others = dict(tally.others)
    if SQUARES[0] not in others:
        return wilson(tally.correct, tally.total, confidence=confidence)
    right_right, right_parts, parts_parts = (int(others[name]) for name in SQUARES)
    return ratio_rate(
        tally.correct,
        tally.total,
        count=tally.images,
        success_squares=right_right,
        products=right_parts,
        total_squares=parts_parts,
        confidence=confidence,
    )


def spread_rows(title: str, counts: Counts, *, area: str = "") -> list[Row]:
    """Return the mean accuracy over trials at each level, their spread, and the worst.

    What else the counts come to, such as `miou`, has its mean over trials. `area` is the metric's
    name for the mean over the decades of levels, by trial; empty: none.
    """
    rows = []
    accs = {level: [one.acc for one in trials] for level, trials in counts.items()}
    for level, values in accs.items():
        mean, n = mean_interval(values), len(values)
        rows.append(_row(title, level, "acc", mean, n))
        spread = (sum((acc - mean.value) ** 2 for acc in values) / max(n - 1, 1)) ** 0.5
        rows.append(Row("", title, level, "acc_std", spread, n=n))
        rows.append(Row("", title, level, "acc_min", min(values), n=n))
        rows += _other_means(title, level, counts[level])
    if area and accs:
        areas = [area_over_decades(list(accs), chip) for chip in zip(*accs.values(), strict=True)]
        rows.append(_row(title, None, area, mean_interval(areas), len(areas)))
    return rows


def total(tallies: Sequence[Tally]) -> Tally:
    """Return the sum of counts."""
    return sum(tallies, Tally(0, 0))


def count(classifier: Callable[[Tensor], Float[Tensor, "n *answer"]], data: Dataset) -> Tally:
    """Return how many images of `data` are answered right, by the task of `data`.

    Raises:
        DataError: there is no task yet, and outputs and labels leave open which one.
    """
    return replace(count_each(classifier, data), right=None)


def count_each(classifier: Callable[[Tensor], Float[Tensor, "n *answer"]], data: Dataset) -> Tally:
    """Return the count of `count`, and which images are answered right.

    Raises:
        DataError: there is no task yet, and outputs and labels leave open which one.
    """
    found: list[Tally] = []
    task = None
    for part in data.blocks(BATCH):
        outputs = classifier(part.inputs())
        task = task or task_of(data, outputs)
        found.append(task.tally_each(outputs, part.labels))
    return total(found)


def at_most(images: int, wanted: int | None) -> int:
    """Return how many of so many images `first` takes."""
    return images if wanted is None else min(wanted, images)


def first(data: Dataset, wanted: int | None) -> Dataset:
    """Return the first `wanted` images, all where there are fewer or none is named."""
    return data if wanted is None else data.first(at_most(len(data), wanted))


def block(data: Dataset, number: int, size: int) -> Dataset:
    """Return a block of consecutive images; the last one may be smaller."""
    return data.subset(torch.arange(number * size, min((number + 1) * size, len(data))))


def _other_means(title: str, level: float, trials: Sequence[Tally]) -> list[Row]:
    """Return the means over trials of what else they count; of numbers, without interval."""
    rows = []
    for name in trials[0].metrics if trials else ():
        values = [one.metrics[name] for one in trials if name in one.metrics]
        if len(values) < len(trials):
            continue
        unit = UNITS.get(name, "fraction")
        if unit == "fraction":
            rows.append(_row(title, level, name, mean_interval(values), len(values)))
        else:
            mean = sum(values) / len(values)
            rows.append(Row("", title, level, name, mean, n=len(values), unit=unit))
    return rows


def _row(title: str, level: float | None, metric: str, interval: Interval, n: int) -> Row:
    low, value, high = interval
    return Row("", title, level, metric, value, low, high, n)
