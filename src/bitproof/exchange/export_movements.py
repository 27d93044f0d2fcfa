"""Movements in ONNX: they move or select words, real numbers or tokens, and make no new ones."""

import math
from collections.abc import Callable

import numpy as np

from bitproof.exchange.export_state import ENDS, ExportState, Wire, refused
from bitproof.exchange.export_words import to_words
from bitproof.quant import Node
from bitproof.quant.floats import unpacked

LOWEST = np.finfo(np.float32).min
ON_BYTES = frozenset({"max_pool", "amax", "amin", "pad"})
"""Movements that compare or pad, for which ONNX Runtime has kernels on bytes."""


def move(state: ExportState, node: Node) -> Wire:
    """Return the output of a movement.

    What pads or compares works on float32 where ONNX Runtime has no kernel for the words.
    """
    (wire,) = state.inputs(node)
    if node.op in PLAIN:
        return state.renamed(wire, PLAIN[node.op](state, node, wire.name))
    if node.op == "rescale":
        return wire if wire.form != "real" else _rescaled(state, node, wire)
    if node.op in ON_BYTES and wire.form == "words" and wire.dtype != "int16":
        return state.renamed(wire, ON_NUMBERS[node.op](state, node, wire.name, wire))
    x = wire.name if wire.form == "real" else state.scaled(wire)
    moved = ON_NUMBERS[node.op](state, node, x, Wire(x, "steps"))
    if wire.form != "words":
        return state.renamed(wire, moved)
    # Whole steps: ONNX Runtime takes a pair of conversions for another one without the Round.
    return state.renamed(wire, to_words(state, wire, state.writer.add("Round", moved), node.name))


def _rescaled(state: ExportState, node: Node, wire: Wire) -> Wire:
    factor = state.number(node.attrs["factor"])
    return state.renamed(wire, state.writer.add("Mul", wire.name, factor))


def _reshape(state: ExportState, node: Node, x: str) -> str:
    return state.reshape(x, state.sizes(node.name), node)


def _expand(state: ExportState, node: Node, x: str) -> str:
    sizes, writer = state.sizes(node.name), state.writer
    known = [1] * (len(sizes) - state.rank(node.inputs[0])) + state.sizes(node.inputs[0])
    # A size of 1 keeps what is there.
    wanted = [1 if size == old else size for size, old in zip(sizes, known, strict=True)]
    if not any(isinstance(size, tuple) for size in wanted):
        return writer.add("Expand", x, state.number(wanted, "int64"))
    shape = writer.add("Shape", state.source, start=0, end=1)
    parts = [
        writer.add("Mul", shape, state.number([size[1]], "int64"))
        if isinstance(size, tuple)
        else state.number([size], "int64")
        for size in wanted
    ]
    return writer.add("Expand", x, writer.add("Concat", *parts, axis=0))


def _permute(state: ExportState, node: Node, x: str) -> str:
    rank = state.rank(node.name)
    return state.writer.add("Transpose", x, perm=[dim % rank for dim in node.attrs["dims"]])


def _slice(state: ExportState, node: Node, x: str) -> str:
    writer, dropped = state.writer, []
    starts, ends, axes, steps = [], [], [], []
    for axis, entry in enumerate(node.attrs["index"]):
        if isinstance(entry, list):
            start, end, step = (slice(*entry).start, slice(*entry).stop, slice(*entry).step)
        else:
            start, end, step = entry, entry + 1 or None, 1
            dropped.append(axis)
        if (start or 0) == 0 and end is None and (step or 1) == 1:
            continue
        starts.append(start or 0)
        ends.append(np.iinfo(np.int64).max if end is None else end)
        axes.append(axis)
        steps.append(step or 1)
    if axes:
        x = writer.add("Slice", x, *(state.number(v, "int64") for v in (starts, ends, axes, steps)))
    return writer.add("Squeeze", x, state.number(dropped, "int64")) if dropped else x


def _take(state: ExportState, node: Node, x: str) -> str:
    index = state.number(node.attrs["index"], "int64")
    return state.writer.add("Gather", x, index, axis=node.attrs["dim"] % state.rank(node.name))


PLAIN: dict[str, Callable[[ExportState, Node, str], str]] = {
    "reshape": _reshape,
    "expand": _expand,
    "permute": _permute,
    "slice": _slice,
    "take": _take,
}
"""Movements that know nothing of what they move."""


def _pad(state: ExportState, node: Node, x: str, wire: Wire) -> str:
    edges, rank = node.attrs["padding"], state.rank(node.name)
    pads = np.zeros(2 * rank, dtype=np.int64)
    for place, (before, after) in enumerate(zip(edges[::2], edges[1::2], strict=True), 1):
        pads[rank - place], pads[2 * rank - place] = before, after
    words = wire.form == "words"
    value: float = wire.zero_point if words else 0
    if node.attrs.get("lowest"):
        value = _lowest(state, node) + (wire.zero_point if words else 0)
    dtype = wire.dtype if words else "float32"
    return state.writer.add("Pad", x, state.number(pads, "int64"), state.number(value, dtype))


def _lowest(state: ExportState, node: Node) -> float:
    """Return the least word in steps; minus infinity among real numbers."""
    grid = state.grid(node)
    return -math.inf if grid is None else float(grid.low - int(grid.zero_point))


def _max_pool(state: ExportState, node: Node, x: str, wire: Wire) -> str:
    attrs, writer = node.attrs, state.writer
    sizes = [int(size) for size in state.shapes[0][node.inputs[0]][2:]]
    counts = [int(size) for size in state.shapes[0][node.name][2:]]
    before, after = list(attrs["padding"]), []
    moves = zip(sizes, counts, attrs["kernel"], attrs["stride"], attrs["dilation"], strict=True)
    for edge, (size, count, taps, step, gap) in zip(before, moves, strict=True):
        # As much as the last window needs: where torch rounds up, ONNX Runtime may not.
        after.append(max(0, (count - 1) * step + gap * (taps - 1) + 1 - size - edge))
    if any(edge >= taps for edge, taps in zip(before + after, attrs["kernel"] * 2, strict=True)):
        pads = [0, 0, *before, 0, 0, *after]
        least = ENDS[wire.dtype][0] if wire.form == "words" else LOWEST
        value = state.number(least, wire.dtype if wire.form == "words" else "float32")
        x, before = writer.add("Pad", x, state.number(pads, "int64"), value), [0] * len(before)
        after = before
    return writer.add(
        "MaxPool",
        x,
        kernel_shape=attrs["kernel"],
        strides=attrs["stride"],
        dilations=attrs["dilation"],
        pads=[*before, *after],
    )


def _extreme(state: ExportState, node: Node, x: str, _: Wire) -> str:
    rank = state.rank(node.inputs[0])
    axes = state.number([dim % rank for dim in node.attrs["dims"]], "int64")
    op = "ReduceMax" if node.op == "amax" else "ReduceMin"
    return state.writer.add(op, x, axes, keepdims=int(node.attrs["keepdim"]))


def _spread(state: ExportState, node: Node, x: str, _: Wire) -> str:
    """Return zeros between entries: a new axis is padded, merged, and its end cut off."""
    writer, sizes = state.writer, state.sizes(node.inputs[0])
    lead = len(sizes) - len(node.attrs["factors"])
    for axis, factor in enumerate(node.attrs["factors"], lead):
        size = sizes[axis]
        if factor == 1:
            continue
        if isinstance(size, tuple):
            raise refused(node, "wanted zeros between entries of one image, got the batch axis")
        x = writer.add("Unsqueeze", x, state.number([axis + 1], "int64"))
        pads = np.zeros(2 * (len(sizes) + 1), dtype=np.int64)
        pads[len(sizes) + 1 + axis + 1] = factor - 1
        x = writer.add("Pad", x, state.number(pads, "int64"))
        sizes[axis] = size * factor
        x = state.reshape(x, sizes, node)
        sizes[axis] = (size - 1) * factor + 1
        ends = [[0], [sizes[axis]], [axis]]
        x = writer.add("Slice", x, *(state.number(end, "int64") for end in ends))
    return x


def _mask(state: ExportState, node: Node, x: str, _: Wire) -> str:
    hidden, lowest = unpacked(node.attrs).numpy(), _lowest(state, node)
    if not math.isinf(lowest):
        x = state.writer.add("Max", x, state.number(lowest + 1))
    return state.writer.add("Where", state.number(hidden, "bool"), state.number(lowest), x)


ON_NUMBERS: dict[str, Callable[[ExportState, Node, str, Wire], str]] = {
    "pad": _pad,
    "max_pool": _max_pool,
    "amax": _extreme,
    "amin": _extreme,
    "spread": _spread,
    "mask": _mask,
}
"""Movements that compare or bring zeros in."""
