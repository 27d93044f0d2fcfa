"""bitproof: take a neural network from float training to hardware with broken bits.

    import bitproof as bp

The main names are here, loaded when they are first used; `dir(bp)` lists all, `help(bp.NAME)`
explains one, with an example.

    data        load_data, Dataset.from_loader, Dataset.from_arrays
    models      build_model, load_weights, train_model, Optimization
    hardening   harden_model with Desensitize, FaultAware, Adjust, RandBET, TRADES, ...
    integers    quantize, Scheme, save_network, load_network, with_multipliers
    exchange    export_onnx, check_onnx, import_onnx, model_from_onnx, from_torch_quantized
    faults      inject, Injection, corrupt, RandomFlips, BitAscent, ...
    attacks     attack, LinfPGD, LinfAPGD, FGSM, L2PGD, LinfSquare
    questions   check, evaluate, Evaluation, MemoryFaults, AdversarialExamples, analyze
    searches    search_multipliers, Exploration
    recipes     read_recipe, run
    results     read, flat
    notebooks   show_progress

For example:

    splits = bp.load_data("digits")
    model = bp.build_model("digits_cnn", splits)
    bp.train_model(model, splits.train, progress=bp.show_progress())
    network = bp.quantize(model, splits.train.inputs())
    summary = bp.inject(network, splits.test, bp.Injection(trials=100))
"""

from functools import cache
from importlib import import_module

from bitproof.core.version import __version__ as __version__

TYPE_CHECKING = False  # true for type checkers; `typing` would double the time of this import
if TYPE_CHECKING:  # the one list of names; `_homes` reads it, so that nothing imports torch yet
    from bitproof.approx import Adam as Adam
    from bitproof.approx import CircuitMultiplier as CircuitMultiplier
    from bitproof.approx import EvoApprox as EvoApprox
    from bitproof.approx import SignMagnitude as SignMagnitude
    from bitproof.approx import correct_means as correct_means
    from bitproof.approx import with_multipliers as with_multipliers
    from bitproof.attacks import FGSM as FGSM
    from bitproof.attacks import L2PGD as L2PGD
    from bitproof.attacks import LinfAPGD as LinfAPGD
    from bitproof.attacks import LinfPGD as LinfPGD
    from bitproof.attacks import LinfSquare as LinfSquare
    from bitproof.circuits import AdamCircuit as AdamCircuit
    from bitproof.circuits import ExactCircuit as ExactCircuit
    from bitproof.circuits import MitchellCircuit as MitchellCircuit
    from bitproof.circuits import VotedCircuit as VotedCircuit
    from bitproof.cli.console import show_progress as show_progress
    from bitproof.data import Dataset as Dataset
    from bitproof.data import Splits as Splits
    from bitproof.evaluation import AdversarialBitErrors as AdversarialBitErrors
    from bitproof.evaluation import AdversarialExamples as AdversarialExamples
    from bitproof.evaluation import AttackOnFaultyChip as AttackOnFaultyChip
    from bitproof.evaluation import BlackBoxCheck as BlackBoxCheck
    from bitproof.evaluation import Clean as Clean
    from bitproof.evaluation import Evaluation as Evaluation
    from bitproof.evaluation import MemoryFaults as MemoryFaults
    from bitproof.evaluation import MultiplierFaults as MultiplierFaults
    from bitproof.evaluation import OnMultiplier as OnMultiplier
    from bitproof.exchange import check_onnx as check_onnx
    from bitproof.exchange import export_onnx as export_onnx
    from bitproof.exchange import import_onnx as import_onnx
    from bitproof.exchange import model_from_onnx as model_from_onnx
    from bitproof.exchange.torch_import import from_torch_quantized as from_torch_quantized
    from bitproof.explore import ChooseMultipliers as ChooseMultipliers
    from bitproof.explore import Exploration as Exploration
    from bitproof.explore import Goal as Goal
    from bitproof.explore import Hawx as Hawx
    from bitproof.explore import Spatial as Spatial
    from bitproof.explore import Temporal as Temporal
    from bitproof.faults import BitAscent as BitAscent
    from bitproof.faults import MeasuredChip as MeasuredChip
    from bitproof.faults import ProgressiveBitSearch as ProgressiveBitSearch
    from bitproof.faults import RandomFlips as RandomFlips
    from bitproof.faults import SimulatedSram as SimulatedSram
    from bitproof.faults import SystolicArray as SystolicArray
    from bitproof.faults import corrupt as corrupt
    from bitproof.harden import PGDAT as PGDAT
    from bitproof.harden import TRADES as TRADES
    from bitproof.harden import WCAT as WCAT
    from bitproof.harden import Adjust as Adjust
    from bitproof.harden import AdvBET as AdvBET
    from bitproof.harden import Approximate as Approximate
    from bitproof.harden import ApproximationAware as ApproximationAware
    from bitproof.harden import Candidate as Candidate
    from bitproof.harden import Desensitize as Desensitize
    from bitproof.harden import FastAT as FastAT
    from bitproof.harden import FaultAware as FaultAware
    from bitproof.harden import FreeAT as FreeAT
    from bitproof.harden import Joint as Joint
    from bitproof.harden import QuantizationAware as QuantizationAware
    from bitproof.harden import RandBET as RandBET
    from bitproof.harden import Vanilla as Vanilla
    from bitproof.injection import FaultGroup as FaultGroup
    from bitproof.injection import Injection as Injection
    from bitproof.injection import RegisterFaults as RegisterFaults
    from bitproof.metrics import Binary as Binary
    from bitproof.metrics import Classification as Classification
    from bitproof.metrics import MultiLabel as MultiLabel
    from bitproof.metrics import Regression as Regression
    from bitproof.metrics import Segmentation as Segmentation
    from bitproof.metrics import Sequence as Sequence
    from bitproof.models import load_weights as load_weights
    from bitproof.models import save_weights as save_weights
    from bitproof.quant import AdaRound as AdaRound
    from bitproof.quant import AffineQuantizer as AffineQuantizer
    from bitproof.quant import Fidelity as Fidelity
    from bitproof.quant import IntegerNetwork as IntegerNetwork
    from bitproof.quant import Scheme as Scheme
    from bitproof.quant import load_network as load_network
    from bitproof.quant import quantize as quantize
    from bitproof.quant import save_network as save_network
    from bitproof.recipe import analyze as analyze
    from bitproof.recipe import inject as inject
    from bitproof.recipe import read_recipe as read_recipe
    from bitproof.recipe import run as run
    from bitproof.recipe.check import check as check
    from bitproof.recipe.check_result import Check as Check
    from bitproof.recipe.verbs import attack as attack
    from bitproof.recipe.verbs import build_model as build_model
    from bitproof.recipe.verbs import evaluate as evaluate
    from bitproof.recipe.verbs import harden_model as harden_model
    from bitproof.recipe.verbs import load_data as load_data
    from bitproof.recipe.verbs import search_multipliers as search_multipliers
    from bitproof.recipe.verbs import train_model as train_model
    from bitproof.report.tables import flat as flat
    from bitproof.report.tables import read as read
    from bitproof.train import Optimization as Optimization


__all__: list[str]  # from `__getattr__`


@cache
def _homes() -> dict[str, str]:
    """Return the module of each name that type checkers import above."""
    import ast  # noqa: PLC0415 - the command line has no use for these two
    from pathlib import Path  # noqa: PLC0415

    tree = ast.parse(Path(__file__).read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.name: f"{node.module}" for node in imports for name in node.names if name.asname}


def __dir__() -> list[str]:
    return sorted({*globals(), *_homes()} - {"TYPE_CHECKING", "cache", "import_module"})


if not TYPE_CHECKING:  # or every misspelt name would be an object

    def __getattr__(name: str) -> object:
        if name == "__all__":
            return list(_homes())
        if name not in _homes():
            raise AttributeError(f"module 'bitproof' has no attribute '{name}'")
        return getattr(import_module(_homes()[name]), name)
