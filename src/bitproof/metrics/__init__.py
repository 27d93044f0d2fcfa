"""Outcomes from logits: which answers are right, and what a curve comes to."""

from bitproof.metrics.area import area_over_decades
from bitproof.metrics.outcomes import OUTCOMES, outcomes
from bitproof.metrics.tally import Tally, tally

__all__ = ["OUTCOMES", "Tally", "area_over_decades", "outcomes", "tally"]
