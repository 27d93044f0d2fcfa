"""Functions of one or two operands, and clamps."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, fx

from bitproof.core.errors import ExchangeError
from bitproof.exchange.torch_quantized.translator import (
    Function,
    Layer,
    Translator,
)


def unary(op: str, attrs: Callable[[Any], dict[str, Any]] | None = None) -> Layer:
    """Return the rule of a layer without weights."""

    def rule(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
        t.give(n, op, [t.real(n.args[0])], value, **(attrs(layer) if attrs else {}))

    return rule


def of_one(op: str, **attrs: Any) -> Function:
    """Return the rule of a function of one operand."""
    return lambda t, n, value: t.give(n, op, [t.real(n.args[0])], value, **attrs)


def elementwise(op: str, *, relu: bool = False) -> Function:
    """Return the rule of a function of two operands."""

    def rule(t: Translator, n: fx.Node, value: Tensor) -> None:
        inputs = [t.real(t.argument(n, 0, "input")), t.real(t.argument(n, 1, "other"))]
        if float(t.argument(n, -1, "alpha", 1)) != 1:
            raise ExchangeError(f"{n.name}: no form for alpha")
        if t.argument(n, -1, "rounding_mode") is not None:
            raise ExchangeError(f"{n.name}: no form for rounding_mode")
        t.give_all(n, [(op, inputs, {}), *([("Relu", (), {})] if relu else [])], value)

    return rule


def give_clamp(
    t: Translator, n: fx.Node, source: Any, ends: Sequence[float], value: Tensor
) -> None:
    """Append a clamp."""
    bounds = [t.constant(f"{n.name}/{k}", np.asarray(e, np.float32)) for k, e in enumerate(ends)]
    t.give(n, "Clip", [t.real(source), *bounds], value)


def clamp(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `clamp`, of which one end may be left out."""
    ends = t.value(t.argument(n, 1, "min")), t.value(t.argument(n, 2, "max"))
    bounds = [s * math.inf if e is None else float(e) for s, e in zip((-1, 1), ends, strict=True)]
    give_clamp(t, n, n.args[0], bounds, value)


def hardtanh(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `hardtanh`."""
    ends = t.argument(n, 1, "min_val", -1.0), t.argument(n, 2, "max_val", 1.0)
    give_clamp(t, n, n.args[0], [float(t.value(end)) for end in ends], value)


def relu6(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `relu6`."""
    give_clamp(t, n, n.args[0], (0.0, 6.0), value)


def hardtanh_layer(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
    """Translate a `Hardtanh`."""
    give_clamp(t, n, n.args[0], (float(layer.min_val), float(layer.max_val)), value)


def relu6_layer(t: Translator, n: fx.Node, _: Any, value: Tensor) -> None:
    """Translate a `ReLU6`."""
    give_clamp(t, n, n.args[0], (0.0, 6.0), value)


def softmax(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `softmax`."""
    axis = int(t.argument(n, 1, "dim")) % value.ndim
    t.give(n, "Softmax", [t.real(n.args[0])], value, axis=axis)


def quantize_stub(t: Translator, n: fx.Node, _: Any, value: Tensor) -> None:
    """Translate a module that quantizes."""
    t.give(n, "Identity", [t.real(n.args[0])], value)


def same_layer(t: Translator, n: fx.Node, _: Any, value: Tensor) -> None:
    """Translate a module that changes nothing."""
    t.alias(n, n.args[0], value)


def same(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate a function that changes nothing."""
    t.alias(n, n.args[0], value)
