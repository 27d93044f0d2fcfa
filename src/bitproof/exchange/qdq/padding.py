"""`Pad`, with zeros or with what is there already."""

import numpy as np

from bitproof.exchange.onnx_arguments import (
    edges_of,
    padding_of,
)
from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.qdq.operands import Operands, constant_at, first_of
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.values import Rounded, Value, scalar


def pad(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Pad`, with zeros or with what is there already."""
    value = first_of(operands)
    rank = len(reader.shape(value, node))
    pads, axes = (constant_at(reader, node, operands, place) for place in (1, 3))
    pairs = edges_of(node, pads, axes, rank)
    if any(pairs.get(0, (0, 0))):
        reader.refuse(node, "wanted padding of each image, got some of the batch")
    if node.attrs.get("mode", "constant") != "constant":
        return _pad_with_words(reader, node, value, pairs)
    given = operands[2] if len(operands) > 2 else None
    number = node.attrs.get("value", 0.0) if given is None else scalar(given)
    zero = float(int(value.grid.zero_point)) if isinstance(value, Rounded) else 0.0
    if number != zero:
        reader.refuse(node, f"wanted padding with zeros, got {number}")
    padding = padding_of(pairs, rank)
    return reader.move(value, "pad", {"padding": padding}, node) if padding else value


def _pad_with_words(
    reader: Reader, node: OnnxNode, value: Value, pairs: dict[int, tuple[int, int]]
) -> Value:
    """Return a value padded with what is there already."""
    shape = reader.shape(value, node)
    for axis, (before, after) in pairs.items():
        if before or after:
            mode = node.attrs["mode"]
            if mode not in {"reflect", "edge", "wrap"} or max(before, after) >= 2 * shape[axis]:
                reader.refuse(node, f"no form for padding of mode {mode} by {before}, {after}")
            places = np.arange(shape[axis])
            index = np.pad(places, (before, after), mode).tolist()
            value = reader.move(value, "take", {"dim": axis, "index": index}, node)
    return value
