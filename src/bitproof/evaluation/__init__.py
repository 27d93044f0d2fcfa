"""Measure networks under every threat, keep the counts, and sum them up."""

from bitproof.evaluation.evaluation import Evaluation, count
from bitproof.evaluation.models import EvaluatedModel, FloatModel, IntegerModel
from bitproof.evaluation.store import TallyStore
from bitproof.evaluation.summary import masking_warnings, summarize

__all__ = [
    "EvaluatedModel",
    "Evaluation",
    "FloatModel",
    "IntegerModel",
    "TallyStore",
    "count",
    "masking_warnings",
    "summarize",
]
