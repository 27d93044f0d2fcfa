"""`Resize` and `Upsample`."""

import math
from collections.abc import Sequence

import numpy as np

from bitproof.exchange.onnx_arguments import (
    resized,
)
from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.qdq.operands import (
    Operands,
    constant_at,
    first_of,
)
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.values import (
    Value,
)

PLAIN = "round_prefer_floor"
ONE = 1 << 16
"""What the number 1 is among the fractions of an interpolation."""


def resize(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Resize` and `Upsample`: the nearest place, or two places weighted."""
    value = first_of(operands)
    shape = reader.shape(value, node)
    at = (1, 3) if node.op == "Upsample" or reader.opset < 11 else (2, 3)
    scales, sizes = (constant_at(reader, node, operands, place) for place in at)
    if reader.opset < 11:
        sizes = None
    wanted, factors = resized(shape, node, scales, sizes)
    wanted[0], factors[0] = shape[0], 1.0  # the batch, which a file may fix
    mode = node.attrs.get("mode", "nearest")
    if mode not in {"nearest", "linear"} or int(node.attrs.get("antialias", 0)):
        reader.refuse(node, f"no form for mode {mode}, or for antialias")
    places = [
        _places(reader, node, old, new, factor)
        for old, new, factor in zip(shape, wanted, factors, strict=True)
    ]
    if mode == "nearest":
        for axis, found in enumerate(places):
            early = reader.opset < 11
            how = _early_mode(factors[axis]) if early else node.attrs.get("nearest_mode", PLAIN)
            index = [_nearest(how, place, shape[axis]) for place in found]
            if index != list(range(shape[axis])):
                value = reader.move(value, "take", {"dim": axis, "index": index}, node)
        return value
    rows = [_weights(found, size) for found, size in zip(places, shape, strict=True)]
    if rows[1] != _weights(list(map(float, range(shape[1]))), shape[1]):
        reader.refuse(node, "wanted other sizes of maps, got other numbers of channels")
    pairs = [(matrix, [ONE] * len(matrix)) for matrix in rows[2:]]
    return reader.mixed(reader.reals(value, node), pairs, node)


def _places(reader: Reader, node: OnnxNode, old: int, new: int, factor: float) -> list[float]:
    """Return where each output lies among the inputs of one axis, in float32: ties tell."""
    outputs, step = np.arange(new, dtype=np.float32), np.float32(factor)
    how = node.attrs.get(
        "coordinate_transformation_mode", "asymmetric" if reader.opset < 11 else "half_pixel"
    )
    half = np.float32(0.5)
    if how == "align_corners":
        places = outputs * np.float32(old - 1) / np.float32(max(new - 1, 1))
    elif how == "asymmetric":
        places = outputs / step
    elif how == "pytorch_half_pixel" and new == 1:
        places = outputs
    elif how in {"half_pixel", "pytorch_half_pixel"}:
        places = (outputs + half) / step - half
    else:
        reader.refuse(node, f"no form for coordinates of mode {how}")
    return [float(place) for place in places]


def _early_mode(factor: float) -> str:
    """Return the mode of versions before 11, as onnxruntime has it."""
    return "ceil" if factor < 1 else "floor"


def _nearest(how: str, place: float, size: int) -> int:
    found = {
        "floor": math.floor(place),
        "ceil": math.ceil(place),
        "round_prefer_ceil": math.floor(place + 0.5),
    }.get(how, math.ceil(place - 0.5))
    return min(max(found, 0), size - 1)


def _weights(places: Sequence[float], size: int) -> list[list[int]]:
    """Return the two inputs that each output lies between, weighted."""
    rows = []
    for place in places:
        inside = min(max(place, 0.0), size - 1.0)
        left = min(int(inside), size - 1)
        right, part = min(left + 1, size - 1), round((inside - left) * ONE)
        row = [0] * size
        row[left] += ONE - part
        row[right] += part
        rows.append(row)
    return rows
