"""Measure networks under every threat, keep the counts, and sum them up."""

from bitproof.campaign.evaluation import Evaluation, count
from bitproof.campaign.store import TallyStore
from bitproof.campaign.summary import masking_warnings, summarize
from bitproof.campaign.victim import FloatVictim, IntegerVictim, Victim

__all__ = [
    "Evaluation",
    "FloatVictim",
    "IntegerVictim",
    "TallyStore",
    "Victim",
    "count",
    "masking_warnings",
    "summarize",
]
