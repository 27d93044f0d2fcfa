"""A graph under construction: unique names, nodes, tensors, and the call being lowered."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from bitproof.core.errors import TraceError
from bitproof.quant.graph import Node


@dataclass(frozen=True)
class Ref:
    """A tensor of the graph: its node, and its shape for a batch of two."""

    name: str
    shape: tuple[int, ...]


@dataclass
class Builder:
    """Collects nodes and tensors, giving each node a unique name."""

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    less_one: set[str] = field(default_factory=set)
    """Tensors that the model holds less one."""

    def emit(
        self,
        op: str,
        inputs: tuple[str, ...] = (),
        *,
        path: str,
        attrs: dict[str, Any] | None = None,
        tensors: dict[str, Tensor | None] | None = None,
    ) -> str:
        """Append a node and return its name: its path, with a number where that is taken."""
        name, count = path or op, 0
        while name in self.names:
            count += 1
            name = f"{path or op}_{count}"
        self.names.add(name)
        self.nodes.append(Node(name, op, inputs, attrs or {}, path))
        for key, tensor in (tensors or {}).items():
            if tensor is not None:
                self.tensors[f"{name}.{key}"] = tensor.detach().clone().float()
        return name

    def constant(self, value: Tensor, *, path: str) -> Ref:
        """Append a stored tensor."""
        return Ref(self.emit("constant", path=path, tensors={"weight": value}), tuple(value.shape))

    def unknown(self, value: Any) -> Any:
        """Return a stand-in for the result of a call without a rule, so that all get named."""
        if isinstance(value, Tensor):
            return Ref("?", tuple(value.shape))
        return [self.unknown(item) for item in value] if isinstance(value, tuple | list) else value

    def finish(self, result: Ref) -> None:
        """Drop what the result does not depend on, and put its node last."""
        needed = {result.name}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        self.nodes = [node for node in self.nodes if node.name in needed or node.op == "input"]
        self.nodes.sort(key=lambda node: node.name == result.name)
        self.tensors = {
            key: tensor for key, tensor in self.tensors.items() if key.rpartition(".")[0] in needed
        }


@dataclass(frozen=True)
class Call:
    """One traced call: its arguments, with tensors as `Ref`, and what it returned."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    value: Any
    """The result of the example run with a batch of two."""
    shape: list[Any]
    """Shape of a tensor result, multiples of the batch marked; empty for several results."""
    path: str
    builder: Builder

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument by position or name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def given(self, layer: Any, *names: str) -> tuple[Any, ...]:
        """Return what a layer, or the function that it stands for, was given; None for nothing.

        `names` are attributes of the layer, in the order of the function's further arguments.
        """
        if layer is not None:
            return tuple(getattr(layer, name, None) for name in names)
        return tuple(self.get(place, name) for place, name in enumerate(names, 1))

    def number(self, value: Any) -> float:
        """Return an argument that has to be a number known now, whatever the batch."""
        if isinstance(value, bool | int | float):
            return float(value)
        came = "a tensor" if isinstance(value, Ref) else repr(value)
        raise TraceError(f"{self.path}: wanted a number, got {came}")

    @property
    def x(self) -> Ref:
        """The first argument, which has to be a tensor."""
        first = self.get(0, "input", self.kwargs.get("self"))
        if not isinstance(first, Ref):
            raise TraceError(f"{self.path}: wanted a tensor as first argument, got {first!r}")
        return first

    def emit(self, op: str, *inputs: Ref, **more: Any) -> Ref:
        """Append a node that reads `inputs` and has the result's shape.

        Keyword arguments are attributes, but for `tensors`.
        """
        tensors = more.pop("tensors", None)
        names = tuple(ref.name for ref in inputs)
        name = self.builder.emit(op, names, path=self.path, attrs=more, tensors=tensors)
        return Ref(name, tuple(self.value.shape) if isinstance(self.value, Tensor) else ())

    def step(self, op: str, *inputs: Ref, shape: tuple[int, ...], **more: Any) -> Ref:
        """Append an inner node of a call that needs several.

        `shape` is the result's for a batch of two; the attribute of that name is given as `to`.
        """
        if "to" in more:
            more["shape"] = more.pop("to")
        return Ref(self.emit(op, *inputs, **more).name, shape)
