"""bitproof: take a neural network from float training to hardware with broken bits.

The main verbs are here, loaded when they are first used:

    import bitproof as bp
    splits = bp.load_data("digits")
    model = bp.build_model("digits_cnn", splits)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bitproof.core.version import __version__

if TYPE_CHECKING:
    from bitproof.approx import EvoApprox, SignMagnitude, correct_means, with_multipliers
    from bitproof.attacks import FGSM, L2PGD, LinfPGD, LinfSquare
    from bitproof.data import Dataset, Splits
    from bitproof.evaluation import AdversarialExamples, Clean, Evaluation, MemoryFaults
    from bitproof.faults import RandomFlips, corrupt
    from bitproof.harden import (
        Adjust,
        Approximate,
        ApproximationAware,
        Candidate,
        Desensitize,
        FaultAware,
    )
    from bitproof.injection import FaultGroup, Injection
    from bitproof.models import load_weights, save_weights
    from bitproof.quant import (
        AffineQuantizer,
        IntegerNetwork,
        Scheme,
        load_network,
        quantize,
        save_network,
    )
    from bitproof.recipe import inject, read_recipe, run
    from bitproof.recipe.verbs import (
        attack,
        build_model,
        evaluate,
        harden_model,
        load_data,
        train_model,
    )
    from bitproof.train import Optimization

_ROOMS = {
    "EvoApprox": "approx",
    "SignMagnitude": "approx",
    "correct_means": "approx",
    "with_multipliers": "approx",
    "FGSM": "attacks",
    "L2PGD": "attacks",
    "LinfPGD": "attacks",
    "LinfSquare": "attacks",
    "AdversarialExamples": "evaluation",
    "Clean": "evaluation",
    "Evaluation": "evaluation",
    "MemoryFaults": "evaluation",
    "FaultGroup": "injection",
    "Injection": "injection",
    "Dataset": "data",
    "Splits": "data",
    "RandomFlips": "faults",
    "corrupt": "faults",
    "Adjust": "harden",
    "Approximate": "harden",
    "ApproximationAware": "harden",
    "Candidate": "harden",
    "Desensitize": "harden",
    "FaultAware": "harden",
    "load_weights": "models",
    "save_weights": "models",
    "AffineQuantizer": "quant",
    "IntegerNetwork": "quant",
    "Scheme": "quant",
    "load_network": "quant",
    "quantize": "quant",
    "save_network": "quant",
    "inject": "recipe",
    "read_recipe": "recipe",
    "run": "recipe",
    "attack": "recipe.verbs",
    "build_model": "recipe.verbs",
    "evaluate": "recipe.verbs",
    "harden_model": "recipe.verbs",
    "load_data": "recipe.verbs",
    "train_model": "recipe.verbs",
    "Optimization": "train",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'bitproof' has no attribute '{name}'")
    return getattr(import_module(f"bitproof.{_ROOMS[name]}"), name)


__all__ = [
    "FGSM",
    "L2PGD",
    "Adjust",
    "AdversarialExamples",
    "AffineQuantizer",
    "Approximate",
    "ApproximationAware",
    "Candidate",
    "Clean",
    "Dataset",
    "Desensitize",
    "Evaluation",
    "EvoApprox",
    "FaultAware",
    "FaultGroup",
    "Injection",
    "IntegerNetwork",
    "LinfPGD",
    "LinfSquare",
    "MemoryFaults",
    "Optimization",
    "RandomFlips",
    "Scheme",
    "SignMagnitude",
    "Splits",
    "__version__",
    "attack",
    "build_model",
    "correct_means",
    "corrupt",
    "evaluate",
    "harden_model",
    "inject",
    "load_data",
    "load_network",
    "load_weights",
    "quantize",
    "read_recipe",
    "run",
    "save_network",
    "save_weights",
    "train_model",
    "with_multipliers",
]
