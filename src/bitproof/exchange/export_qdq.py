"""Multiply-accumulate nodes between QuantizeLinear and DequantizeLinear, as int8 kernels want them.

Model:  ONNX Runtime makes `QLinearConv`, `QGemm` or `QLinearMatMul` of such a node: exact int32
        sums, bias included, times `scale_x * scale_w / scale_y` in float32, rounded half to even.
        Activations have scale 1 here and weights have our multiplier as their scale, so that its
        product and quotient are our float32 number, to the bit. All other nodes are as in
        `export_sums.py`: words less their zero point are activations of scale 1.
"""

from typing import Any

import numpy as np

from bitproof.exchange.export_layers import Array, Layer, integer_layer
from bitproof.exchange.export_state import ExportState, Wire, array
from bitproof.exchange.export_words import clip_words, finish, to_words
from bitproof.quant import Node


def quantized_layer(state: ExportState, node: Node) -> Wire:
    """Return the output of a multiply-accumulate node or of a pooling by averages."""
    wires, grid = state.inputs(node), state.grid(node)
    bytes_in = all(wire.form == "words" and wire.dtype == "uint8" for wire in wires)
    nearest = state.constants(node).rounding == "nearest"
    bytes_out = grid is not None and grid.bits <= 8
    fits = bytes_in and node.op != "affine" and nearest
    if node.op in {"conv", "avg_pool"}:
        fits = fits and bytes_out
    if node.op != "matmul" and fits:
        fits = Layer.of(state, node).zero_point is not None
    if not fits:
        state.note("no int8 kernel for these words: spelled out in integer operators", node)
        return integer_layer(state, node)
    steps = _matmul(state, node) if node.op == "matmul" else _weighted(state, node)
    if not bytes_out:
        return finish(state, node, steps, apart=True)
    assert grid is not None
    wire = state.wire(grid, node.name)
    words = state.renamed(wire, to_words(state, wire, steps, node.name))
    return clip_words(state, node, words)


def _matmul(state: ExportState, node: Node) -> str:
    left, right = state.inputs(node)
    factor = float(array(state.constants(node).multipliers[0], "float32").reshape(-1)[0])
    return state.writer.add("MatMul", state.scaled(left), state.scaled(right, factor))


def _weighted(state: ExportState, node: Node) -> str:
    """Return a layer's output in steps, before it is rounded."""
    writer, (wire,), layer = state.writer, state.inputs(node), Layer.of(state, node)
    point = layer.zero_point
    assert point is not None
    dtype = state.weights
    shift = point if dtype == "uint8" else point - 128
    operands = [_stored(state, layer.weight + shift, layer, shift, dtype)]
    if layer.bias is not None:
        operands.append(_stored(state, layer.bias, layer, 0, "int32"))
    if layer.geometry:
        return writer.add("Conv", state.scaled(wire), *operands, **layer.geometry)
    rows = _flat(state, node, wire)
    steps = writer.add("Gemm", state.scaled(rows), *operands, transB=1)
    if rows is wire:
        return steps
    return state.reshape(steps, state.sizes(node.name), node)


def _flat(state: ExportState, node: Node, wire: Wire) -> Wire:
    """Return words as rows, which alone have an int8 kernel that adds a bias to sums."""
    sizes = state.sizes(node.inputs[0])
    if len(sizes) == 2:
        return wire
    last = sizes[-1]
    assert not isinstance(last, tuple)
    rows = state.writer.add("Reshape", wire.name, state.number([-1, last], "int64"))
    return state.renamed(wire, rows)


def _stored(state: ExportState, words: Array, layer: Layer, point: int, dtype: str) -> str:
    """Return stored words whose scale is the layer's multiplier."""
    scale = layer.multiplier
    points = np.full(scale.shape, point)
    axis: dict[str, Any] = {"axis": 0} if scale.ndim else {}
    # ONNX Runtime turns int8 into uint8 where it must, and fails over what two layers share.
    shared = dtype != "int8"
    values, zero = (
        state.writer.constant(one, dtype, "weight", shared=shared) for one in (words, points)
    )
    return state.writer.add("DequantizeLinear", values, state.number(scale), zero, **axis)
