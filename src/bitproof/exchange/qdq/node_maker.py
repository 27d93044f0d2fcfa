"""Nodes of values that waited for a grid: inputs, layers, lookup tables, clamps.

Model:  a QuantizeLinear names the grid that an unrounded operation waited for; the DequantizeLinear
        behind it makes the node, here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bitproof.core.errors import ExchangeError
from bitproof.exchange.assembly import Assembly, accumulator_step, as_grid, bias_words, same_grid
from bitproof.exchange.elementwise_functions import named_function
from bitproof.exchange.values import Function, Image, KnownWords, Move, Rounded, Unrounded, Value
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.operations import CLAMPING_OPS, MAC_OPS
from bitproof.quant.vector_words import BITS as LONG

PAIR = "a QuantizeLinear and a DequantizeLinear"
SIXTEEN = 1 << 15
IMAGES, PROBE = "the images", "a probe"
"""Shapes of what is no node; names of nodes have no blanks."""


@dataclass
class NodeMaker:
    """Makes each node once."""

    assembly: Assembly
    settled: dict[tuple[Any, ...], str] = field(default_factory=dict)
    """Nodes that were made of a value that waited, by value and grid."""
    owners: dict[tuple[str, str], str] = field(default_factory=dict)
    """Layers by the keys of their words."""
    kept: list[Value] = field(default_factory=list)
    """Values whose identities `settled` knows."""

    def settle(self, value: Rounded) -> str:
        """Return the node whose output words a value is, which is made now if there is none."""
        grid = value.grid
        words = float(grid.scale), int(grid.zero_point), grid.bits, grid.signed
        key = (id(value.source), *words, value.bounds)
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
            return self.layer(source, grid, value.bounds)
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

    def layer(self, source: Unrounded, grid: Grid | None, bounds: tuple[int, int] | None) -> str:
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
        name = self.layer(source.waiting, words, None)
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
