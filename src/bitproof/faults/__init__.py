"""Corrupt stored words: what breaks, how often, and exactly which bits."""

from bitproof.faults.base import FAULTS, AnyFault, FaultModel, Memory, StoredTensor
from bitproof.faults.bounding import FtClipAct, Ranger
from bitproof.faults.ecc import Parity, Secded
from bitproof.faults.kinds import KINDS, Burst, FaultKind, Flip, RandomValue, StuckAt, WordLine
from bitproof.faults.memory import Site, corrupt, corrupt_float32, faulty_activations, faulty_codes
from bitproof.faults.protection import PROTECTIONS, Protection
from bitproof.faults.random_flips import Flips, RandomFlips, sparse_flips
from bitproof.faults.space import FaultSpace
from bitproof.faults.table import FaultTable, read_fault_list, write_fault_list
from bitproof.faults.voting import TripleModular

__all__ = [
    "FAULTS",
    "KINDS",
    "PROTECTIONS",
    "AnyFault",
    "Burst",
    "FaultKind",
    "FaultModel",
    "FaultSpace",
    "FaultTable",
    "Flip",
    "Flips",
    "FtClipAct",
    "Memory",
    "Parity",
    "Protection",
    "RandomFlips",
    "RandomValue",
    "Ranger",
    "Secded",
    "Site",
    "StoredTensor",
    "StuckAt",
    "TripleModular",
    "WordLine",
    "corrupt",
    "corrupt_float32",
    "faulty_activations",
    "faulty_codes",
    "read_fault_list",
    "sparse_flips",
    "write_fault_list",
]
