"""Fault-injection campaigns: which faults, what each of them did, and the sums of it."""

from bitproof.injection.campaign import carry_out_campaign, prepare_campaign
from bitproof.injection.executors import EXECUTORS, Executor, InProcess, Processes, Ray
from bitproof.injection.spec import FaultGroup, Injection

__all__ = [
    "EXECUTORS",
    "Executor",
    "FaultGroup",
    "InProcess",
    "Injection",
    "Processes",
    "Ray",
    "carry_out_campaign",
    "prepare_campaign",
]
