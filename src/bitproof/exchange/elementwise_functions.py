"""Elementwise ONNX operators, alone and composed, as functions of lookup tables.

Model:  a table holds one of the functions of `quant.floats.FUNCTIONS`. A composition (`x *
        sigmoid(x)`, a GELU written out) is that function whose words it gives, all 2**bits of them
        (but for two, by one: constants of files are float32).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bitproof.quant.floats import FUNCTIONS, elementwise
from bitproof.quant.grid import Grid

Parameters = dict[str, float | str]
Named = tuple[str, Parameters]
PARTNERS: tuple[Named, ...] = (
    ("silu", {}),
    ("hardswish", {}),
    ("gelu", {"approximate": "none"}),
    ("gelu", {"approximate": "tanh"}),
    ("mish", {}),
    ("sigmoid", {}),
    ("hardsigmoid", {}),
    ("softplus", {}),
    ("tanh", {}),
    ("square", {}),
    ("abs", {}),
)
"""What compositions are compared with."""
ODD_WORDS = 2
"""Words that may differ, by one."""


def _alpha(name: str, default: float) -> Callable[[Mapping[str, Any]], Parameters]:
    return lambda attrs: {name: float(attrs.get("alpha", default))}


NONE: Callable[[Mapping[str, Any]], Parameters] = lambda _: {}  # noqa: E731
UNARY: dict[str, tuple[str, Callable[[Mapping[str, Any]], Parameters]]] = {
    "Relu": ("clamp", lambda _: {"min": 0.0}),
    "Sigmoid": ("sigmoid", NONE),
    "Tanh": ("tanh", NONE),
    "HardSwish": ("hardswish", NONE),
    "LeakyRelu": ("leaky_relu", _alpha("negative_slope", 0.01)),
    "Elu": ("elu", _alpha("alpha", 1.0)),
    "Celu": ("celu", _alpha("alpha", 1.0)),
    "ThresholdedRelu": (
        "threshold",
        lambda attrs: {"threshold": float(attrs.get("alpha", 1.0)), "value": 0.0},
    ),
    "Gelu": ("gelu", lambda attrs: {"approximate": str(attrs.get("approximate", "none"))}),
    "Softplus": ("softplus", NONE),
    "Softsign": ("softsign", NONE),
    "Mish": ("mish", NONE),
    "Swish": ("silu", NONE),
    "Exp": ("exp", NONE),
    "Log": ("log", NONE),
    "Sqrt": ("sqrt", NONE),
    "Abs": ("abs", NONE),
    "Erf": ("erf", NONE),
    "Neg": ("multiply", lambda _: {"other": -1.0}),
    "Reciprocal": ("reciprocal", NONE),
    "Sin": ("sin", NONE),
    "Cos": ("cos", NONE),
    "Floor": ("floor", NONE),
    "Ceil": ("ceil", NONE),
    "Round": ("round", NONE),
    "Sign": ("sign", NONE),
}
"""Operators of one input, and the functions of tables that they are."""


def function_of(named: Named) -> Callable[[Tensor], Tensor]:
    """Return a function of a table, to be called on float64.

    Example:
        >>> function_of(("clamp", {"min": 0.0}))(torch.tensor(-1.0))
        tensor(0.)
    """
    return elementwise({"function": named[0], "parameters": named[1]})


def hard_sigmoid(attrs: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return ONNX's HardSigmoid, whose slope is 1/5 where nothing else is said."""
    slope, middle = float(attrs.get("alpha", 0.2)), float(attrs.get("beta", 0.5))
    return lambda x: (x * slope + middle).clamp(0.0, 1.0)


def named_function(compute: Callable[[Tensor], Tensor], source: Grid, out: Grid) -> Named | None:
    """Return the function of a table that gives the words of a composition; None: there is none.

    Args:
        compute: the composition, on float64.
        source: grid of the words that are looked up.
        out: grid of the words that the table gives.
    """
    codes = torch.arange(source.low, source.high + 1)
    values = source.scale.double() * (codes - int(source.zero_point)).double()
    results = compute(values)
    wanted = words(results, out)
    ends: Named = ("clamp", {"min": float(results.min()), "max": float(results.max())})
    slope = float((results[-1] - results[-2]) / source.scale.double())
    lines: tuple[Named, ...] = (ends, ("multiply", {"other": slope}))
    for name, parameters in (*PARTNERS, *lines):
        assert name in FUNCTIONS
        found = words(function_of((name, parameters))(values), out)
        off = (found - wanted).abs()
        if int(off.max()) <= 1 and int(off.count_nonzero()) <= ODD_WORDS:
            return name, parameters
    return None


def words(values: Tensor, out: Grid) -> Tensor:
    """Return the words of float64 values on a grid."""
    steps = torch.nan_to_num(values, nan=0.0) / out.scale.double()
    return (steps.round() + int(out.zero_point)).clamp(out.low, out.high)
