"""`QuantizeLinear` and `DequantizeLinear`: words, their grids, and stored words of constants."""

from dataclasses import replace

import numpy as np

from bitproof.exchange.assembly import as_grid, same_grid
from bitproof.exchange.constant_folding import WORDS, type_of_words, word_ends
from bitproof.exchange.onnx_file import Array, OnnxNode
from bitproof.exchange.qdq.operands import Operands, as_array
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
)
from bitproof.quant.grid import CodedTensor, Grid


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


def _grid(reader: Reader, node: OnnxNode, operands: Operands) -> tuple[Array, Array, str]:
    """Return scales, zero points and the name of the type of words."""
    scale, zero = operands[1], operands[2] if len(operands) > 2 else None
    if not isinstance(scale, Known) or not (zero is None or isinstance(zero, Known)):
        reader.refuse(node, "wanted a scale and a zero point that are constants")
    if int(node.attrs.get("block_size", 0)):
        reader.refuse(node, "no form for scales of blocks")
    first = operands[0]
    points = np.zeros(scale.array.shape, np.int64) if zero is None else zero.array
    if node.op == "QuantizeLinear":
        name = type_of_words(node, None if zero is None else zero.array)
    elif zero is not None:
        name = str(zero.array.dtype)
    else:
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
