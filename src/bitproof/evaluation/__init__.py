"""Measure networks under every threat, on any executor; keep the counts, and sum them up.

- `threat`: what a threat promises; `memory_faults`, `multiplier_faults`, `adversarial_bits`,
  `adversarial_examples`; two at once: `attack_on_faulty_chip`, `on_multiplier`.
- `flip_curve`: accuracy after every flip of a weight attack.
- `evaluation`: the list of threats, and measurements; `models`: what is measured.
- `tasks`: which task a network and a data set are about; `data_check`: whether they fit.
- `executors`, `ray_executor`: who computes; `store`: counts on disk.
"""

from bitproof.evaluation.adversarial_bits import AdversarialBitErrors
from bitproof.evaluation.adversarial_examples import AdversarialExamples, BlackBoxCheck
from bitproof.evaluation.attack_on_faulty_chip import AttackOnFaultyChip
from bitproof.evaluation.data_check import check_data
from bitproof.evaluation.evaluation import Evaluation
from bitproof.evaluation.executors import EXECUTORS, Executor, InProcess, Pool, Processes, Work
from bitproof.evaluation.flip_curve import FlipCurve, flip_curves, join_faults
from bitproof.evaluation.memory_faults import MemoryFaults
from bitproof.evaluation.models import EvaluatedModel, FloatModel, IntegerModel
from bitproof.evaluation.multiplier_faults import MultiplierFaults
from bitproof.evaluation.on_multiplier import OnMultiplier
from bitproof.evaluation.ray_executor import Ray
from bitproof.evaluation.store import TallyStore
from bitproof.evaluation.tasks import ending_of, settle_task
from bitproof.evaluation.threat import THREATS, Clean, Threat, count

__all__ = [
    "EXECUTORS",
    "THREATS",
    "AdversarialBitErrors",
    "AdversarialExamples",
    "AttackOnFaultyChip",
    "BlackBoxCheck",
    "Clean",
    "EvaluatedModel",
    "Evaluation",
    "Executor",
    "FlipCurve",
    "FloatModel",
    "InProcess",
    "IntegerModel",
    "MemoryFaults",
    "MultiplierFaults",
    "OnMultiplier",
    "Pool",
    "Processes",
    "Ray",
    "TallyStore",
    "Threat",
    "Work",
    "check_data",
    "count",
    "ending_of",
    "flip_curves",
    "join_faults",
    "settle_task",
]
