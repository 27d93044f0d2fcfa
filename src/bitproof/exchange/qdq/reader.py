"""The walk over a quantized graph: values by name, and nodes of the network once they have a grid.

Model:  each operator has a rule that takes values and gives one (`qdq.RULES`); a rule asks here for
        shapes, for words and for operations that wait. What has no pair of QuantizeLinear and
        DequantizeLinear is refused by name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from torch import Tensor

from bitproof.core.errors import ExchangeError
from bitproof.exchange.assembly import (
    Assembly,
    as_grid,
    readable,
)
from bitproof.exchange.constant_folding import Budget
from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.qdq.node_maker import PAIR, PROBE, SIXTEEN, NodeMaker
from bitproof.exchange.values import (
    Function,
    Image,
    Known,
    KnownWords,
    Reals,
    Rounded,
    Unrounded,
    Value,
)
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.operations import MAC_OPS
from bitproof.quant.vector_words import BITS as LONG

PLAIN_MOVES = frozenset({"reshape", "permute", "slice", "take", "expand"})
"""Movements that bring in no zeros and choose no words: they change places with any function."""


@dataclass
class Reader:
    """One walk, for one number of images."""

    assembly: Assembly
    opset: int
    fixed_batch: int | None = None
    """Images in the batch that the file is for; None: any number."""
    budget: Budget = field(default_factory=Budget)
    constants: dict[str, str] = field(default_factory=dict)
    """Nodes of stored words, by their keys."""

    def __post_init__(self) -> None:
        self.maker = NodeMaker(self.assembly)

    def shape(self, value: Value, node: OnnxNode) -> tuple[int, ...]:
        """Return the shape of a value."""
        if isinstance(value, Known):
            return tuple(value.array.shape)
        if isinstance(value, KnownWords):
            return tuple(value.coded.codes.shape)
        if isinstance(value, Image | Unrounded):
            return value.shape
        if isinstance(value, Rounded):
            return self.shape(value.source, node)
        return self.assembly.shapes[value.node]

    def reals(self, value: Value | None, node: OnnxNode) -> str:
        """Return the node whose words a value means; constants become nodes.

        Raises:
            ExchangeError: the value is not quantized.
        """
        if isinstance(value, Reals):
            return value.node
        if isinstance(value, KnownWords):
            if value.key not in self.constants:
                if value.coded.grid.axis is not None:
                    self.refuse(node, "wanted a constant with one scale for all, got several")
                made = Node(readable(value.key, "constant"), "constant", path=node.label)
                stored = {"weight": value.coded}
                self.constants[value.key] = self.assembly.emit(made, stored=stored)
            return self.constants[value.key]
        return self.refuse(node, self._missing(value))

    def _missing(self, value: Value | None) -> str:
        """Say what a value lacks to be read by an operator on reals."""
        if value is None:
            return "wanted an operand, got none"
        if isinstance(value, Known):
            return "reads a constant that is not quantized: wanted a DequantizeLinear before it"
        if isinstance(value, Image):
            return f"reads the input, which is not quantized: wanted {PAIR} between"
        if isinstance(value, Rounded):
            return "reads words: wanted a DequantizeLinear between"
        label = value.label if isinstance(value, Unrounded | Function) else ""
        return f"reads {label}, whose output is not quantized: wanted {PAIR} between"

    def refuse(self, node: OnnxNode, problem: str) -> NoReturn:
        """Raise an error about a node.

        Raises:
            ExchangeError: always.
        """
        raise ExchangeError(f"{node.label}: {problem}")

    def unrounded(
        self,
        op: str,
        inputs: Sequence[str],
        node: OnnxNode,
        *,
        attrs: dict[str, Any] | None = None,
        weight: KnownWords | None = None,
        bias: KnownWords | Tensor | None = None,
    ) -> Unrounded:
        """Return an operation that waits for the grid of its output."""
        attrs = attrs or {}
        stored = {} if weight is None else {"weight": tuple(weight.coded.codes.shape)}
        probe = Node("probe", op, tuple(inputs), attrs, node.label)
        shape = self.assembly.shape_of(probe, stored)
        name = readable(node.name or node.outputs[0], node.op)
        return Unrounded(op, tuple(inputs), name, node.label, shape, attrs, weight, bias)

    def move(self, value: Value, op: str, attrs: dict[str, Any], node: OnnxNode) -> Value:
        """Return a value whose words are moved."""
        if isinstance(value, Rounded):
            value = Reals(self.settle(value))
            return self._as_rounded(self.move(value, op, attrs, node))
        if isinstance(value, Reals | KnownWords):
            source = self.reals(value, node)
            name = readable(node.name or node.outputs[0], node.op)
            return Reals(self.assembly.emit(Node(name, op, (source,), attrs, node.label)))
        if isinstance(value, Function):
            keeps_order = value.named is not None and value.named[0] == "clamp"
            if op not in PLAIN_MOVES and not (op in {"max_pool", "amax"} and keeps_order):
                self.refuse(node, self._missing(value))
            moved = self.move(Reals(value.node), op, attrs, node)
            assert isinstance(moved, Reals)
            return replace(value, node=moved.node)
        if isinstance(value, Image | Unrounded):
            if isinstance(value, Image) and op not in PLAIN_MOVES:
                self.refuse(node, self._missing(value))
            shape = self._moved_shape(value.shape, op, attrs, node)
            if isinstance(value, Unrounded) and value.tail:
                return replace(value, tail=(*value.tail, (op, attrs)), shape=shape)
            return replace(value, moves=(*value.moves, (op, attrs)), shape=shape)
        return self.refuse(node, "no form for this operator on constants")

    def _as_rounded(self, value: Value) -> Value:
        assert isinstance(value, Reals)
        return Rounded(value, self.assembly.grids[value.node])

    def _moved_shape(
        self, shape: tuple[int, ...], op: str, attrs: dict[str, Any], node: OnnxNode
    ) -> tuple[int, ...]:
        self.assembly.shapes[PROBE] = shape
        return self.assembly.shape_of(Node("moved", op, (PROBE,), attrs, node.label), {})

    def mixed(
        self,
        source: str,
        rows: Sequence[tuple[Sequence[Sequence[int]], Sequence[int]]],
        node: OnnxNode,
    ) -> Value:
        """Return sums of entries times whole numbers, over divisors, for each axis of maps.

        Between two axes, words have 16 bits.
        """
        sums = [
            (dim, [list(row) for row in weights], list(divisors))
            for dim, (weights, divisors) in enumerate(rows, 2)
            if not _is_identity(weights, divisors)
        ]
        value: Value = Reals(source)
        for place, (dim, weights, divisors) in enumerate(sums):
            attrs = {"dim": dim, "weights": weights, "divisors": divisors}
            value = self.unrounded("resample", [source], node, attrs=attrs)
            if place < len(sums) - 1:
                grid = _between(self.assembly.grids[source], weights, divisors)
                source = self.settle(Rounded(value, grid))
        return value

    def settle(self, value: Rounded) -> str:
        """Return the node whose output words a value is."""
        return self.maker.settle(value)

    def output(self, value: Value, node: OnnxNode) -> str:
        """Return the node that gives what the graph gives.

        Raises:
            ExchangeError: that is neither words nor the last accumulators.
        """
        if isinstance(value, Reals):
            return value.node
        if isinstance(value, Rounded):
            return self.settle(value)
        if isinstance(value, Unrounded):
            if value.op in MAC_OPS and value.clamp == (None, None):
                return self.maker.layer(value, None, None)
            if value.op in {"softmax", "log_softmax"} and not value.tail:
                low = 1.0 if value.op == "softmax" else 64.0
                return self.maker.layer(value, as_grid(low / SIXTEEN, 0, LONG, signed=True), None)
        label = value.label if isinstance(value, Unrounded | Function) else node.label
        raise ExchangeError(
            f"{label}: the output of the graph is not quantized; wanted a QuantizeLinear behind "
            "it, or a layer of products as the last operator"
        )


def _between(grid: Grid, weights: Sequence[Sequence[int]], divisors: Sequence[int]) -> Grid:
    """Return the grid of 16-bit words for sums of words over divisors: exact ones, if they fit."""
    parts = [
        divisor // math.gcd(divisor, *row) for row, divisor in zip(weights, divisors, strict=True)
    ]
    sizes = [sum(row) / divisor for row, divisor in zip(weights, divisors, strict=True)]
    peak, fraction = grid.peak * max(sizes), math.lcm(*parts)
    step = 1 / fraction if peak * fraction < SIXTEEN else peak / (SIXTEEN - 1)
    return as_grid(float(grid.scale) * step, 0, LONG, signed=True)


def _is_identity(weights: Sequence[Sequence[int]], divisors: Sequence[int]) -> bool:
    return len(weights) == len(weights[0]) and all(
        list(row) == [divisor * (at == place) for place in range(len(row))]
        for at, (row, divisor) in enumerate(zip(weights, divisors, strict=True))
    )
