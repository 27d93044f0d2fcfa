"""Stages that turn a vulnerable network into a hardened one, usable alone and in any order."""

from bitproof.harden.adjust import Adjust
from bitproof.harden.advbet import AdvBET
from bitproof.harden.adversarial_training import PGDAT, TRADES, Vanilla
from bitproof.harden.approximate import Approximate
from bitproof.harden.approximation_aware import ApproximationAware
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.harden.critical_layers import CriticalLayers
from bitproof.harden.desensitize import Desensitize
from bitproof.harden.fast_at import FastAT
from bitproof.harden.fault_aware import FaultAware
from bitproof.harden.free_at import FreeAT
from bitproof.harden.joint import Joint
from bitproof.harden.quantization_aware import QuantizationAware
from bitproof.harden.randbet import RandBET
from bitproof.harden.requantize import Requantize
from bitproof.harden.wcat import WCAT

__all__ = [
    "HARDEN",
    "PGDAT",
    "TRADES",
    "WCAT",
    "Adjust",
    "AdvBET",
    "Approximate",
    "ApproximationAware",
    "Candidate",
    "CriticalLayers",
    "Desensitize",
    "FastAT",
    "FaultAware",
    "FreeAT",
    "HardeningStage",
    "Joint",
    "QuantizationAware",
    "RandBET",
    "Requantize",
    "TrainingContext",
    "Vanilla",
]
