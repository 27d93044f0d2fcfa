"""A network as a flat list of nodes: what tracing yields and what quantization works on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from bitproof.kernels.geometry import Geometry

BATCH = "batch"
"""Stands in a stored shape for a size that is a multiple of the batch: `[BATCH, k]`."""


@dataclass(frozen=True)
class Node:
    """One operation.

    Example:
        >>> Node("relu1", "table", ("conv1",), {"function": "gelu"}).op
        'table'
    """

    name: str
    """Unique; tensors of the node are called `name.weight`, `name.bias`, ..."""
    op: str
    """A key of `operations.OPERATIONS`."""
    inputs: tuple[str, ...] = ()
    """Names of the nodes it reads."""
    attrs: dict[str, Any] = field(default_factory=dict)
    """JSON values only; `operations` says which."""
    path: str = ""
    """Where it came from in the user's model, for messages."""
    memory: str = ""
    """The node whose stored tensors it reads, where a layer is used again; empty: its own."""

    def key(self, kind: str) -> str:
        """Return the name of a stored tensor, `weight` or `bias`, that the node reads.

        Example:
            >>> Node("rnn.1", "linear", ("x",), memory="rnn").key("weight")
            'rnn.weight'
        """
        return f"{self.memory or self.name}.{kind}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; a memory of its own is left out."""
        plain = asdict(self)
        if not self.memory:
            del plain["memory"]
        return plain

    @property
    def geometry(self) -> Geometry:
        """How a convolution moves."""
        attrs = self.attrs
        moves = {key: tuple(attrs[key]) for key in ("stride", "padding", "dilation")}
        return Geometry(**moves, groups=attrs["groups"])


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of execution, with their float tensors. The last node is the output."""

    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]
    less_one: frozenset[str] = frozenset()
    """Tensors that the model holds less one: scales `1 + a` with `a` as parameter."""
    captured_by: Literal["fx", "export"] = "fx"
    """What read the user's forward: torch.fx or torch.export."""

    def keep(self, nodes: Sequence[Node]) -> "Graph":
        """Return the graph of some of its nodes, in an order of execution.

        A memory whose owner goes belongs to the first node left that reads it.
        """
        owners: dict[str, str] = {}
        kept = []
        for node in nodes:
            owner = owners.setdefault(node.memory or node.name, node.name)
            kept.append(replace(node, memory="" if owner == node.name else owner))

        def renamed(key: str) -> str:
            name, _, kind = key.rpartition(".")
            return f"{owners[name]}.{kind}" if name in owners else ""

        tensors = {renamed(key): tensor for key, tensor in self.tensors.items() if renamed(key)}
        less_one = frozenset(renamed(key) for key in self.less_one if renamed(key))
        return replace(self, nodes=tuple(kept), tensors=tensors, less_one=less_one)

    def sharing(self) -> frozenset[str]:
        """Return the nodes that have one memory with others."""
        owners = {node.memory for node in self.nodes if node.memory}
        return frozenset(n.name for n in self.nodes if n.memory or n.name in owners)

    def users(self) -> dict[str, list[Node]]:
        """Return, for each node's name, the nodes that read it."""
        users: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                users[name].append(node)
        return users
