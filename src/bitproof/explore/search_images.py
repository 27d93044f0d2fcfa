"""Images of a search: to profile on, to calibrate with, to measure choices on, and held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bitproof.core.errors import SpecError
from bitproof.data.dataset import Dataset, Splits
from bitproof.evaluation.evaluation import Evaluation
from bitproof.evaluation.models import IntegerModel
from bitproof.explore.count_store import Counted, CountStore
from bitproof.explore.emulation import counted_measurements
from bitproof.explore.measuring import Measuring
from bitproof.explore.point import accuracies
from bitproof.explore.units import Choice
from bitproof.quant.network import IntegerNetwork
from bitproof.stats.intervals import Interval


@dataclass(frozen=True, eq=False)
class SearchImages:
    """Which images are for what."""

    profile: Dataset
    """Training images, with labels."""
    calibration: Dataset
    """Training images for means and bounds, those that the network was quantized with."""
    search: Dataset
    held_out: Dataset
    """Images that no search has seen."""

    @classmethod
    def of(
        cls, splits: Splits, *, profile: int, calibration: int, search: int, search_of: str
    ) -> "SearchImages":
        """Return the images of a data set: how many of each sort.

        `search_of` is `validation`, or `test`: the first ones are searched on, the others held out.

        Raises:
            SpecError: there are too few.
        """
        wanted, which = search, search_of
        train, test = splits.train, splits.test
        found = len(splits.validation) if which == "validation" else len(test) - 1
        if found < wanted:
            hint = "; set data.validation_fraction, or images_of = 'test'"
            raise SpecError(
                f"images: wanted {wanted} of {which}, got {found}"
                f"{hint if which == 'validation' else ''}"
            )
        own = splits.validation if which == "validation" else test
        held_out = test if which == "validation" else test.subset(torch.arange(wanted, len(test)))
        return cls(
            profile=train.first(min(profile, len(train))),
            calibration=train.first(min(calibration, len(train))),
            search=own.first(wanted),
            held_out=held_out,
        )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Choices measured on images that no search has seen."""

    data: Dataset
    evaluation: Evaluation
    counts: dict[bytes, Counted]
    """By the bytes of the choice."""

    @classmethod
    def measured(
        cls, known: Measuring, choices: Sequence[Choice], data: Dataset, store: CountStore
    ) -> "HeldOut":
        """Measure choices, in this process; what `store` has is not measured again."""
        measuring = Measuring.opened(
            known.emulator.on(data), store, progress=known.progress, stop=known.stop
        )
        unique = {choice.tobytes(): choice for choice in choices}
        counts = measuring.measure(list(unique.values()), "held-out images")
        return cls(data, known.emulator.evaluation, dict(zip(unique, counts, strict=True)))

    def accs(self, choice: Choice) -> tuple[Interval, ...] | None:
        """Return the accuracies of a choice, None if it was not measured."""
        counted = self.counts.get(choice.tobytes())
        return None if counted is None else accuracies(self.evaluation, self.data, counted)


def measured_accuracies(
    network: IntegerNetwork, evaluation: Evaluation, data: Dataset, calibration: Dataset
) -> tuple[Interval, ...]:
    """Return the accuracy of any network under each threat and level."""
    model = IntegerModel(network, calibration)
    tallies = tuple(
        evaluation.threats[task.threat].measure(
            model, data, level=task.level, trial=task.trial, seed=evaluation.seed
        )
        for task in counted_measurements(evaluation, data)
    )
    return accuracies(evaluation, data, Counted(tallies, 0.0))
