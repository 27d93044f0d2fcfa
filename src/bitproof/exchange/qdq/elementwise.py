"""Elementwise operators of two inputs: sums, products, maxima."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bitproof.exchange.assembly import as_grid
from bitproof.exchange.constant_folding import fold
from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.qdq.folding import on_layer
from bitproof.exchange.qdq.functions import applied, composed
from bitproof.exchange.qdq.operands import Operands
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.values import (
    Function,
    Image,
    Known,
    KnownWords,
    Reals,
    Unrounded,
    Value,
    numbers,
    scalar,
)
from bitproof.quant.grid import CodedTensor

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
            return on_layer(reader, node, one, constant)
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
        if node.op == "Div" and first and not number:
            reader.refuse(node, "no form for a division by 0")
        if node.op in {"Add", "Mul"} or (first and node.op in {"Sub", "Div"}):
            named = {
                "Add": ("shift", number),
                "Sub": ("shift", -number),
                "Mul": ("multiply", number),
                "Div": ("multiply", 1 / number if number else math.inf),
            }[node.op]
            parameters: dict[str, float | str] = {"other": named[1]}
            return applied(reader, node, one, (named[0], parameters))
        if node.op == "Sub" and isinstance(one, Reals) and number:
            sign = KnownWords(_one_word(number), f"{node.outputs[0]} number")
            return reader.unrounded("sub", [reader.reals(sign, node), one.node], node)
        return composed(reader, node, one, _with_constant(node.op, number, first=first))
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
