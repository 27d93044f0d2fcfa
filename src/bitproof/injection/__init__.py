"""Fault-injection campaigns: which faults, what each of them did, and the sums of it."""

from bitproof.injection.campaign import carry_out_campaign, prepare_campaign
from bitproof.injection.register_faults import RegisterFaults
from bitproof.injection.spec import FaultGroup, Injection

__all__ = ["FaultGroup", "Injection", "RegisterFaults", "carry_out_campaign", "prepare_campaign"]
