"""A float ONNX graph as a module that torch.fx traces: layers with parameters, calls between them.

Model:  the graph is run once for two numbers of images while it is read. What a node gives that
        reads constants or shapes alone is a number of the graph then; a multiple of the number of
        images becomes -1 in the sizes of a reshape. Weights of layers are parameters, which
        training changes; other constants (a mean that is subtracted) are buffers, which it does
        not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitproof.core.errors import ExchangeError, shorten
from bitproof.exchange.assembly import DEPENDS, RUNS, readable
from bitproof.exchange.constant_folding import MISFITS, Budget, fold, misfit
from bitproof.exchange.onnx_file import Array, OnnxFile, OnnxNode

Operand = Array | Tensor | None
"""A constant, the value of an activation in the run under way, or an optional one left out."""
LONGEST_NAME = 120


class Kept(str):
    """The name of a buffer of the module, not of a value of the graph."""

    __slots__ = ()


@dataclass(frozen=True)
class Call:
    """One step of a forward."""

    function: Callable[..., Any] | None
    """What is called; None: the module `name`."""
    name: str
    reads: tuple[str, ...]
    """Values that are given, in order."""
    gives: str
    keywords: Mapping[str, Any] = field(default_factory=dict)


class OnnxModule(nn.Module):
    """The layers of an ONNX graph, called in its order."""

    def __init__(self, source: str, output: str) -> None:
        super().__init__()
        self._source, self._output = source, output
        self._calls: list[Call] = []

    def append(self, call: Call) -> None:
        """Add a step behind the others."""
        self._calls.append(call)

    @property
    def calls(self) -> Sequence[Call]:
        """The steps, in order."""
        return self._calls

    def forward(self, images: Tensor) -> Tensor:
        """Return what the graph gives."""
        values: dict[str, Any] = {self._source: images}
        for call in self._calls:
            given = [self.read(name, values) for name in call.reads]
            function = getattr(self, call.name) if call.function is None else call.function
            values[call.gives] = function(*given, **call.keywords)
        result: Tensor = values[self._output]
        return result

    def read(self, name: str, values: Mapping[str, Any]) -> Any:
        """Return a value, or a buffer."""
        return getattr(self, name) if isinstance(name, Kept) else values[name]


@dataclass
class Building:
    """A module under way, in a run for some number of images."""

    module: OnnxModule
    file: OnnxFile
    values: dict[str, Array | Tensor]
    """By name of the file."""
    budget: Budget = field(default_factory=Budget)
    names: set[str] = field(default_factory=set)
    added: set[str] = field(default_factory=set)
    """Sums whose one operand is a bias of the layer before already."""

    def free_name(self, wanted: str) -> str:
        """Return a name for a layer or a buffer that no other one has."""
        plain = wanted.replace(".", "_").replace("-", "_").replace(":", "_").replace("+", "_")
        plain = plain[:LONGEST_NAME].strip("_") or "value"
        plain = f"n_{plain}" if plain[0].isdigit() else plain
        name, count = plain, 1
        while name in self.names or hasattr(self.module, name):
            count += 1
            name = f"{plain}_{count}"
        self.names.add(name)
        return name

    def layer(self, node: OnnxNode, layer: nn.Module, *reads: str) -> Tensor:
        """Append a layer, and return its output in this run."""
        name = self.free_name(readable(node.name or node.outputs[0], node.op))
        self.module.add_module(name, layer.eval())
        return self._append(Call(None, name, reads, node.outputs[0]))

    def call(
        self,
        node: OnnxNode,
        function: Callable[..., Any],
        *reads: str,
        gives: str = "",
        **keywords: Any,
    ) -> Tensor:
        """Append a call of a function, and return its output in this run."""
        return self._append(Call(function, "", reads, gives or node.outputs[0], keywords))

    def operand(self, node: OnnxNode, place: int) -> str:
        """Return the name of an operand; constants that are not numbers of the graph are kept."""
        name = node.input(place)
        value = self.values[name]
        if isinstance(value, Tensor):
            return name
        if value.dtype.kind != "f":
            raise ExchangeError(f"{node.label}: wanted real numbers as input {place}")
        kept = self.free_name(readable(name, "constant"))
        self.module.register_buffer(kept, torch.from_numpy(value.astype("float32")).clone())
        return Kept(kept)

    def _append(self, call: Call) -> Tensor:
        self.module.append(call)
        given = [self.module.read(name, self.values) for name in call.reads]
        function = getattr(self.module, call.name) if call.function is None else call.function
        try:
            found = function(*given, **call.keywords)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ExchangeError(f"{call.gives}: does not run ({reason})") from None
        self.values[call.gives] = found
        result: Tensor = found
        return result


Rule = Callable[[Building, OnnxNode, Sequence[Operand]], None]


@torch.no_grad()
def build_module(file: OnnxFile, shape: Sequence[int], rules: Mapping[str, Rule]) -> OnnxModule:
    """Return the module of a graph for images of a shape.

    Raises:
        ExchangeError: an operator has no rule, or its operands are none that it takes.
    """
    one, other = (_walk(file, shape, rules, images) for images in RUNS)
    if len(one.calls) != len(other.calls):
        raise ExchangeError(DEPENDS.format("the graph"))
    for (name, layer), (_, twin) in zip(one.named_children(), other.named_children(), strict=True):
        if repr(layer) != repr(twin):
            raise ExchangeError(f"{shorten(name)}: {DEPENDS.format('this layer')}")
    twins = other.state_dict()
    for name, tensor in one.state_dict().items():
        if not np.array_equal(tensor.numpy(), twins[name].numpy(), equal_nan=True):
            raise ExchangeError(f"{shorten(name)}: {DEPENDS.format('this constant')}")
    merged = [_merged(*pair) for pair in zip(one.calls, other.calls, strict=True)]
    one._calls[:] = merged
    return one


def _walk(
    file: OnnxFile, shape: Sequence[int], rules: Mapping[str, Rule], images: int
) -> OnnxModule:
    source = file.inputs[0].name
    module = OnnxModule(source, file.outputs[0])
    values: dict[str, Array | Tensor] = dict(file.arrays)
    values[source] = torch.zeros(images, *shape)
    building = Building(module, file, values)
    for node in file.nodes:
        operands: list[Operand] = []
        for name in node.inputs:
            if name and name not in values:
                raise ExchangeError(
                    f"{node.label}: reads {shorten(name)}, which nothing before it gives"
                )
            operands.append(values[name] if name else None)
        _step(building, node, operands, rules)
    if not isinstance(values.get(file.outputs[0]), Tensor):
        raise ExchangeError(f"output: {shorten(file.outputs[0])} does not depend on the images")
    return module


def _step(
    building: Building, node: OnnxNode, operands: Sequence[Operand], rules: Mapping[str, Rule]
) -> None:
    first = operands[0] if operands else None
    if node.op in {"Shape", "Size"} and isinstance(first, Tensor):
        start, end = int(node.attrs.get("start", 0)), node.attrs.get("end")
        sizes = tuple(first.shape)[start:end] if node.op == "Shape" else first.numel()
        building.values[node.outputs[0]] = np.asarray(sizes, np.int64)
        return
    if not any(isinstance(one, Tensor) for one in operands):
        arrays = [one for one in operands if not isinstance(one, Tensor)]
        building.values[node.outputs[0]] = fold(node, arrays, building.budget)
        return
    if node.op not in rules:
        raise ExchangeError(f"{node.label}: no form in torch for this operator")
    try:
        rules[node.op](building, node, operands)
    except MISFITS as error:
        raise ExchangeError(f"{node.label}: {misfit(error)}") from None
    for name in node.outputs:
        if name and name not in building.values:
            raise ExchangeError(f"{node.label}: no form for its output {shorten(name)}")


def _merged(one: Call, other: Call) -> Call:
    plain = [replace(call, keywords={}) for call in (one, other)]
    if plain[0] != plain[1] or one.keywords.keys() != other.keywords.keys():
        raise ExchangeError(f"{shorten(one.gives)}: {DEPENDS.format('this operation')}")
    keywords = {
        name: _merge(value, other.keywords[name], name, one.gives)
        for name, value in one.keywords.items()
    }
    return Call(one.function, one.name, one.reads, one.gives, keywords)


def _merge(a: Any, b: Any, name: str, where: str) -> Any:
    """Return what two runs agree in; sizes that are multiples of the batch become -1."""
    if isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b):
        parts = [_merge(*pair, name, where) for pair in zip(a, b, strict=True)]
        if parts.count(-1) > 1 and list(a).count(-1) <= 1:
            raise ExchangeError(f"{shorten(where)}: wanted one size that depends on the batch")
        return tuple(parts) if isinstance(a, tuple) else parts
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if torch.equal(a, b):
            return a
        raise ExchangeError(f"{shorten(where)}: {DEPENDS.format(name)}")
    if a is b or a == b:
        return a
    n, m = RUNS
    if name == "shape" and isinstance(a, int) and a % n == 0 and a // n * m == b:
        return -1
    raise ExchangeError(
        f"{shorten(where)}: {DEPENDS.format(name)}, got {a} for {n} images and {b} for {m}"
    )
