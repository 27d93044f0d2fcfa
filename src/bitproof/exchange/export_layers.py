"""Multiply-accumulate nodes in ONNX integer operators, whose sums the standard defines exactly.

Model:  `ConvInteger` and `MatMulInteger` give int32 sums of products of words less zero points; the
        bias is added to them as int32, then sums become float32 and meet the multiplier.
        Weights are uint8 around one zero point for all channels: kernels for int8 weights saturate
        on CPUs with AVX2 but no VNNI. Weights too wide for that are split into terms of one layer.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitproof.exchange.export_state import ExportState, Wire, array, refused
from bitproof.exchange.export_words import finish
from bitproof.quant import Node

Array = NDArray[Any]
MOST_TERMS = 8
"""Layers into which one with wide weights is split."""


@dataclass(frozen=True)
class Layer:
    """A node that multiplies stored weights: a convolution, rows, or sums of windows."""

    weight: Array
    """Words less zero points, as int64; filters first."""
    bias: Array | None
    """In steps of the accumulator, as int32."""
    multiplier: Array
    """From sums to output steps; one number, or one for each filter."""
    geometry: dict[str, Any]
    """Attributes of the convolution."""

    @classmethod
    def of(cls, state: ExportState, node: Node) -> "Layer":
        """Return the layer of a node with a weight, or of a pooling by averages."""
        constants = state.constants(node)
        multiplier: Array = array(constants.multipliers[0], "float32").reshape(-1)
        if node.op == "avg_pool":
            channels = state.shapes[0][node.name][1]
            ones = np.ones((channels, 1, *node.attrs["kernel"]), dtype=np.int64)
            attrs = {**node.attrs, "dilation": [1] * len(node.attrs["kernel"]), "groups": channels}
            return cls(ones, None, multiplier.reshape(()), _geometry(attrs))
        assert constants.weight is not None
        bias = None if constants.bias is None else array(constants.bias, "int32")
        if multiplier.size == 1:
            multiplier = multiplier.reshape(())
        geometry = _geometry(node.attrs) if node.op == "conv" else {}
        return cls(array(constants.weight, "int64"), bias, multiplier, geometry)

    @property
    def zero_point(self) -> int | None:
        """Where zero lies if the weight is stored as uint8; None if it does not fit."""
        return zero_point_for(self.weight)

    def along(self, values: Array, rank: int) -> Array:
        """Return numbers by filter, shaped to broadcast against the output."""
        maps = bool(self.geometry)
        return values.reshape(-1, *[1] * (rank - 2)) if maps and values.ndim else values


def zero_point_for(centered: Array) -> int | None:
    """Return a zero point for words of 8 bits, in the middle where it can be; None: none fits."""
    least, most = int(centered.min(initial=0)), int(centered.max(initial=0))
    if most - least > 255:
        return None
    return min(max(128, -least), 255 - most)


def _geometry(attrs: dict[str, Any]) -> dict[str, Any]:
    return {
        "strides": list(attrs["stride"]),
        "pads": [*attrs["padding"], *attrs["padding"]],
        "dilations": list(attrs["dilation"]),
        "group": attrs["groups"],
    }


def integer_layer(state: ExportState, node: Node) -> Wire:
    """Return the output of a multiply-accumulate node or of a pooling by averages."""
    if node.op == "affine":
        return _scale_channels(state, node)
    if node.op == "matmul":
        return _multiply_operands(state, node)
    layer, (wire,) = Layer.of(state, node), state.inputs(node)
    sums = _products(state, node, layer, wire)
    rank = state.rank(node.name)
    if layer.bias is not None:
        bias = state.number(layer.along(layer.bias, rank), "int32")
        sums = state.writer.add("Add", sums, bias)
    return from_sums(state, node, sums, layer.along(layer.multiplier, rank))


def from_sums(state: ExportState, node: Node, sums: str, multiplier: Array) -> Wire:
    """Return the output of a node from its int32 sums."""
    steps = state.writer.add("Mul", state.writer.cast(sums, "float32"), state.number(multiplier))
    return finish(state, node, steps)


def _products(state: ExportState, node: Node, layer: Layer, wire: Wire) -> str:
    """Return sums of products, as int32."""
    writer = state.writer
    if wire.form != "words":
        if layer.geometry:
            raise refused(node, "wanted inputs of at most 8 bits with zero on their grid")
        x = writer.cast(state.scaled(wire), "int32")
        return writer.add("MatMul", x, state.number(layer.weight.T, "int32"))
    total = ""
    for term in _terms(node, layer.weight):
        point = zero_point_for(term)
        assert point is not None
        points = state.number(wire.zero_point, "uint8"), state.number(point, "uint8")
        if layer.geometry:
            weight = state.number(term + point, "uint8")
            part = writer.add("ConvInteger", wire.name, weight, *points, **layer.geometry)
        else:
            weight = state.number(term.T + point, "uint8")
            part = writer.add("MatMulInteger", wire.name, weight, *points)
        total = writer.add("Add", total, part) if total else part
    return total


def _terms(node: Node, weight: Array) -> list[Array]:
    """Return weights of 8 bits that add up to `weight`."""
    if zero_point_for(weight) is not None:
        return [weight]
    count = math.ceil(int(np.abs(weight).max()) / 127)
    if count > MOST_TERMS:
        raise refused(node, f"wanted weights within {127 * MOST_TERMS} steps of zero")
    terms, rest = [], weight
    for left in range(count, 0, -1):
        terms.append(rest.clip(-127, 127) if left > 1 else rest)
        rest = rest - terms[-1]
    return terms


def _scale_channels(state: ExportState, node: Node) -> Wire:
    """Return channels times their weight, plus a bias, all as int32."""
    writer, (wire,), constants = state.writer, state.inputs(node), state.constants(node)
    assert constants.weight is not None
    rank = state.rank(node.name)
    shape = [-1] + [1] * (rank - 2)
    sums = writer.cast(state.scaled(wire), "int32")
    weight = array(constants.weight, "int32").reshape(shape)
    sums = writer.add("Mul", sums, state.number(weight, "int32"))
    if constants.bias is not None:
        bias = array(constants.bias, "int32").reshape(shape)
        sums = writer.add("Add", sums, state.number(bias, "int32"))
    multiplier = array(constants.multipliers[0], "float32")
    return from_sums(state, node, sums, multiplier)


def _multiply_operands(state: ExportState, node: Node) -> Wire:
    """Return a product of two activations."""
    writer, wires = state.writer, state.inputs(node)
    if all(wire.form == "words" and wire.dtype == "uint8" for wire in wires):
        points = [state.number(wire.zero_point, "uint8") for wire in wires]
        sums = writer.add("MatMulInteger", *(wire.name for wire in wires), *points)
    else:
        sums = writer.add("MatMul", *(writer.cast(state.scaled(w), "int32") for w in wires))
    multiplier = array(state.constants(node).multipliers[0], "float32").reshape(())
    return from_sums(state, node, sums, multiplier)
