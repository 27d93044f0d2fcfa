"""Corrupt stored words: what breaks, how often, and exactly which bits."""

from bitproof.faults.base import FAULTS, AnyFault, FaultModel, Memory, StoredTensor
from bitproof.faults.bit_ascent import BitAscent, adversarial_codes
from bitproof.faults.bit_search import ProgressiveBitSearch, TargetedBitSearch
from bitproof.faults.bounding import FtClipAct, Ranger
from bitproof.faults.ecc import Parity, Secded
from bitproof.faults.error_map import MeasuredChip, write_error_map
from bitproof.faults.interleaved import Interleaved
from bitproof.faults.kinds import KINDS, Burst, FaultKind, Flip, RandomValue, StuckAt, WordLine
from bitproof.faults.memory import Site, corrupt, corrupt_float32, faulty_activations, faulty_codes
from bitproof.faults.protection import PROTECTIONS, AnyProtection, Protection
from bitproof.faults.random_flips import Flips, RandomFlips, sparse_flips
from bitproof.faults.signatures import Signatures
from bitproof.faults.space import FaultSpace
from bitproof.faults.sram import SimulatedSram
from bitproof.faults.systolic import SystolicArray
from bitproof.faults.table import FaultTable, read_fault_list, write_fault_list
from bitproof.faults.voting import TripleModular
from bitproof.faults.weight_attack import (
    WEIGHT_ATTACKS,
    AnyWeightAttack,
    WeightAttack,
    flip_bits,
    with_flips,
)

__all__ = [
    "FAULTS",
    "KINDS",
    "PROTECTIONS",
    "WEIGHT_ATTACKS",
    "AnyFault",
    "AnyProtection",
    "AnyWeightAttack",
    "BitAscent",
    "Burst",
    "FaultKind",
    "FaultModel",
    "FaultSpace",
    "FaultTable",
    "Flip",
    "Flips",
    "FtClipAct",
    "Interleaved",
    "MeasuredChip",
    "Memory",
    "Parity",
    "ProgressiveBitSearch",
    "Protection",
    "RandomFlips",
    "RandomValue",
    "Ranger",
    "Secded",
    "Signatures",
    "SimulatedSram",
    "Site",
    "StoredTensor",
    "StuckAt",
    "SystolicArray",
    "TargetedBitSearch",
    "TripleModular",
    "WeightAttack",
    "WordLine",
    "adversarial_codes",
    "corrupt",
    "corrupt_float32",
    "faulty_activations",
    "faulty_codes",
    "flip_bits",
    "read_fault_list",
    "sparse_flips",
    "with_flips",
    "write_error_map",
    "write_fault_list",
]
