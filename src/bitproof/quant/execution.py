"""The one walk over the nodes of a graph, whatever the arithmetic.

Model:  nodes run in order, each from the outputs of those that it reads; an output is let go after
        its last use. What a node computes is a function of the node and its operands. What it
        reads from elsewhere and what becomes of its output are hooks: there an execution starts in
        the middle of a graph, is observed, has faults, is bounded, or stops.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from bitproof.quant.graph import Node

V = TypeVar("V")
"""An output: a tensor, or several that belong together."""


def execute(
    nodes: Sequence[Node],
    compute: Callable[[Node, list[V]], V],
    *,
    known: Mapping[str, V] | None = None,
    read: Callable[[str], V] | None = None,
    written: Callable[[Node, V], V | None] | None = None,
    keep: bool = False,
) -> dict[str, V]:
    """Return the outputs that nobody has read for the last time, by node.

    Args:
        nodes: in order of execution.
        compute: one node's output, from its operands.
        known: outputs of other nodes, let go after their last use like those of `nodes`.
        read: gives all further outputs of other nodes, each time that they are read.
        written: gets each output, and returns what is stored in its place; None ends the execution
            before it is stored.
        keep: let nothing go.

    Example:
        >>> nodes = [Node("x", "input"), Node("y", "add", ("x", "x")), Node("z", "mul", ("y", "x"))]
        >>> def compute(node: Node, operands: list[int]) -> int:
        ...     return {"input": 3, "add": sum(operands), "mul": prod(operands)}[node.op]
        >>> from math import prod
        >>> execute(nodes, compute), execute(nodes, compute, keep=True)
        ({'z': 18}, {'x': 3, 'y': 6, 'z': 18})
        >>> execute(nodes[1:], compute, read=lambda name: 10, written=lambda node, value: -value)
        {'z': 200}
    """
    values = dict(known or {})
    last_use = {} if keep else {name: node.name for node in nodes for name in node.inputs}
    for node in nodes:
        operands = [
            values[name] if read is None or name in values else read(name) for name in node.inputs
        ]
        found: V | None = compute(node, operands)
        if written is not None:
            found = written(node, found)  # type: ignore[arg-type]
            if found is None:
                break
        values[node.name] = found  # type: ignore[assignment]
        for name in node.inputs:
            if last_use.get(name) == node.name:
                values.pop(name, None)
    return values


def affected(nodes: Iterable[Node], names: Collection[str]) -> tuple[Node, ...]:
    """Return the nodes of some names and all that depend on them, in order of execution.

    Example:
        >>> nodes = [Node("x", "input"), Node("y", "add", ("x", "x")), Node("z", "mul", ("y", "x"))]
        >>> [node.name for node in affected(nodes, {"y"})]
        ['y', 'z']
    """
    reached: dict[str, Node] = {}
    for node in nodes:
        if node.name in names or not reached.keys().isdisjoint(node.inputs):
            reached[node.name] = node
    return tuple(reached.values())
