"""A graph under construction: unique names, nodes, tensors, and the call being lowered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from bitproof.core.errors import TraceError, shorten
from bitproof.quant.graph import BATCH, Node
from bitproof.quant.operations import MOVES_TOKENS

SPELLINGS = {"dim": "axis", "keepdim": "keepdims", "input": "self"}
"""Other names of an argument: NumPy's, which torch takes too, and those of torch's operators."""

UNEQUAL = "!"
"""In the place of a node: values that differ from input to input, but not with what it holds."""


@dataclass(frozen=True)
class Ref:
    """A tensor of the graph: its node, and its shape for a batch of two."""

    name: str
    shape: tuple[int, ...]
    value: Tensor | None = field(default=None, compare=False, repr=False)
    """What it is for a batch of two, where that does not depend on the images."""


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


@dataclass
class Builder:
    """Collects nodes and tensors, giving each node a unique name."""

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    less_one: set[str] = field(default_factory=set)
    """Tensors that the model holds less one."""
    memories: dict[tuple[Any, ...], str] = field(default_factory=dict)
    """The node that stores what the model holds at a place in memory."""
    tokens: set[str] = field(default_factory=set)
    """Nodes whose words are numbers of tokens."""
    held: list[Tensor] = field(default_factory=list)
    """Tensors of the model that are kept alive, so that no other one takes their place."""

    def emit(
        self,
        op: str,
        inputs: tuple[str, ...] = (),
        *,
        path: str,
        attrs: dict[str, Any] | None = None,
        tensors: dict[str, Tensor | None] | None = None,
        origin: Sequence[Tensor | None] | None = None,
    ) -> str:
        """Append a node and return its name: its path, with a number where that is taken.

        A node that stores what an earlier one does reads the memory of that one. `origin` are the
        tensors of the model that `tensors` were made of; None: these themselves.
        """
        self._follow_tokens(op, inputs, path)
        if UNEQUAL in inputs:
            raise TraceError(f"{path}: wanted the same values for every input, got others for each")
        name, count = path or op, 0
        while name in self.names:
            count += 1
            name = f"{path or op}_{count}"
        self.names.add(name)
        if (attrs or {}).get("tokens") or (op in MOVES_TOKENS and inputs[0] in self.tokens):
            self.tokens.add(name)
        stored = {key: tensor for key, tensor in (tensors or {}).items() if tensor is not None}
        owner = self._owner(name, op, list(stored.values()), origin)
        self.nodes.append(Node(name, op, inputs, attrs or {}, path, "" if owner == name else owner))
        if owner == name:
            for key, tensor in stored.items():
                self.tensors[f"{name}.{key}"] = tensor.detach().clone().float()
        return name

    def _follow_tokens(self, op: str, inputs: tuple[str, ...], path: str) -> None:
        """Check that tokens are moved or looked up, and nothing else is looked up."""
        known = self.tokens.intersection(inputs)
        if known and op != "embedding" and op not in MOVES_TOKENS:
            raise TraceError(f"{path}: no rule to compute with token numbers ('{op}')")
        if op == "embedding" and not known:
            raise TraceError(f"{path}: no rule to look up what is computed from the input")

    def _owner(
        self, name: str, op: str, stored: list[Tensor], origin: Sequence[Tensor | None] | None
    ) -> str:
        """Return the node that stores some tensors of the model, `name` where none does yet."""
        made_by = "" if origin is None else op  # what is stored as it is, or as `op` needs it
        held = [one for one in origin or stored if one is not None and one.numel()]
        if not held:
            return name
        self.held += held
        return self.memories.setdefault((made_by, *map(_place, held)), name)

    def is_stored(self, weight: Tensor) -> bool:
        """Tell whether a layer stores a tensor of the model by itself, as its weight."""
        owner = self.memories.get(("", _place(weight)))
        return any(node.name == owner and node.op != "constant" for node in self.nodes)

    def constant(self, value: Tensor, *, path: str) -> Ref:
        """Append a stored tensor."""
        name = self.emit("constant", path=path, tensors={"weight": value})
        return Ref(name, tuple(value.shape), value.detach())

    def unknown(self, value: Any) -> Any:
        """Return a stand-in for the result of a call without a rule, so that all get named."""
        if isinstance(value, Tensor):
            return Ref("?", tuple(value.shape))
        return [self.unknown(item) for item in value] if isinstance(value, tuple | list) else value

    def finish(self, result: Ref) -> None:
        """Drop what the result does not depend on; put the input first and the result last."""
        needed = {result.name}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        self.nodes = [node for node in self.nodes if node.name in needed or node.op == "input"]
        self.nodes.sort(key=lambda node: (node.op != "input", node.name == result.name))


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

    def at(self, part: str) -> "Call":
        """Return the call under the path of a part of it."""
        return replace(self, path=f"{self.path}.{part}")

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument by position or name."""
        if position < len(self.args):
            return self.args[position]
        if name in self.kwargs:
            return self.kwargs[name]
        return self.kwargs.get(SPELLINGS.get(name, name), default)

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
        if isinstance(value, Ref) and value.value is not None and value.value.numel() == 1:
            return float(value.value)
        came = "a tensor" if isinstance(value, Ref) else repr(value)
        raise TraceError(f"{self.path}: wanted a number, got {came}")

    @property
    def x(self) -> Ref:
        """The first argument, which has to be a tensor."""
        first = self.get(0, "input", self.kwargs.get("self"))
        if not isinstance(first, Ref):
            raise TraceError(
                f"{self.path}: wanted a tensor as first argument, got {shorten(first)}"
            )
        return first

    def emit(self, op: str, *inputs: Ref, **more: Any) -> Ref:
        """Append a node that reads `inputs` and has the result's shape.

        Keyword arguments are attributes, but for `tensors` and their `origin`.
        """
        tensors, origin = more.pop("tensors", None), more.pop("origin", None)
        names = tuple(ref.name for ref in inputs)
        name = self.builder.emit(
            op, names, path=self.path, attrs=more, tensors=tensors, origin=origin
        )
        return Ref(name, tuple(self.value.shape) if isinstance(self.value, Tensor) else ())

    def step(self, op: str, *inputs: Ref, shape: Sequence[int], **more: Any) -> Ref:
        """Append an inner node of a call that needs several.

        `shape` is the result's for a batch of two; the attribute of that name is given as `to`.
        """
        if "to" in more:
            more["shape"] = more.pop("to")
        return Ref(self.emit(op, *inputs, **more).name, tuple(shape))

    def reshape(self, x: Ref, shape: Sequence[int], *, batch: int = 0) -> Ref:
        """Append a reshaping; axis `batch` of the result holds the images."""
        to: list[Any] = list(shape)
        to[batch] = [BATCH, shape[batch] // 2]
        return self.step("reshape", x, shape=shape, to=to)

    def rescale(self, x: Ref, factor: float) -> Ref:
        """Append a multiplication by a positive number, which changes the grid and no word."""
        return x if factor == 1 else self.step("rescale", x, shape=x.shape, factor=float(factor))

    def table(self, x: Ref, function: str, **parameters: float | str) -> Ref:
        """Append an elementwise function."""
        return self.step("table", x, shape=x.shape, function=function, parameters=parameters)

    def permute(self, x: Ref, dims: Sequence[int]) -> Ref:
        """Append a reordering of axes."""
        return self.step("permute", x, shape=[x.shape[d] for d in dims], dims=list(dims))

    def slice(self, x: Ref, dim: int, start: int, stop: int) -> Ref:
        """Append a range of one axis."""
        shape = [*x.shape[:dim], stop - start, *x.shape[dim + 1 :]]
        index = [[None, None, None]] * dim + [[start, stop, None]]
        return self.step("slice", x, shape=shape, index=index)

    def select(self, x: Ref, dim: int, at: int) -> Ref:
        """Append one entry of an axis, which goes."""
        shape = [*x.shape[:dim], *x.shape[dim + 1 :]]
        return self.step("slice", x, shape=shape, index=[[None, None, None]] * dim + [at])

    def take(self, x: Ref, dim: int, index: Sequence[int]) -> Ref:
        """Append a choice of entries of one axis."""
        shape = [*x.shape[:dim], len(index), *x.shape[dim + 1 :]]
        return self.step("take", x, shape=shape, dim=dim, index=list(index))


Rule = Callable[..., Any]
"""Lowers a call of a function, or of a layer, which it then takes too."""
