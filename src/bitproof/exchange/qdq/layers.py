"""Layers with stored weights: convolutions, `Gemm`, `MatMul`."""

from dataclasses import replace

import numpy as np
from torch import Tensor

from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.onnx_windows import windows_of
from bitproof.exchange.qdq.folding import scaled
from bitproof.exchange.qdq.operands import Operands, as_array
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.values import Known, KnownWords, Reals, Value, numbers
from bitproof.quant.grid import CodedTensor
from bitproof.quant.rules.layers import turned


def convolution(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Conv`."""
    source, weight = reader.reals(operands[0], node), _weight(reader, node, operands[1])
    kernel = list(weight.coded.codes.shape[2:])
    move = windows_of(node, reader.assembly.shapes[source], kernel)
    if move.uneven or any(2 * a > d * (k - 1) + 1 for (a, _), d, k in move.edges_of(kernel)):
        source = reader.reals(reader.move(Reals(source), "pad", move.as_pad(), node), node)
        move = move.without_padding()
    attrs = {**move.attrs(), "groups": int(node.attrs.get("group", 1))}
    bias = _bias(reader, node, operands[2] if len(operands) > 2 else None, len(weight.coded.codes))
    return reader.unrounded("conv", [source], node, attrs=attrs, weight=weight, bias=bias)


def transposed_convolution(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `ConvTranspose`: zeros between the words, then a convolution."""
    source, weight = reader.reals(operands[0], node), _weight(reader, node, operands[1])
    groups, coded = int(node.attrs.get("group", 1)), weight.coded
    kernel = list(coded.codes.shape[2:])
    if "output_shape" in node.attrs or node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        reader.refuse(node, "no form for output_shape or auto_pad")
    rank = len(kernel)
    strides, dilations = (
        list(node.attrs.get(name, [1] * rank)) for name in ("strides", "dilations")
    )
    pads = list(node.attrs.get("pads", [0] * 2 * rank))
    extra = list(node.attrs.get("output_padding", [0] * rank))
    if any(stride != 1 for stride in strides):
        source = reader.reals(
            reader.move(Reals(source), "spread", {"factors": strides}, node), node
        )
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    around = [(reach[at] - pads[at], reach[at] - pads[at + rank] + extra[at]) for at in range(rank)]
    edges = [edge for pair in reversed(around) for edge in pair]
    if any(edges):
        source = reader.reals(reader.move(Reals(source), "pad", {"padding": edges}, node), node)
    axis = coded.grid.axis
    if axis is not None and (axis != 1 or groups != 1):
        reader.refuse(node, "wanted a scale for each filter, got one for something else")
    grid = replace(coded.grid, axis=None if axis is None else 0)
    turned_words = CodedTensor(turned(coded.codes, groups).contiguous(), grid)
    filters = len(turned_words.codes)
    moves = {"stride": [1] * rank, "padding": [0] * rank, "dilation": dilations, "groups": groups}
    return reader.unrounded(
        "conv",
        [source],
        node,
        attrs=moves,
        weight=KnownWords(turned_words, f"{weight.key} turned"),
        bias=_bias(reader, node, operands[2] if len(operands) > 2 else None, filters),
    )


def gemm(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Gemm`."""
    if int(node.attrs.get("transA", 0)):
        reader.refuse(node, "no form for a transposed first operand")
    source, weight = reader.reals(operands[0], node), _weight(reader, node, operands[1])
    rows = _rows(reader, node, weight, transposed=not int(node.attrs.get("transB", 0)))
    alpha, beta = (float(node.attrs.get(name, 1.0)) for name in ("alpha", "beta"))
    if alpha != 1:
        rows = scaled(reader, node, rows, np.asarray([alpha]))
    bias = _bias(reader, node, operands[2] if len(operands) > 2 else None, len(rows.coded.codes))
    if bias is not None and beta != 1:
        bias = beta * (bias.coded.values().double() if isinstance(bias, KnownWords) else bias)
    return reader.unrounded("linear", [source], node, weight=rows, bias=bias)


def matmul(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `MatMul`: with a stored matrix a linear layer, else a product of activations."""
    right = operands[1]
    if isinstance(right, KnownWords) and right.coded.codes.ndim == 2:
        source, weight = reader.reals(operands[0], node), _weight(reader, node, right)
        rows = _rows(reader, node, weight, transposed=True)
        return reader.unrounded("linear", [source], node, weight=rows)
    return reader.unrounded("matmul", [reader.reals(one, node) for one in operands[:2]], node)


def _weight(reader: Reader, node: OnnxNode, value: Value | None) -> KnownWords:
    if isinstance(value, KnownWords):
        if value.coded.grid.bits > 8:
            reader.refuse(node, f"wanted weights of at most 8 bits, got {value.coded.grid.bits}")
        return value
    if isinstance(value, Known):
        return reader.refuse(node, "its weights are real: wanted a DequantizeLinear before them")
    return reader.refuse(node, "wanted weights that are constants")


def _bias(
    reader: Reader, node: OnnxNode, value: Value | None, size: int
) -> KnownWords | Tensor | None:
    """Return a bias as words or as real numbers, one for each filter."""
    if value is None:
        return None
    if isinstance(value, KnownWords):
        codes, grid = value.coded.codes, value.coded.grid
        fits = codes.numel() == size == codes.shape[-1] if codes.ndim else size == 1
        if fits and (grid.axis is None or codes.ndim == 1):
            return replace(value, coded=CodedTensor(codes.reshape(-1), grid))
    found = numbers(value)
    if found is None:
        reader.refuse(node, "wanted a bias that is a constant")
    if found.size != 1 and not found.size == size == found.shape[-1]:
        reader.refuse(node, f"wanted a bias for {size} filters, got {found.shape}")
    flat = as_array(np.broadcast_to(found.reshape(-1).astype(np.float64), (size,)))
    return flat if bool(flat.isfinite().all()) else reader.refuse(node, "its bias is not finite")


def _rows(reader: Reader, node: OnnxNode, weight: KnownWords, *, transposed: bool) -> KnownWords:
    """Return the matrix of a linear layer, a row for each output."""
    coded = weight.coded
    if transposed:
        grid = coded.grid
        axis = None if grid.axis is None else 1 - grid.axis
        coded = CodedTensor(coded.codes.t().contiguous(), replace(grid, axis=axis))
    if coded.grid.axis not in {None, 0}:
        reader.refuse(node, "wanted a scale for each output, got one for each input")
    return KnownWords(coded, f"{weight.key}{' transposed' if transposed else ''}")
