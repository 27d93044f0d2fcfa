"""QDQ as tools write it: real scales in pairs, operators by their names, for any runtime.

Model:  each activation goes through QuantizeLinear and DequantizeLinear of its own scale, each
        weight through DequantizeLinear. What stands between them is float arithmetic, of which a
        runtime makes integer kernels with multipliers, roundings and lookups of its own. So words
        differ where these round another way, at ties; `check_onnx` counts how often.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bitproof.exchange.export_layers import Layer, zero_point_for
from bitproof.exchange.export_state import ENDS, ExportState, Wire, array, refused
from bitproof.exchange.export_sums import SUMS, look_up, read_input, read_memory
from bitproof.quant import Grid, Node
from bitproof.quant.floats import FUNCTIONS


def portable_node(state: ExportState, node: Node) -> Wire:
    """Return the output of a node that neither moves nor reads real numbers."""
    if state.constants(node).rounding == "truncate":
        raise refused(
            node,
            "wanted sums rounded to nearest, got truncation: the forms qdq and integer have it",
        )
    if node.op in {"constant", "embedding"}:
        return read_memory(state, node)
    if node.op == "input":
        return read_input(state, node) if node.attrs.get("tokens") else _input(state, node)
    if node.op == "table" and node.attrs["function"] not in BY_NAME:
        state.note("functions that ONNX does not name: as tables of words", node)
        return look_up(state, node)
    write = OPERATORS.get(node.op)
    if write is None or node.attrs.get("masked"):
        state.note("operations that ONNX does not name: spelled out on words", node)
        return SUMS[node.op](state, node)
    return _written(state, node, write(state, node, [_real(state, name) for name in node.inputs]))


def _input(state: ExportState, node: Node) -> Wire:
    x = state.source
    if "mean" in node.attrs:
        shape = [-1] + [1] * (state.rank(node.name) - 2)
        mean, std = (
            np.array(node.attrs[key], dtype=np.float32).reshape(shape) for key in ("mean", "std")
        )
        x = state.writer.add("Sub", x, state.number(mean))
        x = state.writer.add("Div", x, state.number(std))
    return _written(state, node, x)


def _real(state: ExportState, name: str) -> str:
    """Return the real numbers that a node's words stand for."""
    wire = state.wires[name]
    return state.scaled(wire, float(state.network.grids[name].scale))


def _written(state: ExportState, node: Node, values: str) -> Wire:
    """Return words for real numbers, within the node's bounds."""
    grid, constants, writer = state.grid(node), state.constants(node), state.writer
    if grid is None:
        return Wire(values, "real")
    wire, scale = state.wire(grid, node.name), np.float32(float(grid.scale))
    ends = constants.low + wire.shift, constants.high + wire.shift
    if ends != ENDS[wire.dtype]:
        low, high = (
            np.float32(end - constants.zero_point) for end in (constants.low, constants.high)
        )
        values = writer.add("Clip", values, state.number(low * scale), state.number(high * scale))
    zero = state.number(wire.zero_point, wire.dtype)
    words = writer.add("QuantizeLinear", values, state.number(scale), zero, to=node.name)
    return state.renamed(wire, words)


def _stored(state: ExportState, weight: Any, grid: Grid, *, axis: int) -> str:
    """Return a weight between words and its real numbers: int8 around zero where it fits."""
    scale = array(grid.scale, "float32")
    fits = bool(np.abs(weight).max(initial=0) <= 127)
    dtype, point = "int8" if fits else "uint8", 0 if fits else zero_point_for(weight)
    if point is None:
        shape = [1] * weight.ndim
        shape[axis] = -1
        return state.number(weight * (scale.reshape(shape) if scale.ndim else scale))
    at: dict[str, Any] = {"axis": axis} if scale.ndim else {}
    # ONNX Runtime turns int8 into uint8 where it must, and fails over what two layers share.
    words, points = (
        state.writer.constant(one, dtype, "weight", shared=False)
        for one in (weight + point, np.full(scale.shape, point))
    )
    return state.writer.add("DequantizeLinear", words, state.number(scale), points, **at)


def _layer(state: ExportState, node: Node, xs: list[str]) -> str:
    layer, writer = Layer.of(state, node), state.writer
    grid = state.network.tensors[node.key("weight")].grid
    rows = node.op == "linear" and state.rank(node.inputs[0]) != 2
    weight = _stored(state, layer.weight.T if rows else layer.weight, grid, axis=int(rows))
    operands = [xs[0], weight]
    bias = ""
    if layer.bias is not None:
        source = np.float32(float(state.network.grids[node.inputs[0]].scale))
        step = array(grid.scale, "float32") * source
        at: dict[str, Any] = {"axis": 0} if step.ndim else {}
        zeros = state.number(np.zeros(step.shape), "int32")
        words = state.number(layer.bias, "int32")
        bias = writer.add("DequantizeLinear", words, state.number(step), zeros, **at)
    if rows:
        product = writer.add("MatMul", *operands)
        return writer.add("Add", product, bias) if bias else product
    operands += [bias] if bias else []
    if node.op == "linear":
        return writer.add("Gemm", *operands, transB=1)
    return writer.add("Conv", *operands, **layer.geometry)


def _affine(state: ExportState, node: Node, xs: list[str]) -> str:
    constants, shape = state.constants(node), [-1] + [1] * (state.rank(node.name) - 2)
    coded = {kind: state.network.tensors.get(node.key(kind)) for kind in ("weight", "bias")}
    assert coded["weight"] is not None
    values = array(coded["weight"].values(), "float32").reshape(shape)
    x = state.writer.add("Mul", xs[0], state.number(values))
    if constants.bias is None or coded["bias"] is None:
        return x
    bias = array(coded["bias"].values(), "float32").reshape(shape)
    return state.writer.add("Add", x, state.number(bias))


def _mean(state: ExportState, node: Node, xs: list[str]) -> str:
    rank = state.rank(node.inputs[0])
    dims = [dim % rank for dim in node.attrs["dims"]]
    axes, keep = state.number(dims, "int64"), int(node.attrs["keepdim"])
    return state.writer.add("ReduceMean", xs[0], axes, keepdims=keep)


def _average(state: ExportState, node: Node, xs: list[str]) -> str:
    attrs = node.attrs
    return state.writer.add(
        "AveragePool",
        xs[0],
        kernel_shape=attrs["kernel"],
        strides=attrs["stride"],
        pads=[*attrs["padding"], *attrs["padding"]],
        count_include_pad=1,
    )


def _concat(state: ExportState, node: Node, xs: list[str]) -> str:
    return state.writer.add("Concat", *xs, axis=node.attrs["dim"] % state.rank(node.name))


def _softmax(state: ExportState, node: Node, xs: list[str]) -> str:
    op = "Softmax" if node.op == "softmax" else "LogSoftmax"
    return state.writer.add(op, xs[0], axis=node.attrs["dim"] % state.rank(node.name))


def _norm(state: ExportState, node: Node, xs: list[str]) -> str:
    constants, rank = state.constants(node), state.rank(node.name)
    attrs: dict[str, Any] = {"epsilon": float(node.attrs["eps"])}
    if node.op == "layer_norm":
        shape = list(state.shapes[0][node.name][rank - node.attrs["axes"] :])
        op, attrs["axis"] = "LayerNormalization", rank - node.attrs["axes"]
    else:
        shape = [state.shapes[0][node.name][1]]
        op, attrs["num_groups"] = "GroupNormalization", node.attrs["groups"]
    one = np.ones(shape) if constants.weight is None else array(constants.weight, "float32")
    zero = np.zeros(shape) if constants.bias is None else array(constants.bias, "float32")
    return state.writer.add(op, xs[0], state.number(one), state.number(zero), **attrs)


def _by_name(state: ExportState, node: Node, xs: list[str]) -> str:
    writer, (x,) = state.writer, xs
    name, given = node.attrs["function"], node.attrs.get("parameters", {})
    if name == "clamp":
        ends = (given.get("min"), given.get("max"))
        if ends == (0, None):
            return writer.add("Relu", x)
        return writer.add("Clip", x, *("" if end is None else state.number(end) for end in ends))
    if name == "silu":
        return writer.add("Mul", x, writer.add("Sigmoid", x))
    op, attrs = BY_NAME[name]
    known = {theirs: given[ours] for ours, theirs in RENAMED.items() if ours in given}
    if name == "leaky_relu":
        known.setdefault("alpha", 0.01)
    return writer.add(op, x, **{**attrs, **known})


RENAMED = {"negative_slope": "alpha", "alpha": "alpha", "approximate": "approximate"}
"""Parameters of functions, and the attributes that hold them."""
BY_NAME: dict[str, tuple[str, dict[str, Any]]] = {
    "clamp": ("Clip", {}),
    "silu": ("Sigmoid", {}),
    "gelu": ("Gelu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "hardswish": ("HardSwish", {}),
    "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "leaky_relu": ("LeakyRelu", {}),
    "elu": ("Elu", {}),
    "exp": ("Exp", {}),
    "abs": ("Abs", {}),
    "sqrt": ("Sqrt", {}),
    "softsign": ("Softsign", {}),
    "erf": ("Erf", {}),
}
"""Functions that ONNX knows, with attributes that say what torch means."""
assert BY_NAME.keys() <= FUNCTIONS.keys()


def _plain(op: str) -> Callable[[ExportState, Node, list[str]], str]:
    return lambda state, _, xs: state.writer.add(op, *xs)


OPERATORS: dict[str, Callable[[ExportState, Node, list[str]], str]] = {
    **dict.fromkeys(("conv", "linear"), _layer),
    "affine": _affine,
    "matmul": _plain("MatMul"),
    "add": _plain("Add"),
    "sub": _plain("Sub"),
    "mul": _plain("Mul"),
    "maximum": _plain("Max"),
    "minimum": _plain("Min"),
    "requantize": lambda _, __, xs: xs[0],
    "concat": _concat,
    "mean": _mean,
    "avg_pool": _average,
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("layer_norm", "group_norm"), _norm),
    "table": _by_name,
}
"""Operations between real numbers; the others are spelled out on words, as in the form qdq."""
