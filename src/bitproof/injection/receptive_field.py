"""How the change of one output element spreads, followed only as far as it reaches.

Model:  behind a convolution, one changed element changes the window of outputs that read it, in
        all channels; behind the next, a larger one. While the window is a small part of the map,
        convolutions and elementwise operations are executed on it alone, from fault-free words
        around it. That ends at a node which alone carries the change.
"""

from dataclasses import dataclass, replace
from functools import cached_property, reduce

import torch
from jaxtyping import Integer
from torch import Tensor
from torch.nn import functional

from bitproof.injection.golden import Golden
from bitproof.quant.execution import execute
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork

LARGEST_SHARE = 0.3
"""Part of a map up to which a window is worth following; no influence on the result."""
ELEMENTWISE = frozenset({"add", "sub", "mul", "table"})


@dataclass(frozen=True)
class Window:
    """A part of a map: rows and columns, the ends excluded; a part may lie outside."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    def union(self, other: "Window") -> "Window":
        """Return the smallest window around both."""
        ends = zip(self.axes, other.axes, strict=True)
        return Window(*((min(a[0], b[0]), max(a[1], b[1])) for a, b in ends))

    def intersection(self, other: "Window") -> "Window":
        """Return what both share."""
        ends = zip(self.axes, other.axes, strict=True)
        return Window(*((max(a[0], b[0]), min(a[1], b[1])) for a, b in ends))

    def relative_to(self, outer: "Window") -> "Window":
        """Return this window, counted from the first row and column of another."""
        ends = zip(self.axes, outer.axes, strict=True)
        return Window(*((a[0] - b[0], a[1] - b[0]) for a, b in ends))

    @property
    def is_empty(self) -> bool:
        """Whether nothing lies in it."""
        return any(start >= stop for start, stop in self.axes)

    @property
    def axes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns."""
        return self.rows, self.columns

    def of(self, maps: Tensor) -> Tensor:
        """Return the part of maps that lies in the window, a view."""
        return maps[:, :, slice(*self.rows), slice(*self.columns)]


Change = tuple[Tensor, Window]
"""The words in a part of a map, and where it lies."""


class ReceptiveField:
    """Follows single changed elements through the network of a fault-free run."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        self._ends: dict[str, str] = {}

    def end(self, name: str) -> str:
        """Return the node up to which a change of one element of node `name` can be followed."""
        if name not in self._ends:
            self._ends[name] = self._find_end(name)
        return self._ends[name]

    def follow(
        self, name: str, codes: Integer[Tensor, "m c h w"], window: Window, images: Tensor
    ) -> tuple[Integer[Tensor, "m _ _ _"], Window]:
        """Return the changed words of node `end(name)`, and the window that they lie in.

        `codes` are the words in a `window` of the node that changed, for some of the images.
        """
        end, nodes = self.end(name), self.golden.suffix(name).nodes
        last = next(place for place, node in enumerate(nodes) if node.name == end)
        known: dict[str, Change | None] = {name: (codes, window)}

        def compute(node: Node, operands: list[Change | None]) -> Change | None:
            return self._step(node, operands, images)

        found = execute(nodes[: last + 1], compute, known=known, read=lambda _: None)[end]
        assert found is not None
        return found

    @cached_property
    def _bare(self) -> IntegerNetwork:
        """The network with convolutions that do not pad, for maps that bring their padding."""
        nodes = tuple(
            replace(node, attrs={**node.attrs, "padding": [0, 0]}) if _is_local(node) else node
            for node in self.golden.network.nodes
        )
        return replace(self.golden.network, nodes=nodes)

    @cached_property
    def _bare_nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self._bare.nodes}

    def _step(self, node: Node, operands: list[Change | None], images: Tensor) -> Change:
        """Return what becomes of a node's output, given what has changed of each operand."""
        golden, shape = self.golden, self.golden.codes[node.name].shape
        window = reduce(Window.union, (change[1] for change in operands if change is not None))
        needed, network, own = window, golden.network, node
        if node.op == "conv":
            window, needed = _through(node, window, self._kernel(node), shape)
            network, own = self._bare, self._bare_nodes[node.name]
        pairs = zip(node.inputs, operands, strict=True)
        read = [self._read(name, needed, change, images) for name, change in pairs]
        marker = golden.inputs[:1].expand(len(images), *golden.inputs.shape[1:])
        codes = integer_op(network, own, read, marker)
        return golden.bounded(node, codes), window

    def _read(self, name: str, window: Window, change: Change | None, images: Tensor) -> Tensor:
        """Return the words of a node in a window, padded with zeros outside of the map."""
        maps = self.golden.codes[name]
        whole = Window((0, maps.shape[2]), (0, maps.shape[3]))
        inside = window.intersection(whole)
        codes = inside.of(maps).index_select(0, images)
        if change is not None:
            new, place = change
            common = place.intersection(inside)
            if not common.is_empty:
                common.relative_to(inside).of(codes).copy_(common.relative_to(place).of(new))
        edges = [
            (inside_ends[0] - ends[0], ends[1] - inside_ends[1])
            for inside_ends, ends in zip(inside.axes, window.axes, strict=True)
        ]
        if any(map(any, edges)):
            point = int(self.golden.network.grids[name].zero_point)
            codes = functional.pad(codes, [*edges[1], *edges[0]], value=point)
        return codes.contiguous(memory_format=torch.channels_last)

    def _kernel(self, node: Node) -> tuple[int, int]:
        high, wide = self.golden.network.tensors[node.key("weight")].codes.shape[2:]
        return high, wide

    def _find_end(self, name: str) -> str:
        golden, found = self.golden, name
        if golden.codes[name].ndim != 4 or not golden.by_image:
            return name
        sizes = {name: (1, 1)}
        suffix = golden.suffix(name)
        for node in suffix.nodes:
            maps = golden.codes[node.name]
            if not (_is_local(node) or node.op in ELEMENTWISE):
                break
            if maps.ndim != 4 or any(
                golden.codes[read].ndim != 4 or read in golden.constant for read in node.inputs
            ):
                break
            reached = [sizes[read] for read in node.inputs if read in sizes]
            high, wide = (max(lengths) for lengths in zip(*reached, strict=True))
            if node.op == "conv":
                move, lengths = node.geometry, (high, wide)
                moves = zip(lengths, move.reaches(self._kernel(node)), move.stride, strict=True)
                high, wide = ((length + reach - 2) // hop + 1 for length, reach, hop in moves)
            elif any(golden.codes[read].shape != maps.shape for read in node.inputs):
                break
            if high * wide > LARGEST_SHARE * maps.shape[2] * maps.shape[3]:
                break
            sizes[node.name] = (high, wide)
            if node.name in suffix.narrow:
                found = node.name
        return found


def _is_local(node: Node) -> bool:
    return node.op == "conv" and len(node.attrs["stride"]) == 2


def _through(
    node: Node, window: Window, kernel: tuple[int, int], shape: torch.Size
) -> tuple[Window, Window]:
    """Return the outputs of a convolution that read `window`, and the inputs that these read."""
    outputs, inputs = [], []
    move, reaches = node.geometry, node.geometry.reaches(kernel)
    for axis, (start, stop) in enumerate(window.axes):
        hop, edge, reach = move.stride[axis], move.padding[axis], reaches[axis] - 1
        size = shape[2 + axis]
        first = min(max(-((reach - edge - start) // hop), 0), size - 1)
        last = max(min((stop - 1 + edge) // hop + 1, size), first + 1)  # one more does no harm
        outputs.append((first, last))
        inputs.append((first * hop - edge, (last - 1) * hop - edge + reach + 1))
    return Window(*outputs), Window(*inputs)
