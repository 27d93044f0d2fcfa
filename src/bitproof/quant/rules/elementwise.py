"""Rules for what works element by element: look-up tables, sums, products."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref, Rule
from bitproof.quant.rules.layers import stored
from bitproof.quant.rules.masks import by_image, hidden_by, hide
from bitproof.quant.rules.norms import normalized, scale_channels


def table(function: str, *names: str) -> Rule:
    """Return the rule of an elementwise layer or function with further arguments `names`."""

    def rule(call: Call, layer: Any = None) -> Ref:
        plain = layer is not None
        parameters = {
            name: value if plain or isinstance(value, str) else call.number(value)
            for name, value in zip(names, call.given(layer, *names), strict=True)
            if value is not None
        }
        return call.emit("table", call.x, function=function, parameters=parameters)

    return rule


def clamp(**bounds: float) -> Rule:
    """Return the rule of a clamp with fixed bounds (ReLU, ReLU6)."""
    return lambda call, _=None: call.emit("table", call.x, function="clamp", parameters=bounds)


def hardtanh(call: Call, layer: Any = None) -> Any:
    """Lower a clamp whose bounds have defaults."""
    if layer is not None:
        return clamp(min=layer.min_val, max=layer.max_val)(call)
    low, high = call.get(1, "min_val", -1.0), call.get(2, "max_val", 1.0)
    return clamp(min=call.number(low), max=call.number(high))(call)


def threshold(call: Call, layer: Any = None) -> Ref:
    """Lower `x where x > threshold, else value`."""
    limit, value = call.given(layer, "threshold", "value")
    parameters = {"threshold": call.number(limit), "value": call.number(value)}
    return call.table(call.x, "threshold", **parameters)


def prelu(call: Call, layer: Any = None) -> Ref:
    """Lower a leaky ReLU whose slope is learned, one or one per channel."""
    slope = stored(call, weight=layer.weight if layer is not None else call.get(1, "weight"))
    value = slope["weight"]
    assert value is not None
    x = call.x
    if value.numel() == 1:
        return call.table(x, "leaky_relu", negative_slope=float(value))
    positive, negative = call.table(x, "clamp", min=0.0), call.table(x, "clamp", max=0.0)
    flat = value.detach().flatten()
    scaled = scale_channels(call, negative, flat, torch.zeros_like(flat), origin=(value,))
    return call.emit("add", positive, scaled)


def randomized_leaky_relu(call: Call, layer: Any = None) -> Ref:
    """Lower the mean slope, which evaluation takes."""
    low, high = call.given(layer, "lower", "upper")
    low, high = (1 / 8 if low is None else low), (1 / 3 if high is None else high)
    return call.table(call.x, "leaky_relu", negative_slope=(low + high) / 2)


def gated(function: str) -> Rule:
    """Return the rule of a gate: the first half of an axis times a function of the second."""

    def rule(call: Call, layer: Any = None) -> Ref:
        (dim,) = call.given(layer, "dim")
        x = call.x
        dim = (-1 if dim is None else dim) % len(x.shape)
        half = x.shape[dim] // 2
        value, gate = call.slice(x, dim, 0, half), call.slice(x, dim, half, 2 * half)
        return call.emit("mul", value, call.table(gate, function))

    return rule


def functional_dropout(call: Call) -> Ref:
    """Lower dropout that is off in evaluation mode."""
    if call.get(2, "training", call.kwargs.get("train", True)):
        raise TraceError(f"{call.path}: dropout stays active in evaluation mode")
    return call.x


def stochastic_depth(call: Call) -> Ref:
    """Lower stochastic depth that is off in evaluation mode."""
    if call.get(3, "training", True):
        raise TraceError(f"{call.path}: stochastic depth stays active in evaluation mode")
    return call.x


def binary(op: str) -> Rule:
    """Return the rule of a sum, difference or product of two tensors, or of one and a number."""

    def rule(call: Call) -> Ref:
        a, b = call.get(0, "input"), call.get(1, "other")
        alpha = call.number(call.kwargs.get("alpha", 1))
        if isinstance(b, Ref) and alpha != 1:
            b = call.rescale(b, alpha) if alpha > 0 else with_number(call, b, "mul", alpha)
        elif alpha != 1:
            b = call.number(b) * alpha
        if isinstance(a, Ref) and isinstance(b, Ref):
            return of_two(call, op, a, b)
        if isinstance(a, Ref):
            return with_number(call, a, op, call.number(b))
        if op == "sub":
            return with_number(call, with_number(call, b, "mul", -1.0), "add", call.number(a))
        return with_number(call, b, op, call.number(a))

    return rule


def of_two(call: Call, op: str, a: Ref, b: Ref) -> Ref:
    """Append a sum, difference or product of two tensors; a fixed mask hides scores."""
    if op == "add" and a.value is not None and b.value is None:
        a, b = b, a
    if b.value is not None:
        a, value, restored = by_image(call, a, b.value)
        hidden = hidden_by(value) if op == "add" else None
        if hidden is not None:
            value = value.masked_fill(hidden, 0.0)
            if bool((value != 0).any()):
                a = _with_constant(call, op, a, value)
            return restored(hide(call, a, hidden))
        if value is not b.value:
            return restored(_with_constant(call, op, a, value))
    return call.emit(op, a, b)


def _with_constant(call: Call, op: str, x: Ref, value: Tensor, *, name: str = "other") -> Ref:
    stored = call.builder.constant(value, path=f"{call.path}.{name}")
    sizes = torch.broadcast_shapes(x.shape, value.shape)  # type: ignore[no-untyped-call]
    return call.step(op, x, stored, shape=tuple(sizes))


def reversed_difference(call: Call) -> Ref:
    """Lower `other - alpha * self`."""
    swapped = Call(
        (call.get(1, "other"), call.get(0, "self")),
        call.kwargs,
        call.value,
        call.shape,
        call.path,
        call.builder,
    )
    found: Ref = binary("sub")(swapped)
    return found


def with_number(call: Call, x: Ref, op: str, number: float) -> Ref:
    """Lower a tensor plus, minus or times a number."""
    if op == "mul" and number > 0 and math.isfinite(number):
        return call.step("rescale", x, shape=x.shape, factor=number)
    function = {"add": "shift", "sub": "shift", "mul": "multiply"}[op]
    other = -number if op == "sub" else number
    return call.step("table", x, shape=x.shape, function=function, parameters={"other": other})


def divide(call: Call) -> Ref:
    """Lower division by a number, by a stored tensor or by an activation."""
    x, divisor = call.get(0, "input"), call.get(1, "other")
    if call.kwargs.get("rounding_mode") is not None:
        raise TraceError(f"{call.path}: division with rounding has no rule")
    if not isinstance(divisor, Ref):
        return with_number(call, call.x, "mul", 1.0 / call.number(divisor))
    if not isinstance(x, Ref):
        inverse = call.table(divisor, "pow", other=-1.0)
        return with_number(call, inverse, "mul", call.number(x))
    if divisor.value is None:
        return normalized(call, x, divisor) or call.emit("div", x, divisor)
    x, factor, restored = by_image(call, x, 1 / divisor.value)
    if not bool(factor.isfinite().all()):
        raise TraceError(f"{call.path}: division by a stored zero")
    return restored(_with_constant(call, "mul", x, factor, name="inverse"))


def power(call: Call) -> Ref:
    """Lower a power with a constant exponent."""
    exponent = call.number(call.get(1, "exponent"))
    return call.emit("table", call.x, function="pow", parameters={"other": exponent})


def product_and_sum(op: str) -> Rule:
    """Return the rule of `input + value * a * b`, or with `a / b`."""

    def rule(call: Call) -> Ref:
        base, a, b = call.x, call.get(1, "tensor1"), call.get(2, "tensor2")
        value = call.number(call.kwargs.get("value", 1))
        found = with_number(call, call.emit(op, a, b), "mul", value)
        return of_two(call, "add", base, found)

    return rule


LOOKUPS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.GELU: ("gelu", "approximate"),
    nn.SiLU: ("silu",),
    nn.Sigmoid: ("sigmoid",),
    nn.Tanh: ("tanh",),
    nn.Hardswish: ("hardswish",),
    nn.Hardsigmoid: ("hardsigmoid",),
    nn.LeakyReLU: ("leaky_relu", "negative_slope"),
    nn.ELU: ("elu", "alpha"),
    nn.CELU: ("celu", "alpha"),
    nn.SELU: ("selu",),
    nn.Softplus: ("softplus", "beta", "threshold"),
    nn.Mish: ("mish",),
    nn.Softsign: ("softsign",),
    nn.Tanhshrink: ("tanhshrink",),
    nn.LogSigmoid: ("logsigmoid",),
    nn.Hardshrink: ("hardshrink", "lambd"),
    nn.Softshrink: ("softshrink", "lambd"),
}
"""Elementwise layers: the function's name, and what it takes besides the input."""


UNARY = (
    *("exp", "expm1", "log", "log1p", "log2", "abs", "square", "sqrt", "rsqrt", "reciprocal"),
    *("sin", "cos", "erf", "sign", "floor", "ceil", "round"),
)
"""Functions of one number without further arguments."""
