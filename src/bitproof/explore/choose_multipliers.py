"""A search over multipliers as a hardening stage: the network goes on with the best choice.

Model:  the network is quantized as it is, scores are taken on the first training images, and
        choices are measured on the last ones. Whatever comes after the stage (retraining, faults,
        attacks) sees the multipliers that were chosen.
Source: METHODS B.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, field_validator

from bitproof.approx.base import AnyMultiplier
from bitproof.approx.deploy import Arithmetic
from bitproof.core.errors import SpecError
from bitproof.core.passes import Passes
from bitproof.data.dataset import Dataset, Splits
from bitproof.explore.exploration import Exploration, explore
from bitproof.explore.multiplier_set import read_multipliers
from bitproof.explore.search_images import SearchImages
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.quant.network import IntegerNetwork


@HARDEN.register
class ChooseMultipliers(HardeningStage):
    """Choose a multiplier for each layer or filter.

    Example:
        >>> from bitproof.approx import Exact, Truncated
        >>> mild = Truncated(columns=4, signed=True)
        >>> ChooseMultipliers(multipliers={"exact": Exact(signed=True), "mild": mild}).kind
        'choose_multipliers'
    """

    kind: Literal["choose_multipliers"] = "choose_multipliers"
    multipliers: dict[str, AnyMultiplier] = Field(default_factory=dict)
    """What there is to choose from, by name: two or more, one of them exact. Those that the network
    has already go."""
    exploration: Exploration = Exploration()
    """The search; the choice is that of its first one. `images` are the last training images."""

    @field_validator("exploration")
    @classmethod
    def _check_images(cls, exploration: Exploration) -> Exploration:
        if exploration.images_of != "validation":
            raise ValueError("images_of: wanted none, a stage searches on training images")
        return exploration

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return nothing: it works on the integer network."""
        return Passes()

    def integer_passes(self, images: int, *, layers: int) -> Passes:
        """Return the search."""
        return self.exploration.passes(len(self.multipliers), layers=layers, calibration=images)

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with the multipliers that were chosen.

        Raises:
            SpecError: there are too few training images, or no choice meets the goal.
        """
        network = replace(candidate, arithmetic=Arithmetic()).quantize(context.train)
        means = self.exploration.correct_means or candidate.arithmetic.correct_means
        exploration = self.exploration.model_copy(update={"correct_means": means})
        blocks = read_multipliers(
            self.multipliers, costs=self.exploration.costs, data_dir=candidate.data_dir
        )
        outcome = explore(
            network,
            exploration,
            blocks,
            self._images(context.train, candidate),
            classes=_classes(network, context.train),
            progress=context.progress,
        )
        best, trial = outcome.chosen, outcome.first
        if best is None:
            raise SpecError(
                f"{self.kind}: none of the {len(trial.points)} choices that {trial.label} measured "
                "meets the goal; name a larger budget or a milder goal"
            )
        emulator = outcome.problem.measuring.emulator
        arithmetic = emulator.arithmetic(best.choice)
        done = replace(candidate, model=deepcopy(candidate.model).eval(), arithmetic=arithmetic)
        return done.with_record(
            self.kind,
            search=trial.label,
            evaluations=len(trial.points),
            figures=vars(best.figures),
            acc=list(best.accs[0]),
            arithmetic=arithmetic.digest(),
        )

    def _images(self, train: Dataset, candidate: Candidate) -> SearchImages:
        wanted = self.exploration.images
        last = train.subset(torch.arange(max(len(train) - wanted, 0), len(train)))
        return self.exploration.choose_images(
            Splits(train, last, last), calibration=candidate.scheme.calibration_images
        )


def _classes(network: IntegerNetwork, data: Dataset) -> int:
    return int(network(data.inputs(slice(0, 1))).shape[-1])
