"""Softmax and layer norms."""

import math

import numpy as np

from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.qdq.functions import at_the_end
from bitproof.exchange.qdq.operands import (
    Operands,
    as_array,
)
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.values import (
    KnownWords,
    Unrounded,
    Value,
    numbers,
)
from bitproof.quant.grid import CodedTensor
from bitproof.quant.vector_words import encode_vector


def softmax(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Softmax` and `LogSoftmax`."""
    opset = int(node.attrs.get("opset", reader.opset))  # that of `QLinearSoftmax` is its own
    value, op = operands[0], "softmax" if node.op == "Softmax" else "log_softmax"
    assert value is not None
    rank = len(reader.shape(value, node))
    axis = int(node.attrs.get("axis", -1 if opset >= 13 else 1)) % rank
    if opset < 13 and axis != rank - 1:
        reader.refuse(node, "no form for a softmax over several axes")
    if axis == 0:
        reader.refuse(node, "wanted a softmax within one image, got one over several")
    if isinstance(value, Unrounded):
        return at_the_end(reader, node, value, op, {"dim": axis})
    return reader.unrounded(op, [reader.reals(value, node)], node, attrs={"dim": axis})


def layer_norm(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `LayerNormalization`; parameters that are real become words of 16 bits."""
    source = reader.reals(operands[0], node)
    shape = reader.assembly.shapes[source]
    axis = int(node.attrs.get("axis", -1)) % len(shape)
    weight = _norm_words(reader, node, operands[1], shape[axis:])
    bias = None
    if len(operands) > 2 and operands[2] is not None:
        bias = _norm_words(reader, node, operands[2], shape[axis:])
    eps = float(node.attrs.get("epsilon", 1e-5))
    attrs = {"axes": len(shape) - axis, "eps": eps}
    return reader.unrounded("layer_norm", [source], node, attrs=attrs, weight=weight, bias=bias)


def _norm_words(
    reader: Reader, node: OnnxNode, value: Value | None, shape: tuple[int, ...]
) -> KnownWords:
    found = None if value is None else numbers(value)
    if found is None or found.size != math.prod(shape):
        reader.refuse(node, f"wanted parameters of {shape} that are constants")
    if isinstance(value, KnownWords) and value.coded.grid.axis is None:
        coded = value.coded
        return KnownWords(CodedTensor(coded.codes.reshape(shape), coded.grid), value.key)
    real = as_array(found.astype(np.float32).reshape(shape))
    if not bool(real.isfinite().all()):
        reader.refuse(node, "its parameters are not finite")
    return KnownWords(encode_vector(real), f"{node.outputs[0]} {len(shape)}")
