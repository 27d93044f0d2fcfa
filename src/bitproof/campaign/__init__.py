"""Measure networks under every threat, keep the counts, and sum them up."""

from bitproof.campaign.evaluation import Evaluation, count
from bitproof.campaign.executors import EXECUTORS, Executor, InProcess, Processes, Ray
from bitproof.campaign.inject import carry_out_campaign, prepare_campaign
from bitproof.campaign.injection import FaultGroup, Injection
from bitproof.campaign.store import TallyStore
from bitproof.campaign.summary import masking_warnings, summarize
from bitproof.campaign.victim import FloatVictim, IntegerVictim, Victim

__all__ = [
    "EXECUTORS",
    "Evaluation",
    "Executor",
    "FaultGroup",
    "FloatVictim",
    "InProcess",
    "Injection",
    "IntegerVictim",
    "Processes",
    "Ray",
    "TallyStore",
    "Victim",
    "carry_out_campaign",
    "count",
    "masking_warnings",
    "prepare_campaign",
    "summarize",
]
