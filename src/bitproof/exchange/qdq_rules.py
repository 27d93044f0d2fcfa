"""What each operator of a quantized ONNX graph is in an integer network.

Layers, sums and functions are here, what only moves words is in `qdq_movements`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitproof.core.errors import ExchangeError
from bitproof.exchange.assembly import as_grid, same_grid
from bitproof.exchange.constant_folding import (
    MISFITS,
    axes_of,
    clip_bounds,
    fold,
    misfit,
    word_ends,
)
from bitproof.exchange.elementwise_functions import UNARY, hard_sigmoid
from bitproof.exchange.onnx_file import Array, OnnxNode
from bitproof.exchange.qdq_movements import MOVEMENTS, windows_of
from bitproof.exchange.qdq_reader import Reader, apply_named, as_array
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
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.rules.layers import turned
from bitproof.quant.vector_words import encode_vector

Operands = Sequence[Value | None]
Rule = Callable[[Reader, OnnxNode, Operands], Any]
WORDS = {"int4", "uint4", "int8", "uint8", "int16", "uint16", "int32"}
"""Types of words."""
LAYERS = frozenset({"conv", "linear"})


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


# Words and grids.


def _grid(reader: Reader, node: OnnxNode, operands: Operands) -> tuple[Array, Array, str]:
    """Return scales, zero points and the name of the type of words."""
    scale, zero = operands[1], operands[2] if len(operands) > 2 else None
    if not isinstance(scale, Known) or not (zero is None or isinstance(zero, Known)):
        reader.refuse(node, "wanted a scale and a zero point that are constants")
    if int(node.attrs.get("block_size", 0)):
        reader.refuse(node, "no form for scales of blocks")
    if zero is not None:
        points, name = zero.array, str(zero.array.dtype)
    else:
        first = operands[0]
        points = np.zeros(scale.array.shape, np.int64)
        name = str(first.array.dtype) if isinstance(first, Known) else "uint8"
    if name not in WORDS:
        reader.refuse(node, f"no integer form for words of type {name}")
    scales = scale.array.astype(np.float32)
    if scales.size != points.size or not (np.isfinite(scales).all() and (scales > 0).all()):
        reader.refuse(node, "wanted a positive, finite scale for each zero point")
    return scales, points.astype(np.int64), name


def _activation_grid(reader: Reader, node: OnnxNode, operands: Operands) -> tuple[Grid, int]:
    """Return the grid of activations, and what words of the file lie above those here."""
    scales, points, name = _grid(reader, node, operands)
    if scales.size != 1:
        reader.refuse(node, f"wanted one scale for all activations, got {scales.size}")
    if name == "int32":
        reader.refuse(node, "no form for activations of 32 bits")
    low, high = word_ends(name)
    bits = (high - low).bit_length()
    # Unsigned words of 16 bits are stored less 2**15, on the same real numbers.
    above = 1 << 15 if name == "uint16" else 0
    signed = not name.startswith("u") or bool(above)
    point = int(points.reshape(-1)[0]) - above
    return as_grid(float(scales.reshape(-1)[0]), point, bits, signed=signed), above


def quantize_linear(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Name the grid that a value waits for."""
    value = operands[0]
    grid, _ = _activation_grid(reader, node, operands)
    if isinstance(value, Image | Reals | Function | Unrounded):
        return Rounded(value, grid)
    if isinstance(value, KnownWords):
        return Rounded(Reals(reader.reals(value, node)), grid)
    return reader.refuse(node, "wanted real numbers, got words")


def dequantize_linear(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Make a node of what was rounded; words of a constant keep their grid."""
    value = operands[0]
    if isinstance(value, Known):
        return _stored_words(reader, node, operands, value)
    grid, _ = _activation_grid(reader, node, _typed(value, operands))
    if isinstance(value, Image):
        if not value.integer or value.moves:
            reader.refuse(node, "wanted words, got real numbers")
        return Reals(reader.settle(Rounded(_of_bytes(value, grid), grid)))
    if not isinstance(value, Rounded):
        reader.refuse(node, "wanted words, got real numbers")
    name, own = reader.settle(value), value.grid
    if same_grid(own, grid):
        return Reals(name)
    if (own.bits, own.signed) != (grid.bits, grid.signed) or int(own.zero_point) != int(
        grid.zero_point
    ):
        reader.refuse(node, "wanted the zero point and the type of the words that it reads")
    factor = float(grid.scale) / float(own.scale)
    return reader.move(Reals(name), "rescale", {"factor": factor}, node)


def _of_bytes(value: Image, grid: Grid) -> Image:
    """Return the real numbers behind an input that comes as words."""
    step, point = float(grid.scale), int(grid.zero_point)
    return replace(value, factor=value.factor * step, summand=(value.summand - point) * step)


def _typed(value: Value | None, operands: Operands) -> Operands:
    """Return operands with a zero point of the type of the words, where it is left out."""
    if len(operands) > 2 and operands[2] is not None:
        return operands
    signed = isinstance(value, Rounded) and value.grid.signed
    return [*operands[:2], Known(np.zeros((), np.int8 if signed else np.uint8))]


def _stored_words(reader: Reader, node: OnnxNode, operands: Operands, value: Known) -> KnownWords:
    """Return the words of a constant."""
    array = value.array
    scales, points, name = _grid(reader, node, operands)
    if str(array.dtype) not in WORDS:
        reader.refuse(node, f"no integer form for words of type {array.dtype}")
    if str(array.dtype) != name:
        reader.refuse(node, f"wanted a zero point of type {array.dtype}, got {name}")
    if not array.size:
        reader.refuse(node, "wanted words, got none")
    low, high = word_ends(name)
    bits = (high - low).bit_length()
    codes, signed = array.astype(np.int64), not name.startswith("u")
    if name == "uint16":
        codes, points, signed = codes - (1 << 15), points - (1 << 15), True
    if value.bounds is not None:
        bits = _width(value.bounds, bits, signed=signed)
    axis: int | None = None
    if scales.size > 1:
        axis = int(node.attrs.get("axis", 1))
        if not -array.ndim <= axis < array.ndim or array.shape[axis] != scales.size:
            reader.refuse(node, f"wanted a scale for each entry of axis {axis} of {array.shape}")
        axis %= array.ndim
        scales, points = scales.reshape(-1), points.reshape(-1)
    else:
        scales, points = scales.reshape(()), points.reshape(())
    if name == "int32" and points.any():
        codes, points = codes - points, points * 0
        if abs(int(codes.max())) >= 1 << 31 or abs(int(codes.min())) > 1 << 31:
            reader.refuse(node, "wanted a bias within int32 words")
    grid = Grid(as_array(scales), as_array(points.astype(np.int32)), bits, signed, axis)
    return KnownWords(CodedTensor(as_array(codes).to(grid.dtype), grid), node.outputs[0])


def _width(bounds: tuple[int, int], bits: int, *, signed: bool) -> int:
    for width in range(2, bits):
        least = -1 << (width - 1) if signed else 0
        if least <= bounds[0] and bounds[1] <= least + (1 << width) - 1:
            return width
    return bits


# Layers.


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
        if codes.numel() == size and (grid.axis is None or codes.ndim == 1):
            return replace(value, coded=CodedTensor(codes.reshape(-1), grid))
    found = numbers(value)
    if found is None:
        reader.refuse(node, "wanted a bias that is a constant")
    if found.size not in {1, size}:
        reader.refuse(node, f"wanted a bias for {size} filters, got {found.shape}")
    flat = as_array(np.broadcast_to(found.reshape(-1).astype(np.float64), (size,)))
    return flat if bool(flat.isfinite().all()) else reader.refuse(node, "its bias is not finite")


def convolution(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Conv`."""
    source, weight = reader.reals(operands[0], node), _weight(reader, node, operands[1])
    kernel = list(weight.coded.codes.shape[2:])
    move = windows_of(reader, node, reader.assembly.shapes[source], kernel)
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


def gemm(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Gemm`."""
    if int(node.attrs.get("transA", 0)):
        reader.refuse(node, "no form for a transposed first operand")
    source, weight = reader.reals(operands[0], node), _weight(reader, node, operands[1])
    rows = _rows(reader, node, weight, transposed=not int(node.attrs.get("transB", 0)))
    alpha, beta = (float(node.attrs.get(name, 1.0)) for name in ("alpha", "beta"))
    if alpha != 1:
        rows = _scaled(reader, node, rows, np.asarray([alpha]))
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


def _scaled(reader: Reader, node: OnnxNode, weight: KnownWords, factor: Array) -> KnownWords:
    """Return the weights of filters times a factor each: other steps, words turned where negative.

    With `w = s (c - z)`, `-w = s ((l + h - c) - (l + h - z))` for words from l to h.
    """
    coded, grid = weight.coded, weight.coded.grid
    factors = as_array(np.broadcast_to(factor.reshape(-1).astype(np.float64), (len(coded.codes),)))
    if not bool((factors.isfinite() & (factors != 0)).all()):
        reader.refuse(node, "wanted finite factors other than 0 for the weights before it")
    scale = grid.scale.double().expand(len(coded.codes)) * factors.abs()
    point = grid.zero_point.expand(len(coded.codes))
    negative, ends = factors < 0, grid.low + grid.high
    shape = [-1] + [1] * (coded.codes.ndim - 1)
    codes = coded.codes.to(torch.int64)
    codes = torch.where(negative.reshape(shape), ends - codes, codes).to(grid.dtype)
    point = torch.where(negative, ends - point, point).to(torch.int32)
    found = replace(grid, scale=scale.float(), zero_point=point.contiguous(), axis=0)
    return KnownWords(CodedTensor(codes, found), f"{weight.key} {node.outputs[0]}")


def batch_norm(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Fold a norm into the layer before it."""
    parts = [None if one is None else numbers(one) for one in operands[1:5]]
    if len(parts) < 4 or any(one is None for one in parts):
        reader.refuse(node, "wanted parameters that are constants")
    scale, shift, mean, var = (np.asarray(one, np.float64) for one in parts)
    factor = scale / np.sqrt(var + float(node.attrs.get("epsilon", 1e-5)))
    return _folded(reader, node, operands[0], factor, shift - mean * factor)


def _folded(
    reader: Reader, node: OnnxNode, value: Value | None, factor: Array, summand: Array
) -> Value:
    """Return a layer whose outputs are multiplied and moved, channel by channel."""
    foldable = isinstance(value, Unrounded) and value.op in LAYERS and not value.moves
    if not foldable or not isinstance(value, Unrounded) or value.clamp != (None, None):
        reader.refuse(node, "wanted a layer right before it, to be folded into")
    assert value.weight is not None
    filters = len(value.weight.coded.codes)
    if max(factor.size, summand.size) not in {1, filters}:
        reader.refuse(node, f"wanted {filters} channels, got {max(factor.size, summand.size)}")
    if (factor == 1).all() and value.bias is None:
        return replace(value, bias=as_array(np.broadcast_to(summand.reshape(-1), (filters,))))
    bias: Any = 0.0 if value.bias is None else value.bias
    if isinstance(bias, KnownWords):
        bias = bias.coded.values()
    bias = torch.as_tensor(bias).double() * as_array(factor.reshape(-1).astype(np.float64))
    bias = (bias + as_array(summand.reshape(-1).astype(np.float64))).expand(filters)
    weight = value.weight
    if (factor != 1).any():
        weight = _scaled(reader, node, weight, factor)
    return replace(value, weight=weight, bias=bias.contiguous())


# Functions and sums.


def unary(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower an elementwise function."""
    value = operands[0]
    name, parameters = UNARY[node.op]
    named = name, parameters(node.attrs)
    if name == "clamp" and isinstance(value, Unrounded):
        return _clamped(reader, node, value, 0.0, None)
    if name == "sigmoid" and isinstance(value, Unrounded):
        return _at_the_end(reader, node, value, "table", {"function": "sigmoid"})
    return _function(reader, node, value, named)


def _function(
    reader: Reader, node: OnnxNode, value: Value | None, named: tuple[str, dict[str, float | str]]
) -> Value:
    if isinstance(value, KnownWords):
        value = Reals(reader.reals(value, node))
    if not isinstance(value, Reals | Function):
        reader.reals(value, node)  # says what is wrong
    assert isinstance(value, Reals | Function)
    return apply_named(value, named, node.label)


def _composed(
    reader: Reader, node: OnnxNode, value: Value | None, function: Callable[[Tensor], Tensor]
) -> Function:
    if not isinstance(value, Reals | Function):
        reader.reals(value, node)
    assert isinstance(value, Reals | Function)
    inner = value.compute if isinstance(value, Function) else (lambda x: x)
    return Function(value.node, lambda x: function(inner(x)), node.label)


def clip(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Clip`: of reals a clamp, of words their bounds."""
    value = operands[0]
    arrays = [one.array if isinstance(one, Known) else None for one in operands]
    low, high = clip_bounds(node, arrays)
    if isinstance(value, Known):
        least, most = word_ends(str(value.array.dtype))
        bounds = _whole(low, least), _whole(high, most)
        return Known(np.clip(value.array, *bounds).astype(value.array.dtype), bounds)
    if isinstance(value, Rounded):
        bounds = _whole(low, value.grid.low), _whole(high, value.grid.high)
        if not value.grid.low <= bounds[0] < bounds[1] <= value.grid.high:
            reader.refuse(node, f"wanted bounds within the words, got {bounds}")
        return replace(value, bounds=bounds)
    if isinstance(value, Unrounded):
        return _clamped(reader, node, value, low, high)
    parameters: dict[str, float | str] = {}
    parameters |= {} if low is None else {"min": low}
    parameters |= {} if high is None else {"max": high}
    if not parameters and value is not None:
        return value
    return _function(reader, node, value, ("clamp", parameters))


def _whole(end: float | None, otherwise: int) -> int:
    return otherwise if end is None else int(end)


def _clamped(
    reader: Reader, node: OnnxNode, value: Unrounded, low: float | None, high: float | None
) -> Value:
    if value.tail:
        reader.refuse(node, f"reads {value.label}, whose output is not quantized")
    return value.clamped(low, high)


def hard_sigmoid_rule(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `HardSigmoid`, of any slope that a table knows."""
    return _composed(reader, node, operands[0], hard_sigmoid(node.attrs))


OPERATIONS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "Add": ("add", torch.add),
    "Sub": ("sub", torch.sub),
    "Mul": ("mul", torch.mul),
    "Div": ("div", torch.div),
    "Max": ("maximum", torch.maximum),
    "Min": ("minimum", torch.minimum),
}
"""Operators of two inputs."""


def binary(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower an elementwise operator of two inputs."""
    if len(operands) == 1:
        assert operands[0] is not None
        return operands[0]
    left, right = operands[:2]
    if len(operands) > 2:
        reader.refuse(node, f"wanted two inputs, got {len(operands)}")
    if isinstance(left, Image) or isinstance(right, Image):
        return _normalized(reader, node, left, right)
    for one, other in ((left, right), (right, left)):
        constant = None if other is None else numbers(other)
        alone = node.op in {"Add", "Mul"} or (node.op == "Sub" and one is left)
        if isinstance(one, Unrounded) and constant is not None and alone:
            return _on_layer(reader, node, one, constant)
    if isinstance(left, Known | KnownWords) and isinstance(right, Known | KnownWords):
        arrays = [numbers(one) for one in (left, right)]
        return Known(fold(node, arrays, reader.budget))
    value = (
        _with_number(reader, node, left, right)
        or _of_one_source(node, left, right)
        or _with_layer(reader, node, left, right)
    )
    if value is not None:
        return value
    names = [reader.reals(one, node) for one in (left, right)]
    return reader.unrounded(OPERATIONS[node.op][0], names, node)


def _with_layer(
    reader: Reader, node: OnnxNode, left: Value | None, right: Value | None
) -> Unrounded | None:
    """Return the sum of a layer that is not rounded and of words: a residual, as pt2e fuses it.

    The layer gets words of 16 bits, fine ones, once there is a grid for the sum.
    """
    for layer, other in ((left, right), (right, left)):
        if node.op == "Add" and isinstance(layer, Unrounded) and isinstance(other, Reals):
            bare = layer.clamp == (None, None) and not layer.tail and layer.waiting is None
            if layer.op not in {"conv", "linear"} or not bare:
                continue
            if layer.shape != reader.shape(other, node):
                continue
            summed = reader.unrounded("add", [other.node, other.node], node)
            return replace(summed, waiting=layer)
    return None


def _with_number(
    reader: Reader, node: OnnxNode, left: Value | None, right: Value | None
) -> Value | None:
    """Return a function of one operand, where the other is a number."""
    for one, other in ((left, right), (right, left)):
        number = scalar(other)
        if number is None or not isinstance(one, Reals | Function):
            continue
        if isinstance(other, KnownWords) and isinstance(one, Reals):
            return None  # a word of its own
        first = one is left
        if node.op in {"Add", "Mul"} or (first and node.op in {"Sub", "Div"}):
            named = {
                "Add": ("shift", number),
                "Sub": ("shift", -number),
                "Mul": ("multiply", number),
                "Div": ("multiply", 1 / number if number else 0.0),
            }[node.op]
            parameters: dict[str, float | str] = {"other": named[1]}
            return _function(reader, node, one, (named[0], parameters))
        if node.op == "Sub" and isinstance(one, Reals) and number:
            sign = KnownWords(_one_word(number), f"{node.outputs[0]} number")
            return reader.unrounded("sub", [reader.reals(sign, node), one.node], node)
        return _composed(reader, node, one, _with_constant(node.op, number, first=first))
    return None


def _one_word(number: float) -> CodedTensor:
    """Return a number as one word, a step above or below 0."""
    grid = as_grid(abs(number), 0, 8, signed=True)
    return CodedTensor(torch.tensor([1 if number > 0 else -1], dtype=torch.int8), grid)


def _with_constant(op: str, number: float, *, first: bool) -> Callable[[Tensor], Tensor]:
    """Return an operator of two inputs as a function of one, which is the first or the second."""
    compute, constant = OPERATIONS[op][1], torch.tensor(number, dtype=torch.float64)
    return lambda x: compute(x, constant) if first else compute(constant, x)


def _of_one_source(node: OnnxNode, left: Value | None, right: Value | None) -> Function | None:
    """Return a composition of two functions of the same words, such as `x * sigmoid(x)`."""
    pair = [left, right]
    if not all(isinstance(one, Reals | Function) for one in pair) or not any(
        isinstance(one, Function) for one in pair
    ):
        return None
    assert isinstance(left, Reals | Function)
    assert isinstance(right, Reals | Function)
    if left.node != right.node:
        return None
    compute = OPERATIONS[node.op][1]
    a, b = ((one.compute if isinstance(one, Function) else lambda x: x) for one in (left, right))
    return Function(left.node, lambda x: compute(a(x), b(x)), node.label)


def _on_layer(reader: Reader, node: OnnxNode, value: Unrounded, constant: Array) -> Value:
    """Return a layer with a bias or a factor that comes in a node of its own."""
    rank = len(value.shape)
    channels = 1 if value.op == "conv" else rank - 1
    padded = (1,) * (rank - constant.ndim) + tuple(constant.shape)
    if any(size != 1 and at != channels for at, size in enumerate(padded)) or rank < constant.ndim:
        reader.refuse(node, f"reads {value.label}, whose output is not quantized")
    flat = constant.astype(np.float64).reshape(-1)
    if node.op == "Mul":
        return _folded(reader, node, value, flat, np.zeros(1))
    return _folded(reader, node, value, np.ones(1), -flat if node.op == "Sub" else flat)


def _normalized(reader: Reader, node: OnnxNode, left: Value | None, right: Value | None) -> Value:
    """Return the input behind a scale or a shift of its own."""
    image, other = (left, right) if isinstance(left, Image) else (right, left)
    constant = None if other is None else numbers(other)
    assert isinstance(image, Image)
    rank = len(image.shape)
    if constant is None or node.op not in {"Add", "Sub", "Mul", "Div"} or image.moves:
        reader.refuse(node, "reads the input, which is not quantized")
    padded = (1,) * (rank - constant.ndim) + tuple(constant.shape)
    if len(padded) > rank or any(size != 1 and at != 1 for at, size in enumerate(padded)):
        reader.refuse(node, f"wanted a number for each channel of the input, got {constant.shape}")
    flat, first = constant.astype(np.float64).reshape(-1), isinstance(left, Image)
    factor, summand = image.factor, image.summand
    if node.op == "Div" and not first:
        reader.refuse(node, "no form for a division by the input")
    if node.op in {"Mul", "Div"}:
        flat = flat if node.op == "Mul" else 1 / flat
        return replace(image, factor=factor * flat, summand=summand * flat)
    sign = 1 if node.op == "Add" or first else -1
    moved = flat if node.op == "Add" or not first else -flat
    return replace(image, factor=factor * sign, summand=summand * sign + moved)


def concat(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Concat`."""
    if all(isinstance(one, Rounded) for one in operands):
        return _of_words(reader, node, operands)
    names = [reader.reals(one, node) for one in operands]
    dim = _axis_of_concat(reader, node, names[0])
    return reader.unrounded("concat", names, node, attrs={"dim": dim})


def _axis_of_concat(reader: Reader, node: OnnxNode, name: str) -> int:
    dim = int(node.attrs["axis"]) % len(reader.assembly.shapes[name])
    if dim == 0:
        reader.refuse(node, "wanted parts of one image, got images behind one another")
    return dim


def _of_words(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Return a `Concat` of words that are all on one grid."""
    rounded = [one for one in operands if isinstance(one, Rounded)]
    if any(not same_grid(rounded[0].grid, one.grid) for one in rounded):
        reader.refuse(node, "wanted words on one grid, got several")
    names = [reader.settle(one) for one in rounded]
    dim = _axis_of_concat(reader, node, names[0])
    return Rounded(reader.unrounded("concat", names, node, attrs={"dim": dim}), rounded[0].grid)


def reduce_mean(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `ReduceMean` and `GlobalAveragePool`."""
    source = reader.reals(operands[0], node)
    rank = len(reader.assembly.shapes[source])
    if node.op == "GlobalAveragePool":
        dims, keeps = list(range(2, rank)), True
    else:
        arrays = [one.array if isinstance(one, Known) else None for one in operands]
        axes = axes_of(node, arrays, rank)
        dims, keeps = axes or list(range(rank)), bool(node.attrs.get("keepdims", 1))
    if 0 in dims:
        reader.refuse(node, "wanted a mean within one image, got one over several")
    return reader.unrounded("mean", [source], node, attrs={"dims": dims, "keepdim": keeps})


def average_pool(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `AveragePool`; where windows hold different numbers of words, one axis at a time."""
    source = reader.reals(operands[0], node)
    shape = reader.assembly.shapes[source]
    kernel = [int(size) for size in node.attrs["kernel_shape"]]
    move = windows_of(reader, node, shape, kernel)
    counts_padding = bool(node.attrs.get("count_include_pad", 0))
    padded, ceil = any(map(any, move.pads)), bool(node.attrs.get("ceil_mode", 0))
    if any(gap != 1 for gap in move.dilation):
        reader.refuse(node, "no form for dilations")
    even = not move.uneven and not ceil and (counts_padding or not padded)
    if even and all(2 * a <= k for (a, _), k in zip(move.pads, kernel, strict=True)):
        attrs = {"kernel": kernel, "stride": move.stride, "padding": [a for a, _ in move.pads]}
        return reader.unrounded("avg_pool", [source], node, attrs=attrs)
    rows = []
    for axis, size in enumerate(shape[2:]):
        (before, after), step, taps = move.pads[axis], move.stride[axis], kernel[axis]
        room = size + before + after - taps
        count = (-(-room // step) if ceil else room // step) + 1
        if ceil and (count - 1) * step >= size + before:
            count -= 1
        starts = [at * step - before for at in range(count)]
        weights = [[int(start <= at < start + taps) for at in range(size)] for start in starts]
        whole = [min(start + taps, size + after) - start for start in starts]
        divisors = whole if counts_padding else [max(sum(row), 1) for row in weights]
        rows.append((weights, divisors))
    return reader.mixed(source, rows, node)


def softmax(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Softmax` and `LogSoftmax`."""
    value, op = operands[0], "softmax" if node.op == "Softmax" else "log_softmax"
    assert value is not None
    rank = len(reader.shape(value, node))
    axis = int(node.attrs.get("axis", -1 if reader.opset >= 13 else 1)) % rank
    if reader.opset < 13 and axis != rank - 1:
        reader.refuse(node, "no form for a softmax over several axes")
    if axis == 0:
        reader.refuse(node, "wanted a softmax within one image, got one over several")
    if isinstance(value, Unrounded):
        return _at_the_end(reader, node, value, op, {"dim": axis})
    return reader.unrounded(op, [reader.reals(value, node)], node, attrs={"dim": axis})


def _at_the_end(
    reader: Reader, node: OnnxNode, value: Unrounded, op: str, attrs: dict[str, Any]
) -> Value:
    """Return the last layer of products with a softmax or a sigmoid of its real outputs."""
    if value.op not in {"conv", "linear", "matmul"} or value.clamp != (None, None):
        reader.reals(value, node)  # says what is wrong
    return replace(value, tail=(*value.tail, (op, attrs)))


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


def cast(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower a `Cast` between floats, or of images that come as integers."""
    value = operands[0]
    assert value is not None
    if int(node.attrs.get("to", 1)) not in {1, 10, 11} or isinstance(value, Rounded):
        reader.refuse(node, "no form for a cast of activations to integers")
    return replace(value, integer=False) if isinstance(value, Image) else value


def _same(_: Reader, __: OnnxNode, operands: Operands) -> Value:
    assert operands[0] is not None
    return operands[0]


def power(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Pow` to a number."""
    number = scalar(operands[1])
    if number is None:
        reader.refuse(node, "wanted an exponent that is one number")
    return _function(reader, node, operands[0], ("pow", {"other": number}))


RULES: dict[str, Rule] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    **dict.fromkeys(UNARY, unary),
    "HardSigmoid": hard_sigmoid_rule,
    "Clip": clip,
    "Pow": power,
    **dict.fromkeys(OPERATIONS, binary),
    "Concat": concat,
    "ReduceMean": reduce_mean,
    "GlobalAveragePool": reduce_mean,
    "AveragePool": average_pool,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "LayerNormalization": layer_norm,
    "Cast": cast,
    "Identity": _same,
    "Dropout": _same,
    **MOVEMENTS,
}
"""Every operator that has a form, in a graph of QuantizeLinear and DequantizeLinear."""
