"""The walk over a quantized graph: values by name, and nodes of the network once they have a grid.

Model:  each operator has a rule that takes values and gives one (`qdq_rules`). A QuantizeLinear
        names the grid that an unrounded operation waited for; the DequantizeLinear behind it makes
        the node. What has no pair of these is refused by name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from bitproof.core.errors import ExchangeError
from bitproof.exchange.assembly import (
    Assembly,
    accumulator_step,
    as_grid,
    bias_words,
    readable,
    same_grid,
)
from bitproof.exchange.constant_folding import Budget
from bitproof.exchange.elementwise_functions import function_of, named_function
from bitproof.exchange.onnx_file import Array, OnnxNode
from bitproof.exchange.values import (
    Function,
    Image,
    Known,
    KnownWords,
    Move,
    Reals,
    Rounded,
    Unrounded,
    Value,
)
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.operations import CLAMPING_OPS, MAC_OPS
from bitproof.quant.vector_words import BITS as LONG

PAIR = "a QuantizeLinear and a DequantizeLinear"
PLAIN_MOVES = frozenset({"reshape", "permute", "slice", "take", "expand"})
"""Movements that bring in no zeros and choose no words: they change places with any function."""
SIXTEEN = 1 << 15
IMAGES, PROBE = "the images", "a probe"
"""Shapes of what is no node; names of nodes have no blanks."""


@dataclass
class Reader:
    """One walk, for one number of images."""

    assembly: Assembly
    opset: int
    fixed_batch: int | None = None
    """Images in the batch that the file is for; None: any number."""
    budget: Budget = field(default_factory=Budget)
    settled: dict[tuple[Any, ...], str] = field(default_factory=dict)
    """Nodes that were made of a value that waited, by value and grid."""
    owners: dict[tuple[str, str], str] = field(default_factory=dict)
    """Layers by the keys of their words."""
    kept: list[Value] = field(default_factory=list)
    """Values whose identities `settled` knows."""

    # What rules ask of values.

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
            key = ("constant", value.key)
            if key not in self.settled:
                if value.coded.grid.axis is not None:
                    self.refuse(node, "wanted a constant with one scale for all, got several")
                made = Node(readable(value.key, "constant"), "constant", path=node.label)
                stored = {"weight": value.coded}
                self.settled[key] = self.assembly.emit(made, stored=stored)
            return self.settled[key]
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

    # What becomes of values that waited.

    def settle(self, value: Rounded) -> str:
        """Return the node whose output words a value is, which is made now if there is none."""
        grid = value.grid
        key = (id(value.source), float(grid.scale), int(grid.zero_point), grid.bits, value.bounds)
        if key not in self.settled:
            self.kept.append(value)  # so that no other one gets its identity
            self.settled[key] = self._settled(value)
        return self.settled[key]

    def _settled(self, value: Rounded) -> str:
        source, grid = value.source, value.grid
        if value.bounds is not None:
            grid = narrowed(grid, value.bounds)
        if isinstance(source, Image):
            name = self._input(source, grid)
        elif isinstance(source, Unrounded):
            return self._layer(source, grid, value.bounds)
        elif isinstance(source, Function):
            name = self._table(source, grid)
        elif same_grid(self.assembly.grids[source.node], grid):
            name = source.node
        else:
            node = Node(f"{source.node}.requantized", "requantize", (source.node,))
            name = self.assembly.emit(node, grid)
        return self._limited(name, grid, value.bounds)

    def _limited(self, name: str, grid: Grid, bounds: tuple[int, int] | None) -> str:
        """Append a clamp where words have bounds within their width."""
        if bounds is None or (grid.low, grid.high) == bounds:
            return name
        low, high = (float(grid.scale) * (end - int(grid.zero_point)) for end in bounds)
        return self._clamp(name, grid, (low, high))

    def _clamp(self, name: str, grid: Grid, ends: tuple[float | None, float | None]) -> str:
        parameters = {
            key: end for key, end in zip(("min", "max"), ends, strict=True) if end is not None
        }
        if not parameters or not _restricts(grid, ends):
            return name
        attrs = {"function": "clamp", "parameters": parameters}
        return self.assembly.emit(Node(f"{name}.clamp", "table", (name,), attrs), grid)

    def _input(self, image: Image, grid: Grid) -> str:
        attrs: dict[str, Any] = {}
        factor, summand = image.factor.reshape(-1), image.summand.reshape(-1)
        if (factor != 1).any() or (summand != 0).any():
            factor, summand = np.broadcast_arrays(factor, summand)
            attrs = {"mean": (-summand / factor).tolist(), "std": (1 / factor).tolist()}
        first = next((node for node in self.assembly.nodes.values() if node.op == "input"), None)
        if first is not None:
            if first.attrs == attrs and same_grid(self.assembly.grids[first.name], grid):
                return self._moved(first.name, image.moves)
            raise ExchangeError("input: wanted one grid of its words, got several")
        whole = self.assembly.shapes[IMAGES]
        name = self.assembly.emit(Node("input", "input", (), attrs, "input"), grid, shape=whole)
        return self._moved(name, image.moves)

    def _moved(self, name: str, moves: Sequence[Move]) -> str:
        for op, attrs in moves:
            name = self.assembly.emit(Node(f"{name}.{op}", op, (name,), attrs))
        return name

    def _table(self, source: Function, grid: Grid) -> str:
        before = self.assembly.grids[source.node]
        if max(before.bits, grid.bits) > 8:
            raise ExchangeError(f"{source.label}: no table of words with more than 8 bits")
        named = source.named or named_function(source.compute, before, grid)
        if named is None:
            raise ExchangeError(
                f"{source.label}: no lookup table for this composition of functions; wanted {PAIR} "
                "between them"
            )
        attrs: dict[str, Any] = {"function": named[0]}
        if named[1]:
            attrs["parameters"] = dict(named[1])
        name = f"{source.node}.{named[0]}"
        return self.assembly.emit(Node(name, "table", (source.node,), attrs, source.label), grid)

    def _layer(self, source: Unrounded, grid: Grid | None, bounds: tuple[int, int] | None) -> str:
        """Append an operation and the moves behind it; without a grid, its output stays real."""
        if source.tail and grid is not None:
            raise ExchangeError(f"{source.label}: wanted {PAIR} between it and what reads it")
        if source.waiting is not None:
            source = self._with_long_words(source, grid)
        attrs, clamp = dict(source.attrs), source.clamp
        if grid is not None and bounds is not None and (grid.low, grid.high) != bounds:
            ends = (float(grid.scale) * (end - int(grid.zero_point)) for end in bounds)
            clamp = source.clamped(*ends).clamp
        clamps = grid is not None and _restricts(grid, clamp)
        if clamps and source.op in CLAMPING_OPS:
            attrs["clamp"] = list(clamp)
        stored, memory = self._stored(source)
        node = Node(source.name, source.op, source.inputs, attrs, source.label, memory)
        name = self.assembly.emit(node, grid, stored=stored)
        if clamps and source.op not in CLAMPING_OPS:
            assert grid is not None
            name = self._clamp(name, grid, clamp)
        if source.weight is not None and not memory:
            self.owners.setdefault(_keys(source), name)
        return self._moved(name, (*source.moves, *source.tail))

    def _with_long_words(self, source: Unrounded, grid: Grid | None) -> Unrounded:
        """Return a sum whose one operand is a layer that gets words of 16 bits here.

        They reach as far as the sum and its other operand together: what lies beyond is clamped
        behind the sum, too.
        """
        if grid is None:
            raise ExchangeError(f"{source.label}: wanted a QuantizeLinear behind it")
        assert source.waiting is not None
        other = self.assembly.grids[source.inputs[1]]
        reach = float(grid.scale) * grid.peak + float(other.scale) * other.peak
        words = as_grid(reach / (SIXTEEN - 1), 0, LONG, signed=True)
        name = self._layer(source.waiting, words, None)
        return replace(source, inputs=(name, source.inputs[1]), waiting=None)

    def _stored(self, source: Unrounded) -> tuple[dict[str, Any], str]:
        """Return the words of a layer, and the layer that has the same ones already."""
        if source.weight is None:
            return {}, ""
        stored = {"weight": source.weight.coded}
        memory = (
            self.owners.get(_keys(source), "")
            if source.bias is None or isinstance(source.bias, KnownWords)
            else ""
        )
        if source.bias is not None:
            bias = source.bias.coded if isinstance(source.bias, KnownWords) else source.bias
            if source.op in MAC_OPS:
                step = accumulator_step(source.weight.coded, self.assembly.grids[source.inputs[0]])
                bias = bias_words(bias, step, source.label)
            stored["bias"] = bias  # type: ignore[assignment]
        return stored, memory

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
                return self._layer(value, None, None)
            if value.op in {"softmax", "log_softmax"} and not value.tail:
                low = 1.0 if value.op == "softmax" else 64.0
                return self._layer(value, as_grid(low / SIXTEEN, 0, LONG, signed=True), None)
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


def _keys(source: Unrounded) -> tuple[str, str]:
    assert source.weight is not None
    bias = source.bias.key if isinstance(source.bias, KnownWords) else ""
    return f"{source.op} {source.weight.key}", bias if source.bias is not None else "none"


def _restricts(grid: Grid, ends: tuple[float | None, float | None]) -> bool:
    """Tell whether a clamp changes words that a grid can hold."""
    point, scale = int(grid.zero_point), float(grid.scale)
    low, high = ends
    return (low is not None and round(low / scale) + point > grid.low) or (
        high is not None and round(high / scale) + point < grid.high
    )


def narrowed(grid: Grid, bounds: tuple[int, int]) -> Grid:
    """Return the grid of the shortest words that hold all within bounds, and the one of 0."""
    for bits in range(2, grid.bits):
        short, point = replace(grid, bits=bits), int(grid.zero_point)
        if short.low <= min(bounds[0], point) and max(bounds[1], point) <= short.high:
            return short
    return grid


def apply_named(
    value: Function | Reals,
    named: tuple[str, dict[str, float | str]],
    label: str,
) -> Function:
    """Return a function of what a value is."""
    function = function_of(named)
    if isinstance(value, Reals):
        return Function(value.node, function, label, named)
    inner = value.compute
    return Function(value.node, lambda x: function(inner(x)), label)


def as_array(values: Array) -> Tensor:
    """Return an array as a tensor of its own."""
    return torch.from_numpy(np.array(values, order="C"))
