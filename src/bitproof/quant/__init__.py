"""Quantizers, integer codes, tracing, and the integer network with its executions.

`trace` turns a module into a graph, `quantize` gives it integer codes, `IntegerNetwork` runs.
"""

from bitproof.quant.adaround import AdaRound
from bitproof.quant.build import quantize, quantize_graph, quantize_traced
from bitproof.quant.calibrate import measure_ranges
from bitproof.quant.equalize import equalize
from bitproof.quant.fake import run_differentiable
from bitproof.quant.fidelity import Fidelity, LayerFidelity
from bitproof.quant.flip_error import FlipError, flip_error
from bitproof.quant.floats import run_floats
from bitproof.quant.graph import Graph, Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.integers import run_integers
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.quantizer import (
    LADDER,
    PRESETS,
    QUANTIZERS,
    RQUANT,
    AffineQuantizer,
    Quantizer,
)
from bitproof.quant.redundancy import Redundancy, redundancy
from bitproof.quant.scaling import LayerScaling, scaling_factors
from bitproof.quant.scheme import Scheme
from bitproof.quant.store import load_network, network_files, save_network
from bitproof.quant.trace import trace

__all__ = [
    "LADDER",
    "PRESETS",
    "QUANTIZERS",
    "RQUANT",
    "AdaRound",
    "AffineQuantizer",
    "CodedTensor",
    "Fidelity",
    "FlipError",
    "Graph",
    "Grid",
    "IntegerNetwork",
    "LayerFidelity",
    "LayerScaling",
    "Node",
    "Quantizer",
    "Redundancy",
    "Scheme",
    "equalize",
    "flip_error",
    "load_network",
    "measure_ranges",
    "network_files",
    "quantize",
    "quantize_graph",
    "quantize_traced",
    "redundancy",
    "run_differentiable",
    "run_floats",
    "run_integers",
    "save_network",
    "scaling_factors",
    "trace",
]
