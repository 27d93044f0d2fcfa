"""Fault-injection campaigns: which faults, what each of them did, and the sums of it."""

from bitproof.injection.campaign import carry_out_campaign, prepare_campaign
from bitproof.injection.spec import FaultGroup, Injection

__all__ = ["FaultGroup", "Injection", "carry_out_campaign", "prepare_campaign"]
