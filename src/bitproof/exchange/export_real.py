"""Outputs that stay real, in ONNX: `wide_outputs.py` in IEEE operations of float64, one by one."""

import math

import numpy as np

from bitproof.exchange.export_movements import move
from bitproof.exchange.export_state import ExportState, Wire
from bitproof.exchange.export_sums import pick
from bitproof.quant import Node
from bitproof.quant.operations import MOVING_OPS
from bitproof.quant.wide_outputs import FIXED_ONE, LN2_HIGH, LN2_LOW, LOGARITHM_TERMS, TERMS

LEAST = -708.0
"""Of the exponential's argument."""


def real_node(state: ExportState, node: Node) -> Wire:
    """Return the output of a node that reads real numbers."""
    if node.op in MOVING_OPS:
        return move(state, node)
    writer, (wire,) = state.writer, state.inputs(node)
    values = writer.cast(wire.name, "float64")
    zero, one = _number(state, 0.0), _number(state, 1.0)
    if node.op == "table":  # a sigmoid
        power = _exponential(state, node, writer.add("Neg", writer.add("Abs", values)))
        upper = writer.add("Where", writer.add("Less", values, zero), power, one)
        return _single(state, writer.add("Div", upper, writer.add("Add", power, one)))
    axes = state.number([node.attrs["dim"] % state.rank(node.name)], "int64")
    away = writer.add("Sub", values, writer.add("ReduceMax", values, axes, keepdims=1))
    fixed = _number(state, float(FIXED_ONE))
    powers = writer.add("Round", writer.add("Mul", _exponential(state, node, away), fixed))
    total = writer.add("ReduceSum", writer.cast(powers, "int64"), axes, keepdims=1)
    total = writer.cast(total, "float64")
    if node.op == "softmax":
        return _single(state, writer.add("Div", powers, total))
    log = _logarithm(state, writer.add("Div", total, fixed), state.shapes[0][node.name])
    return _single(state, writer.add("Sub", away, log))


def _number(state: ExportState, value: float) -> str:
    return state.number(value, "float64")


def _single(state: ExportState, x: str) -> Wire:
    return Wire(state.writer.cast(x, "float32"), "real")


def _exponential(state: ExportState, node: Node, x: str) -> str:
    """Return `exp(x)` for `x <= 0`."""
    writer = state.writer
    x = writer.add("Max", x, _number(state, LEAST))
    exponent = writer.add("Round", writer.add("Mul", x, _number(state, 1 / math.log(2))))
    rest = writer.add("Sub", x, writer.add("Mul", exponent, _number(state, LN2_HIGH)))
    rest = writer.add("Sub", rest, writer.add("Mul", exponent, _number(state, LN2_LOW)))
    series = _number(state, 1 / math.factorial(TERMS - 1))
    for term in reversed(range(TERMS - 1)):
        series = writer.add("Mul", series, rest)
        series = writer.add("Add", series, _number(state, 1 / math.factorial(term)))
    powers = state.number(np.ldexp(1.0, -np.arange(1023)), "float64")
    place = writer.cast(writer.add("Neg", exponent), "int32")
    return writer.add("Mul", series, pick(state, node, powers, place))


def _logarithm(state: ExportState, x: str, shape: tuple[int, ...]) -> str:
    """Return `log(x)` for `x` from 1 to the size of an output."""
    writer = state.writer
    bits = max(shape).bit_length() + 1
    # The exponent of frexp: how many powers of two are not above x.
    column = state.number([len(shape)], "int64")
    reached = writer.add(
        "GreaterOrEqual",
        writer.add("Unsqueeze", x, column),
        state.number(2.0 ** np.arange(bits), "float64"),
    )
    exponent = writer.cast(
        writer.add("ReduceSum", writer.cast(reached, "int32"), column, keepdims=0), "int64"
    )
    halves = state.number(0.5 ** np.arange(bits + 1), "float64")
    mantissa = writer.add("Mul", x, writer.add("Gather", halves, exponent))
    low = writer.add("Less", mantissa, _number(state, math.sqrt(0.5)))
    doubled = writer.add("Mul", mantissa, _number(state, 2.0))
    mantissa = writer.add("Where", low, doubled, mantissa)
    exponent = writer.cast(exponent, "float64")
    exponent = writer.add("Sub", exponent, writer.cast(low, "float64"))
    one = _number(state, 1.0)
    ratio = writer.add("Div", writer.add("Sub", mantissa, one), writer.add("Add", mantissa, one))
    square = writer.add("Mul", ratio, ratio)
    series = _number(state, 1 / (2 * LOGARITHM_TERMS - 1))
    for term in reversed(range(LOGARITHM_TERMS - 1)):
        series = writer.add("Mul", series, square)
        series = writer.add("Add", series, _number(state, 1 / (2 * term + 1)))
    twice = writer.add("Mul", writer.add("Mul", _number(state, 2.0), ratio), series)
    rest = writer.add("Add", writer.add("Mul", exponent, _number(state, LN2_LOW)), twice)
    return writer.add("Add", writer.add("Mul", exponent, _number(state, LN2_HIGH)), rest)
