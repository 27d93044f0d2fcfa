"""Let a network multiply approximately, without training.

Model:  products of the deployed network come from the tables of multipliers; float weights and
        quantization stay. The mean error of each filter may be taken off (control variate).
Source: METHODS B (HAWX); control variate: arXiv 2102.09642.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Literal

from pydantic import Field

from bitproof.approx.base import AnyMultiplier
from bitproof.core.passes import Passes
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext


@HARDEN.register
class Approximate(HardeningStage):
    """Choose what multiplies: one multiplier for all layers, for single layers or filters.

    Example:
        >>> from bitproof.approx import Truncated
        >>> Approximate(multiplier=Truncated(columns=4, signed=True)).correct_means
        False
    """

    kind: Literal["approximate"] = "approximate"
    multiplier: AnyMultiplier | None = None
    """Of every layer that is not named below, whatever it had; None: those of earlier stages."""
    layers: dict[str, AnyMultiplier | tuple[AnyMultiplier, ...]] = Field(default_factory=dict)
    """Of single layers, by name: one multiplier, or one for each filter."""
    correct_means: bool = False
    """Take the mean error of each filter's sums, on the calibration images, off again, here and in
    whatever stage comes later."""

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return nothing: it does not look at images."""
        return Passes()

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:  # noqa: ARG002
        """Return the candidate with these multipliers."""
        arithmetic = candidate.arithmetic.changed(
            self.multiplier, self.layers, correct_means=self.correct_means
        )
        model = deepcopy(candidate.model).eval()
        record = self.model_dump(mode="json", exclude={"kind"})
        done = replace(candidate, model=model, arithmetic=arithmetic)
        return done.with_record(self.kind, **record)
