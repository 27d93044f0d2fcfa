"""Operators on integers (`QLinearConv` and its like) as the float operators between Q and DQ.

Model:  an operator on words with scales and zero points of its own is a DequantizeLinear for each
        of its inputs, the operator on reals, and a QuantizeLinear: what a reader of QDQ graphs
        knows already. Only names are made here, no numbers but the steps of biases.
Source: onnxruntime, "Contrib operators" (domain com.microsoft), and ONNX `QLinearConv`,
        `QLinearMatMul`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from bitproof.core.errors import ExchangeError
from bitproof.exchange.onnx_file import Array, OnnxFile, OnnxNode

Triple = tuple[str, str, str]
"""Words, scale and zero point."""
ELEMENTWISE = {
    "QLinearAdd": "Add",
    "QLinearMul": "Mul",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearAveragePool": "AveragePool",
    "QLinearReduceMean": "ReduceMean",
    "QLinearMatMul": "MatMul",
    "QLinearConv": "Conv",
    "QGemm": "Gemm",
    "QLinearConcat": "Concat",
}
"""What each computes on reals."""
PAIRS = {"QLinearAdd", "QLinearMul", "QLinearMatMul"}
LAYERS = {"QLinearConv", "QGemm"}


def as_qdq(file: OnnxFile) -> OnnxFile:
    """Return the same graph with QuantizeLinear and DequantizeLinear around float operators.

    Raises:
        ExchangeError: an operator lacks a scale.
    """
    if not any(node.op in ELEMENTWISE for node in file.nodes):
        return file
    nodes, arrays = list[OnnxNode](), dict(file.arrays)
    for node in file.nodes:
        nodes.extend(_apart(node, arrays) if node.op in ELEMENTWISE else [node])
    return replace(file, nodes=tuple(nodes), arrays=arrays)


def _apart(node: OnnxNode, arrays: dict[str, Array]) -> Iterator[OnnxNode]:
    """Yield the nodes that do what one operator on words does."""
    operands, output = _operands(node), _output(node)
    if int(node.attrs.get("channels_last", 0)):
        raise ExchangeError(f"{node.label}: no form for channels_last")
    if node.op != "QGemm" and not output[1]:
        raise ExchangeError(f"{node.label}: wanted a zero point of its output")
    name = node.name or node.outputs[0]
    reals = []
    for place, triple in enumerate(operands):
        real = f"{name}/operand{place}"
        axis = {} if place == 0 else _axis(node)
        yield OnnxNode(real, "DequantizeLinear", triple, (real,), axis)
        reals.append(real)
    bias = node.input(8) if node.op in LAYERS else ""
    if node.op == "QGemm":
        bias = node.input(6)
    if bias:
        step = f"{name}/bias_scale"
        arrays[step] = _bias_scale(node, operands, arrays)
        real = f"{name}/bias"
        yield OnnxNode(real, "DequantizeLinear", (bias, step), (real,), {"axis": 0})
        reals.append(real)
    if node.op == "QLinearReduceMean" and "axes" not in node.attrs:
        raise ExchangeError(f"{node.label}: wanted axes")
    result = f"{name}/real"
    yield OnnxNode(node.name, ELEMENTWISE[node.op], tuple(reals), (result,), node.attrs)
    quantized = OnnxNode(f"{name}/words", "QuantizeLinear", (result, *output), node.outputs)
    # Without a scale, a QGemm gives reals.
    yield quantized if output[0] else replace(quantized, op="Identity", inputs=(result,))


def _axis(node: OnnxNode) -> dict[str, int]:
    """Return along which axis weights may have a scale each."""
    if node.op == "QLinearConv":
        return {"axis": 0}
    if node.op == "QGemm":
        return {"axis": 0 if node.attrs.get("transB") else 1}
    return {"axis": -1}


def _operands(node: OnnxNode) -> list[Triple]:
    inputs = [node.input(place) for place in range(max(9, len(node.inputs)))]
    if node.op == "QLinearConcat":
        given = node.inputs[2:]
        return [(a, b, c) for a, b, c in _by_three(given)]
    first = (inputs[0], inputs[1], inputs[2])
    if node.op in PAIRS | LAYERS:
        return [first, (inputs[3], inputs[4], inputs[5])]
    return [first]


def _by_three(names: Iterable[str]) -> Iterator[Triple]:
    given = iter(names)
    return zip(given, given, given, strict=False)


def _output(node: OnnxNode) -> tuple[str, str]:
    """Return scale and zero point of the output."""
    place = {"QLinearConcat": 0, "QGemm": 7}.get(node.op, 6 if node.op in PAIRS | LAYERS else 3)
    scale, zero = node.input(place), node.input(place + 1)
    if not scale and node.op != "QGemm":
        raise ExchangeError(f"{node.label}: wanted a scale of its output")
    return scale, zero


def _bias_scale(node: OnnxNode, operands: list[Triple], arrays: dict[str, Array]) -> Array:
    """Return the step of a bias: that of the accumulator, which no file says."""
    scales = [arrays.get(triple[1]) for triple in operands]
    if scales[0] is None or scales[1] is None:
        raise ExchangeError(f"{node.label}: wanted scales that are constants")
    product = scales[0].astype(np.float64).reshape(-1) * scales[1].astype(np.float64).reshape(-1)
    product = product * float(node.attrs.get("alpha", 1.0))  # of a `QGemm`
    return product.astype(np.float32).reshape(-1 if product.size > 1 else ())
