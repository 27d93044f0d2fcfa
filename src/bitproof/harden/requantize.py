"""Quantize a network in another way, without training.

Model:  float weights stay; words, grids and calibration are those of another scheme. With it, one
        run measures a network at several widths.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Literal

from bitproof.core.passes import Passes
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.quant.scheme import Scheme


@HARDEN.register
class Requantize(HardeningStage):
    """Put the network on the words of another scheme.

    Example:
        >>> Requantize(scheme=Scheme("accurate", bits=4, activation_bits=4)).scheme.weight.bits
        4
    """

    kind: Literal["requantize"] = "requantize"
    scheme: Scheme = Scheme()
    """How the network is quantized, here and in whatever stage comes later."""

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return nothing: quantizing counts as for any network."""
        return Passes()

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:  # noqa: ARG002
        """Return the candidate with this scheme."""
        done = replace(candidate, model=deepcopy(candidate.model).eval(), scheme=self.scheme)
        return done.with_record(self.kind, scheme=self.scheme.model_dump(mode="json"))
