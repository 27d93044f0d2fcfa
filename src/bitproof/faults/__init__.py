"""Corrupt stored words: what breaks, how often, and exactly which bits."""

from bitproof.faults.base import FAULTS, FaultModel
from bitproof.faults.float_words import corrupt_float32
from bitproof.faults.memory import Site, corrupt, faulty_activations
from bitproof.faults.random_flips import RandomFlips
from bitproof.faults.sampling import Flips, sparse_flips

__all__ = [
    "FAULTS",
    "FaultModel",
    "Flips",
    "RandomFlips",
    "Site",
    "corrupt",
    "corrupt_float32",
    "faulty_activations",
    "sparse_flips",
]
