"""Elementwise functions of one variable, by name: what a lookup table can hold."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "clamp": torch.clamp,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "selu": functional.selu,
    "softplus": functional.softplus,
    "mish": functional.mish,
    "exp": torch.exp,
    "abs": torch.abs,
    "square": torch.square,
    "pow": torch.pow,
    "sqrt": torch.sqrt,
    "multiply": torch.mul,
    "shift": torch.add,
}
"""Name to function; parameters are stored beside the name."""


def elementwise(attrs: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return the function that a `table` node stands for.

    Example:
        >>> elementwise({"function": "clamp", "parameters": {"min": 0.0}})(torch.tensor(-1.0))
        tensor(0.)
    """
    function = FUNCTIONS[attrs["function"]]
    parameters = dict(attrs.get("parameters", {}))
    if "other" in parameters:
        other = parameters.pop("other")
        return lambda x: function(x, other)
    return partial(function, **parameters)
