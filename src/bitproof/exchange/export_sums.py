"""Sums, lookups, softmaxes and norms in ONNX: our arithmetic in IEEE operations, one by one.

Model:  each ONNX operator here is a single IEEE operation on each number, or a sum of integers that
        its type holds exactly, in any order. So every runtime that keeps to the standard gives the
        bits of `arithmetic.py`; only `log_softmax` of words takes a logarithm of the runtime's own.
"""

from collections.abc import Callable

import numpy as np
import torch

from bitproof.exchange.export_state import ENDS, ExportState, Size, Wire, array
from bitproof.exchange.export_words import finish
from bitproof.quant import Node
from bitproof.quant.constants import EXP_ONE

EXACT = 1 << 24
"""Sums of integers below are exact in float32."""


def elementwise(state: ExportState, node: Node) -> Wire:
    """Return a sum, difference, larger or smaller one of two operands."""
    factors = [float(factor) for factor in state.constants(node).multipliers]
    operands = [state.scaled(*pair) for pair in zip(state.inputs(node), factors, strict=True)]
    # Sum, not Add: ONNX Runtime makes an integer kernel of Add that rounds in its own way.
    op = {"add": "Sum", "sub": "Sub", "maximum": "Max", "minimum": "Min"}[node.op]
    return finish(state, node, state.writer.add(op, *operands))


def multiply(state: ExportState, node: Node) -> Wire:
    """Return a product of two operands."""
    left, right = (state.scaled(wire) for wire in state.inputs(node))
    factor = state.number(float(state.constants(node).multipliers[0]))
    product = state.writer.add("Mul", left, right)
    return finish(state, node, state.writer.add("Mul", product, factor))


def divide(state: ExportState, node: Node) -> Wire:
    """Return a quotient; 0 / 0 is 0, and infinity the largest number."""
    writer = state.writer
    left, right = (state.scaled(wire) for wire in state.inputs(node))
    ratio = writer.add("Div", left, right)
    ratio = writer.add("Where", writer.add("IsNaN", ratio), state.number(0.0), ratio)
    limits = np.finfo(np.float32)
    ratio = writer.add("Clip", ratio, state.number(limits.min), state.number(limits.max))
    factor = state.number(float(state.constants(node).multipliers[0]))
    return finish(state, node, writer.add("Mul", ratio, factor))


def concatenate(state: ExportState, node: Node) -> Wire:
    """Return operands side by side, each brought to the output's steps."""
    factors = [float(factor) for factor in state.constants(node).multipliers]
    parts = [state.scaled(*pair) for pair in zip(state.inputs(node), factors, strict=True)]
    axis = node.attrs["dim"] % state.rank(node.name)
    return finish(state, node, state.writer.add("Concat", *parts, axis=axis), apart=True)


def requantize(state: ExportState, node: Node) -> Wire:
    """Return words on another grid."""
    factor = float(state.constants(node).multipliers[0])
    return finish(state, node, state.scaled(state.inputs(node)[0], factor), apart=True)


def mean(state: ExportState, node: Node) -> Wire:
    """Return exact sums along axes, over their length."""
    writer, (wire,) = state.writer, state.inputs(node)
    shape = state.shapes[0][node.inputs[0]]
    dims = [dim % len(shape) for dim in node.attrs["dims"]]
    count = int(np.prod([shape[dim] for dim in dims]))
    peak = state.network.grids[node.inputs[0]].peak
    axes, keep = state.number(dims, "int64"), int(node.attrs["keepdim"])
    if count * peak < EXACT:
        total = writer.add("ReduceSum", state.scaled(wire), axes, keepdims=keep)
    else:
        total = writer.add("ReduceSum", state.double(wire), axes, keepdims=keep)
        total = writer.cast(total, "float32")
    factor = float(state.constants(node).multipliers[0] / count)
    return finish(state, node, writer.add("Mul", total, state.number(factor)))


def resample(state: ExportState, node: Node) -> Wire:
    """Return sums of entries times whole numbers along one axis, each over its divisor."""
    writer, (wire,), attrs = state.writer, state.inputs(node), node.attrs
    rank, dim = state.rank(node.name), node.attrs["dim"] % state.rank(node.name)
    last = [axis for axis in range(rank) if axis != dim] + [dim]
    x = writer.add("Transpose", state.double(wire), perm=last)
    rows = np.array(attrs["weights"], dtype=np.float64).T
    sums = writer.add("MatMul", x, state.number(rows, "float64"))
    sums = writer.add("Div", sums, state.number(attrs["divisors"], "float64"))
    sums = writer.add("Transpose", sums, perm=[last.index(axis) for axis in range(rank)])
    factor = state.number(float(state.constants(node).multipliers[0]))
    return finish(state, node, writer.add("Mul", writer.cast(sums, "float32"), factor))


def look_up(state: ExportState, node: Node) -> Wire:
    """Return the words of a table, one for each word that goes in."""
    writer, (wire,), table = state.writer, state.inputs(node), state.constants(node).table
    grid, source = state.network.grids[node.name], state.network.grids[node.inputs[0]]
    assert table is not None
    out = state.wire(grid, node.name)
    words = array(table, "int64") + out.shift
    if wire.form == "words":
        least, most = ENDS[wire.dtype]
        place = np.arange(least, most + 1) - wire.shift - source.low
        entries = words[place.clip(0, len(words) - 1)]
        index = writer.cast(wire.name, "int32")
        if least:
            index = writer.add("Sub", index, state.number(least, "int32"))
    else:
        offset = state.number(int(source.zero_point) - source.low, "int32")
        entries, index = words, writer.add("Add", writer.cast(wire.name, "int32"), offset)
    found = pick(state, node, state.number(entries, out.dtype), index)
    return state.renamed(out, found)


def pick(state: ExportState, node: Node, table: str, index: str) -> str:
    """Return entries of a table by their places, in the shape of the node's output.

    GatherElements: Gather of single numbers takes ONNX Runtime ten times as long.
    """
    writer = state.writer
    flat = writer.add("Reshape", index, state.number([-1], "int64"))
    found = writer.add("GatherElements", table, flat, axis=0)
    return state.reshape(found, state.sizes(node.name), node)


def softmax(state: ExportState, node: Node) -> Wire:
    """Return a softmax from integer exponentials, or its logarithm."""
    writer, (wire,), constants = state.writer, state.inputs(node), state.constants(node)
    assert constants.table is not None
    assert constants.scale is not None
    x, scale = state.scaled(wire), state.number(float(constants.scale), "float64")
    axes = state.number([node.attrs["dim"] % state.rank(node.name)], "int64")
    away = writer.add("Sub", writer.add("ReduceMax", x, axes, keepdims=1), x)
    powers = state.number(array(constants.table, "float64"), "float64")
    powers = pick(state, node, powers, writer.cast(away, "int32"))
    if constants.floor is not None:
        hidden = writer.add("Equal", x, state.number(float(constants.floor)))
        powers = writer.add("Where", hidden, state.number(0.0, "float64"), powers)
    total = writer.add("ReduceSum", powers, axes, keepdims=1)
    if node.op == "softmax":
        steps = writer.add("Div", writer.add("Div", powers, total), scale)
        return finish(state, node, steps, dtype="float64")
    state.note("log_softmax of words takes the runtime's own logarithm of float64", node)
    step = state.number(constants.scales[0], "float64")
    away = writer.add("Mul", step, writer.cast(away, "float64"))
    log = writer.add("Log", writer.add("Div", total, state.number(float(EXP_ONE), "float64")))
    steps = writer.add("Div", writer.add("Neg", writer.add("Add", away, log)), scale)
    return finish(state, node, steps, dtype="float64")


def norm(state: ExportState, node: Node) -> Wire:
    """Return a norm from exact integer moments, by layer or by group."""
    writer, (wire,), constants = state.writer, state.inputs(node), state.constants(node)
    sizes: list[Size] = state.sizes(node.name)
    x = state.double(wire)
    if node.op == "layer_norm":
        axes = list(range(len(sizes) - node.attrs["axes"], len(sizes)))
        count = _product(sizes[axis] for axis in axes)
        affine = [size for size in sizes if not isinstance(size, tuple)][-len(axes) :]
    else:
        count = _product(sizes[1:]) // node.attrs["groups"]
        x = state.reshape(x, [sizes[0], node.attrs["groups"], count], node)
        axes, affine = [2], [_product(sizes[1:2]), *[1] * (len(sizes) - 2)]
    over = state.number(axes, "int64")
    total = writer.add("ReduceSum", x, over, keepdims=1)
    squares = writer.add("ReduceSum", writer.add("Mul", x, x), over, keepdims=1)
    many = state.number(float(count), "float64")
    spread = writer.add("Sub", writer.add("Mul", many, squares), writer.add("Mul", total, total))
    floor = node.attrs["eps"] * (count / constants.scales[0]) ** 2
    root = writer.add("Sqrt", writer.add("Add", spread, state.number(floor, "float64")))
    moved = writer.add("Sub", writer.add("Mul", many, x), total)
    result = writer.add("Div", moved, root)
    if node.op == "group_norm":
        result = state.reshape(result, sizes, node)
    return finish(state, node, _affine(state, node, result, affine), dtype="float64")


def root_mean_square(state: ExportState, node: Node) -> Wire:
    """Return the root mean square along axes, or what reads it divided by it."""
    writer, (wire,), constants = state.writer, state.inputs(node), state.constants(node)
    shape, step = state.shapes[0][node.inputs[0]], constants.scales[0]
    dims = [dim % len(shape) for dim in node.attrs["dims"]]
    count = int(np.prod([shape[dim] for dim in dims]))
    x, axes = state.double(wire), state.number(dims, "int64")
    keep = int(node.attrs.get("keepdim", True))
    squares = writer.add("ReduceSum", writer.add("Mul", x, x), axes, keepdims=keep)
    least = state.number(node.attrs["eps"] / step**2, "float64")
    part = writer.add("Div", squares, state.number(float(count), "float64"))
    root = writer.add("Sqrt", writer.add("Add", part, least))
    assert constants.scale is not None
    scale = state.number(float(constants.scale), "float64")
    if node.op == "rms":
        values = writer.add("Mul", root, state.number(step, "float64"))
        return finish(state, node, writer.add("Div", values, scale), dtype="float64")
    ratio = writer.add("Div", x, root)
    ratio = writer.add("Where", writer.add("IsNaN", ratio), state.number(0.0, "float64"), ratio)
    shape_of = None if constants.weight is None else list(constants.weight.shape)
    return finish(state, node, _affine(state, node, ratio, shape_of), dtype="float64")


def _affine(state: ExportState, node: Node, result: str, shape: list[int] | None) -> str:
    """Return values times a weight, plus a bias, in output steps, as float64."""
    constants, writer = state.constants(node), state.writer
    assert constants.scale is not None
    for op, own in (("Mul", constants.weight), ("Add", constants.bias)):
        if own is not None:
            values = array(own, "float64").reshape(shape)
            result = writer.add(op, result, state.number(values, "float64"))
    return writer.add("Div", result, state.number(float(constants.scale), "float64"))


def _product(sizes: object) -> int:
    assert not isinstance(sizes, int)
    return int(np.prod([size for size in sizes if not isinstance(size, tuple)]))  # type: ignore[attr-defined]


def read_input(state: ExportState, node: Node) -> Wire:
    """Return the words of the images, or their tokens."""
    writer = state.writer
    if node.attrs.get("tokens"):
        return Wire(state.source, "tokens")
    x = state.source
    if "mean" in node.attrs:
        shape = [-1] + [1] * (state.rank(node.name) - 2)
        mean, std = (
            torch.tensor(node.attrs[key], dtype=torch.float32).numpy().reshape(shape)
            for key in ("mean", "std")
        )
        x = writer.add("Div", writer.add("Sub", x, state.number(mean)), state.number(std))
    factor = state.number(float(state.constants(node).multipliers[0]))
    return finish(state, node, writer.add("Mul", x, factor))


def read_memory(state: ExportState, node: Node) -> Wire:
    """Return stored words: all, or those of tokens."""
    coded = state.network.tensors[node.key("weight")]
    wire = state.stored(coded.grid, coded.codes, node.key("weight"))
    if node.op == "constant":
        return wire
    (tokens,) = state.inputs(node)
    return state.renamed(wire, state.writer.add("Gather", wire.name, tokens.name, to=node.name))


SUMS: dict[str, Callable[[ExportState, Node], Wire]] = {
    "input": read_input,
    **dict.fromkeys(("constant", "embedding"), read_memory),
    **dict.fromkeys(("add", "sub", "maximum", "minimum"), elementwise),
    "mul": multiply,
    "div": divide,
    "concat": concatenate,
    "requantize": requantize,
    "mean": mean,
    "resample": resample,
    "table": look_up,
    **dict.fromkeys(("softmax", "log_softmax"), softmax),
    **dict.fromkeys(("layer_norm", "group_norm"), norm),
    **dict.fromkeys(("rms", "rms_norm"), root_mean_square),
}
"""Operations that neither multiply and accumulate nor move."""
