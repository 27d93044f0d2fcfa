"""Elementwise functions of one operand, and clamps: lookup tables once there is a grid."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from bitproof.exchange.constant_folding import word_ends
from bitproof.exchange.elementwise_functions import UNARY, function_of, hard_sigmoid
from bitproof.exchange.onnx_arguments import clip_bounds
from bitproof.exchange.onnx_file import Array, OnnxNode
from bitproof.exchange.qdq.operands import Operands
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.values import (
    Function,
    Image,
    Known,
    KnownWords,
    Reals,
    Rounded,
    Unrounded,
    Value,
    numbers,
    scalar,
)


def unary(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower an elementwise function."""
    value = operands[0]
    if node.op == "Swish" and float(node.attrs.get("alpha", 1.0)) != 1:
        reader.refuse(node, f"no form for an alpha of {float(node.attrs['alpha']):g}")
    name, parameters = UNARY[node.op]
    named = name, parameters(node.attrs)
    if name == "clamp" and isinstance(value, Unrounded):
        return _clamped(reader, node, value, 0.0, None)
    if name == "sigmoid" and isinstance(value, Unrounded):
        return at_the_end(reader, node, value, "table", {"function": "sigmoid"})
    return applied(reader, node, value, named)


def clip(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Clip`: of reals a clamp, of words their bounds."""
    value = operands[0]
    arrays: list[Array | None] = [None]
    for place, one in enumerate(operands[1:], 1):
        arrays.append(None if one is None else numbers(one))
        if one is not None and arrays[-1] is None:
            reader.refuse(node, f"wanted input {place} to be a constant")
    low, high = clip_bounds(node, arrays)
    if isinstance(value, Known):
        least, most = word_ends(str(value.array.dtype))
        bounds = _whole(low, least), _whole(high, most)
        array = np.clip(value.array, *bounds).astype(value.array.dtype)
        return Known(array, _within(value.bounds, bounds))
    if isinstance(value, Rounded):
        if any(one is not None and one.dtype == np.uint16 for one in arrays):
            reader.refuse(node, "no form for bounds of unsigned words with 16 bits")
        bounds = _whole(low, value.grid.low), _whole(high, value.grid.high)
        if not value.grid.low <= bounds[0] < bounds[1] <= value.grid.high:
            reader.refuse(node, f"wanted bounds within the words, got {bounds}")
        bounds = _within(value.bounds, bounds)
        if bounds[0] == bounds[1]:
            reader.refuse(node, f"wanted bounds that leave several words, got {bounds[0]} alone")
        return replace(value, bounds=bounds)
    if isinstance(value, Unrounded):
        return _clamped(reader, node, value, low, high)
    parameters: dict[str, float | str] = {}
    parameters |= {} if low is None else {"min": low}
    parameters |= {} if high is None else {"max": high}
    if not parameters and value is not None:
        return value
    return applied(reader, node, value, ("clamp", parameters))


def hard_sigmoid_rule(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `HardSigmoid`, of any slope that a table knows."""
    return composed(reader, node, operands[0], hard_sigmoid(node.attrs))


def power(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Pow` to a number."""
    number = scalar(operands[1])
    if number is None:
        reader.refuse(node, "wanted an exponent that is one number")
    return applied(reader, node, operands[0], ("pow", {"other": number}))


def cast(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower a `Cast` between floats, or of images that come as integers."""
    value = operands[0]
    assert value is not None
    if int(node.attrs.get("to", 1)) not in {1, 10, 11} or isinstance(value, Rounded):
        reader.refuse(node, "no form for a cast of activations to integers")
    return replace(value, integer=False) if isinstance(value, Image) else value


def same(_: Reader, __: OnnxNode, operands: Operands) -> Value:
    """Lower what hands on its input."""
    assert operands[0] is not None
    return operands[0]


def applied(
    reader: Reader, node: OnnxNode, value: Value | None, named: tuple[str, dict[str, float | str]]
) -> Value:
    """Return a function, by its name, of an operand."""
    if isinstance(value, KnownWords):
        value = Reals(reader.reals(value, node))
    if not isinstance(value, Reals | Function):
        reader.reals(value, node)  # says what is wrong
    assert isinstance(value, Reals | Function)
    return apply_named(value, named, node.label)


def composed(
    reader: Reader, node: OnnxNode, value: Value | None, function: Callable[[Tensor], Tensor]
) -> Function:
    """Return any function of an operand."""
    if not isinstance(value, Reals | Function):
        reader.reals(value, node)
    assert isinstance(value, Reals | Function)
    inner = value.compute if isinstance(value, Function) else (lambda x: x)
    return Function(value.node, lambda x: function(inner(x)), node.label)


def at_the_end(
    reader: Reader, node: OnnxNode, value: Unrounded, op: str, attrs: dict[str, Any]
) -> Value:
    """Return the last layer of products with a softmax or a sigmoid of its real outputs."""
    if value.op not in {"conv", "linear", "matmul"} or value.clamp != (None, None):
        reader.reals(value, node)  # says what is wrong
    return replace(value, tail=(*value.tail, (op, attrs)))


def apply_named(
    value: Function | Reals,
    named: tuple[str, dict[str, float | str]],
    label: str,
) -> Function:
    """Return a function of what a value is."""
    function = function_of(named)
    if isinstance(value, Reals):
        return Function(value.node, function, label, named)
    inner = value.compute
    return Function(value.node, lambda x: function(inner(x)), label)


def _whole(end: float | None, otherwise: int) -> int:
    return otherwise if end is None else int(end)


def _within(inner: tuple[int, int] | None, outer: tuple[int, int]) -> tuple[int, int]:
    """Return the bounds of what was clipped to some, and then to others."""
    if inner is None:
        return outer
    low, high = (min(max(end, outer[0]), outer[1]) for end in inner)
    return low, high


def _clamped(
    reader: Reader, node: OnnxNode, value: Unrounded, low: float | None, high: float | None
) -> Value:
    if value.tail:
        reader.refuse(node, f"reads {value.label}, whose output is not quantized")
    if any(op == "pad" for op, _ in value.moves) and ((low or 0) > 0 or (high or 0) < 0):
        reader.refuse(node, "no form for bounds that move the zeros of the padding before it")
    return value.clamped(low, high)
