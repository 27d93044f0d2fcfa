"""What the export of one network knows while it walks over the nodes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bitproof.core.errors import ExchangeError
from bitproof.exchange.graph_writer import GraphWriter
from bitproof.quant import Grid, IntegerNetwork, Node
from bitproof.quant.constants import Constants

Form = Literal["words", "steps", "real", "tokens"]
Size = int | tuple[Literal["n"], int]
"""Of an axis: a number, or so many for each image."""
ENDS = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-(1 << 15), (1 << 15) - 1)}
"""Least and largest word of each type."""


@dataclass(frozen=True)
class Wire:
    """A tensor of the ONNX graph that holds a node's output.

    `words` are stored integers. `steps` are words less their zero point, as float32. What is `real`
    has no grid, and `tokens` are int64.
    """

    name: str
    form: Form
    dtype: str = "uint8"
    """Of words."""
    shift: int = 0
    """Added to a code of the network for the word that is stored."""
    zero_point: int = 0
    """Of the words as they are stored."""


@dataclass
class ExportState:
    """A network, the graph that is being written, and the tensors so far."""

    network: IntegerNetwork
    shapes: tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]
    """Of every node's output for 2 and for 3 images."""
    writer: GraphWriter = field(default_factory=GraphWriter)
    source: str = ""
    """The input's tensor."""
    weights: str = "uint8"
    """Type of weights for int8 kernels."""
    signed_words: bool = False
    """Whether signed words of 8 bits stay int8; else 128 is added to them."""
    wires: dict[str, Wire] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    """What was rewritten, and in which nodes."""
    _scaled: dict[tuple[str, float], str] = field(default_factory=dict)

    def constants(self, node: Node) -> Constants:
        """Return what the node multiplies with."""
        return self.network.constants[node.name]

    def grid(self, node: Node) -> Grid | None:
        """Return the grid of the node's output; None where that is real."""
        return self.network.grids.get(node.name)

    def note(self, text: str, node: Node) -> None:
        """Keep that a node was rewritten."""
        names = self.notes.setdefault(text, [])
        if node.name not in names:
            names.append(node.name)

    def inputs(self, node: Node) -> list[Wire]:
        """Return what the node reads."""
        return [self.wires[name] for name in node.inputs]

    def sizes(self, name: str) -> list[Size]:
        """Return the sizes of a node's output, those that grow with the batch as such."""
        two, three = (shapes[name] for shapes in self.shapes)
        return [a if a == b else ("n", b - a) for a, b in zip(two, three, strict=True)]

    def rank(self, name: str) -> int:
        """Return the number of axes of a node's output."""
        return len(self.shapes[0][name])

    def reshape(self, x: str, sizes: Sequence[Size], node: Node) -> str:
        """Return `x` with these sizes; one of them may grow with the batch."""
        free = [size for size in sizes if isinstance(size, tuple)]
        if len(free) > 1:
            raise refused(node, "wanted the batch on one axis of a shape, got two")
        shape = [-1 if isinstance(size, tuple) else size for size in sizes]
        return self.writer.add("Reshape", x, self.number(shape, "int64"))

    def wire(self, grid: Grid, name: str) -> Wire:
        """Return the wire for words on a grid."""
        if grid.bits > 8:
            return Wire(name, "words", "int16", 0, int(grid.zero_point))
        if grid.signed and self.signed_words:
            return Wire(name, "words", "int8", 0, int(grid.zero_point))
        shift = 128 if grid.signed else 0
        return Wire(name, "words", "uint8", shift, int(grid.zero_point) + shift)

    def stored(self, grid: Grid, codes: Tensor, hint: str) -> Wire:
        """Return the wire for stored words, whose zero point may lie outside of the word."""
        wire = self.wire(grid, hint)
        low, high = ENDS[wire.dtype]
        if low <= wire.zero_point <= high and grid.bits <= 16:
            words = array(codes, "int64") + wire.shift
            return self.renamed(wire, self.writer.constant(words, wire.dtype, hint))
        steps = array(codes, "int64") - int(grid.zero_point)
        return Wire(self.writer.constant(steps, "float32", hint), "steps")

    @staticmethod
    def renamed(wire: Wire, name: str, form: Form | None = None) -> Wire:
        """Return the wire of another tensor with words on the same grid."""
        return Wire(name, form or wire.form, wire.dtype, wire.shift, wire.zero_point)

    def scaled(self, wire: Wire, factor: float = 1.0) -> str:
        """Return words less their zero point, times a float32 factor, as float32."""
        if wire.form == "steps" and factor == 1:
            return wire.name
        key = wire.name, float(np.float32(factor))
        if key not in self._scaled:
            scale = self.number(factor)
            if wire.form == "words":
                point = self.number(wire.zero_point, wire.dtype)
                made = self.writer.add("DequantizeLinear", wire.name, scale, point)
            else:
                made = self.writer.add("Mul", wire.name, scale)
            self._scaled[key] = made
        return self._scaled[key]

    def double(self, wire: Wire) -> str:
        """Return words less their zero point, or real numbers, as float64."""
        x = wire.name if wire.form == "real" else self.scaled(wire)
        return self.writer.cast(x, "float64")

    def number(self, value: Any, dtype: str = "float32") -> str:
        """Return a constant."""
        return self.writer.constant(value, dtype)


def refused(node: Node, reason: str) -> ExchangeError:
    """Return the error for a node that cannot be exported."""
    where = f" at {node.path}" if node.path else ""
    return ExchangeError(f"export: {node.name} ({node.op}{where}): {reason}")


def array(tensor: Tensor, dtype: str) -> NDArray[Any]:
    """Return a tensor as an array of another type that holds its numbers."""
    return tensor.detach().cpu().numpy().astype(dtype)
