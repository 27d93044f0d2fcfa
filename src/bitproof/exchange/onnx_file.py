"""An ONNX file as plain data: nodes, arrays, inputs; nothing in it is executed or believed.

Model:  sizes are checked against what the file holds before memory is taken. External data lie
        beside the file, or are refused. Graphs inside nodes (`If`, `Loop`) have no form here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitproof.core.errors import ExchangeError, shorten
from bitproof.core.files import read_bytes
from bitproof.exchange.onnx_library import onnx_library

Array = NDArray[Any]

MOST_BYTES = 1 << 31
"""Of a file, which is also what protobuf can hold, and of one tensor beside it."""
MOST_NODES = 1 << 17
MOST_AXES = 16
BITS = {"INT4": 4, "UINT4": 4, "INT8": 8, "UINT8": 8, "BOOL": 8, "INT16": 16, "UINT16": 16}
BITS |= {"FLOAT16": 16, "BFLOAT16": 16, "INT32": 32, "UINT32": 32, "FLOAT": 32}
BITS |= {"INT64": 64, "UINT64": 64, "DOUBLE": 64}
"""Element types that are read, and their widths."""
LONGEST_REASON = 200


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """One node, as the file has it."""

    name: str
    op: str
    inputs: tuple[str, ...]
    """Names of values; empty where an optional one is left out."""
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Numbers, texts, lists of them, and arrays."""

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.op} {shorten(self.name or self.outputs[0])}"

    def input(self, place: int) -> str:
        """Return the name of an input; empty where there is none."""
        return self.inputs[place] if place < len(self.inputs) else ""


@dataclass(frozen=True)
class OnnxInput:
    """What the graph takes."""

    name: str
    dtype: str
    """Such as `FLOAT` or `UINT8`."""
    shape: tuple[int | None, ...]
    """None where a size is free."""


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """A graph as plain data."""

    path: Path
    nodes: tuple[OnnxNode, ...]
    arrays: Mapping[str, Array]
    """Initializers and constants, by name."""
    inputs: tuple[OnnxInput, ...]
    """Without those that have initializers."""
    outputs: tuple[str, ...]
    opset: int
    """Version of the operators of the default domain."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What whoever wrote the file says of it."""


def read_onnx(path: Path) -> OnnxFile:
    """Return what an ONNX file holds.

    Raises:
        AdapterError: the package onnx is not installed.
        ExchangeError: it is missing, truncated or no ONNX file, it claims more than it holds, or
            holds what has no form here.
    """
    onnx = onnx_library()
    content = _content(path)
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # protobuf's own, whichever implementation it has
        raise ExchangeError(f"{path}: not an ONNX file, or truncated ({_line(error)})") from None
    graph = model.graph
    if not (model.ir_version and graph.node):
        raise ExchangeError(f"{path}: not an ONNX file: wanted a graph with nodes, got none")
    if len(graph.node) > MOST_NODES:
        raise ExchangeError(f"{path}: wanted at most {MOST_NODES} nodes, got {len(graph.node)}")
    if graph.sparse_initializer:
        raise ExchangeError(f"{path}: no form for sparse initializers")
    arrays = {tensor.name: _array(onnx, tensor, path) for tensor in graph.initializer}
    nodes = []
    for proto in graph.node:
        node = _node(onnx, proto, path)
        if node.op == "Constant":
            arrays[node.outputs[0]] = _constant(node, path)
        else:
            nodes.append(node)
    inputs = tuple(_input(onnx, one) for one in graph.input if one.name not in arrays)
    versions = [one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}]
    outputs = tuple(one.name for one in graph.output)
    if not outputs:
        raise ExchangeError(f"{path}: wanted a graph with an output, got none")
    facts = {one.key: one.value for one in model.metadata_props}
    opset = max(versions, default=13)
    return OnnxFile(path, tuple(nodes), arrays, inputs, outputs, opset, facts)


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise ExchangeError(f"{path}: no such file")
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ExchangeError(f"{path}: wanted at most {MOST_BYTES} bytes, got {size}")
        return read_bytes(path)
    except OSError as error:
        raise ExchangeError(f"{path}: cannot be read ({error.strerror or error})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:LONGEST_REASON]


def _node(onnx: Any, proto: Any, path: Path) -> OnnxNode:
    """Return a node with plain attributes."""
    if not proto.output:
        raise ExchangeError(f"{path}: {proto.op_type} {shorten(proto.name)}: it has no output")
    attrs: dict[str, Any] = {}
    bare = OnnxNode(proto.name, proto.op_type, tuple(proto.input), tuple(proto.output), attrs)
    kinds = onnx.AttributeProto
    for one in proto.attribute:
        if one.type in {kinds.GRAPH, kinds.GRAPHS}:
            raise ExchangeError(f"{path}: {bare.label}: no form for graphs inside a node")
        if one.type == kinds.TENSOR:
            attrs[one.name] = _array(onnx, one.t, path)
        elif one.type in {kinds.INT, kinds.FLOAT, kinds.INTS, kinds.FLOATS}:
            value = onnx.helper.get_attribute_value(one)
            attrs[one.name] = list(value) if one.type in {kinds.INTS, kinds.FLOATS} else value
        elif one.type == kinds.STRING:
            attrs[one.name] = one.s.decode("utf-8", "replace")
    return bare


def _constant(node: OnnxNode, path: Path) -> Array:
    """Return what a `Constant` node holds."""
    for name, value in node.attrs.items():
        if name in {"value", "value_float", "value_int", "value_floats", "value_ints"}:
            if name == "value":
                return np.asarray(value)
            return np.asarray(value, np.float32 if "float" in name else np.int64)
    raise ExchangeError(f"{path}: {node.label}: wanted numbers, got {', '.join(node.attrs)}")


def _input(onnx: Any, one: Any) -> OnnxInput:
    tensor = one.type.tensor_type
    sizes = tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in tensor.shape.dim
    )
    return OnnxInput(one.name, _type(onnx, tensor.elem_type), sizes)


def _type(onnx: Any, number: int) -> str:
    try:
        return str(onnx.TensorProto.DataType.Name(number))
    except ValueError:
        return f"type {number}"


def _array(onnx: Any, tensor: Any, path: Path) -> Array:
    """Return the numbers of a tensor, once it is known that the file holds as many."""
    where, kind = f"{path}: tensor {shorten(tensor.name)}", _type(onnx, tensor.data_type)
    if kind not in BITS:
        raise ExchangeError(f"{where}: no form for numbers of type {kind}")
    sizes = list(tensor.dims)
    count = math.prod(sizes)
    bits = count * BITS[kind]
    if min(sizes, default=0) < 0 or len(sizes) > MOST_AXES or bits > 8 * MOST_BYTES:
        raise ExchangeError(f"{where}: wanted sizes that fit in memory, got {sizes[:MOST_AXES]}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raw = _external(tensor, path, where)
        plain = onnx.TensorProto(dims=sizes, data_type=tensor.data_type, raw_data=raw)
    else:
        plain = tensor
    held = len(plain.raw_data) if plain.HasField("raw_data") else None
    if held is not None and held != (bits + 7) // 8:
        raise ExchangeError(f"{where}: wanted {(bits + 7) // 8} bytes for {sizes}, got {held}")
    try:
        return np.asarray(onnx.numpy_helper.to_array(plain))
    except (ValueError, TypeError) as error:
        raise ExchangeError(f"{where}: cannot be read ({_line(error)})") from None


def _external(tensor: Any, path: Path, where: str) -> bytes:
    """Return bytes of a file beside the model, never of one elsewhere."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    relative = Path(location)
    if not location or relative.is_absolute() or len(relative.parts) != 1 or location == "..":
        raise ExchangeError(
            f"{where}: wanted external data beside the model, got {shorten(location)}"
        )
    file = path.parent / relative
    if file.is_symlink() or not file.is_file():
        raise ExchangeError(f"{where}: no file {shorten(location)} with its data beside the model")
    numbers = [entries.get("offset", "0"), entries.get("length", str(file.stat().st_size))]
    if not all(text.isdecimal() and len(text) < 20 for text in numbers):
        raise ExchangeError(f"{where}: wanted an offset and a length, got {numbers}")
    start, length = map(int, numbers)
    if start + length > file.stat().st_size or length > MOST_BYTES:
        raise ExchangeError(
            f"{where}: wanted {length} bytes at {start} of {shorten(location)}, "
            f"which has {file.stat().st_size}"
        )
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read(length)
