"""From a quantized ONNX graph to an integer network: rules by operator, and the table of them.

To support another operator, add a rule here: it gets the reader, the node and its operands, and
returns the value (or the list of values) that the node gives.
"""

from collections.abc import Sequence

import numpy as np

from bitproof.core.errors import ExchangeError
from bitproof.exchange.constant_folding import MISFITS, fold, misfit
from bitproof.exchange.elementwise_functions import UNARY
from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.qdq import (
    elementwise,
    folding,
    functions,
    indexing,
    layers,
    norms,
    padding,
    pooling,
    resampling,
    reshaping,
    words,
)
from bitproof.exchange.qdq.node_maker import IMAGES
from bitproof.exchange.qdq.operands import Operands, Rule
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.values import Known, Value

__all__ = ["IMAGES", "RULES", "Reader", "apply_rule"]


def apply_rule(reader: Reader, node: OnnxNode, operands: Operands) -> list[Value]:
    """Return what a node gives, output by output.

    Raises:
        ExchangeError: it has no form as integers, or lacks a QuantizeLinear or DequantizeLinear.
    """
    given = [one for one in operands if one is not None]
    if node.op == "Shape" and given:
        return [_shape(reader, node, given[0])]
    known = all(isinstance(one, Known) for one in given)
    if known and node.op != "DequantizeLinear" and not _clips_words(node, given):
        arrays = [one.array if isinstance(one, Known) else None for one in operands]
        return [Known(fold(node, arrays, reader.budget))]
    rule = RULES.get(node.op)
    if rule is None:
        raise ExchangeError(f"{node.label}: no form as integers for this operator")
    try:
        found = rule(reader, node, operands)
    except MISFITS as error:
        raise ExchangeError(f"{node.label}: {misfit(error)}") from None
    return found if isinstance(found, list) else [found]


def _clips_words(node: OnnxNode, given: Sequence[Value]) -> bool:
    first = given[0] if given else None
    return node.op == "Clip" and isinstance(first, Known) and first.array.dtype.kind in "iu"


def _shape(reader: Reader, node: OnnxNode, value: Value) -> Known:
    sizes = np.asarray(reader.shape(value, node), np.int64)
    return Known(sizes[int(node.attrs.get("start", 0)) : node.attrs.get("end")])


RULES: dict[str, Rule] = {
    "QuantizeLinear": words.quantize_linear,
    "DequantizeLinear": words.dequantize_linear,
    "Conv": layers.convolution,
    "ConvTranspose": layers.transposed_convolution,
    "Gemm": layers.gemm,
    "MatMul": layers.matmul,
    "BatchNormalization": folding.batch_norm,
    **dict.fromkeys(UNARY, functions.unary),
    "HardSigmoid": functions.hard_sigmoid_rule,
    "Clip": functions.clip,
    "Pow": functions.power,
    **dict.fromkeys(elementwise.OPERATIONS, elementwise.binary),
    "Concat": indexing.concat,
    "ReduceMean": pooling.reduce_mean,
    "GlobalAveragePool": pooling.reduce_mean,
    "AveragePool": pooling.average_pool,
    "Softmax": norms.softmax,
    "LogSoftmax": norms.softmax,
    "LayerNormalization": norms.layer_norm,
    "Cast": functions.cast,
    "Identity": functions.same,
    "Dropout": functions.same,
    "Reshape": reshaping.reshape,
    "Flatten": reshaping.flatten,
    "Squeeze": reshaping.squeeze,
    "Unsqueeze": reshaping.unsqueeze,
    "Transpose": reshaping.transpose,
    "Slice": indexing.slices,
    "Split": indexing.split,
    "Gather": indexing.gather,
    "Expand": reshaping.expand,
    "Pad": padding.pad,
    "MaxPool": pooling.max_pool,
    "GlobalMaxPool": pooling.extremes,
    "ReduceMax": pooling.extremes,
    "ReduceMin": pooling.extremes,
    "DepthToSpace": reshaping.depth_to_space,
    "SpaceToDepth": reshaping.depth_to_space,
    "Resize": resampling.resize,
    "Upsample": resampling.resize,
}
"""Every operator that has a form, in a graph of QuantizeLinear and DequantizeLinear."""
