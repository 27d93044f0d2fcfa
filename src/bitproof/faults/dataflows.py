"""How an array of processing elements computes a layer: which register holds what in which cycle.

Model:  the array has R rows and C columns of processing elements (PEs). In each cycle registers
        first take their new values, then faults strike, then multipliers and adders read them. The
        multiplier's register takes the product `latency` cycles after the operands, the sum's
        register one cycle later. Words and weights are those of one image, group by group, tile
        by tile, each of a fixed number of cycles.

        weight_stationary: PE (r, c) keeps the weight of tap kR + r and channel nC + c for a tile;
        it is written in cycle R - 1. Words enter at the left, PE (r, 0) gets that of output m in
        cycle R + m + r, and move right by a column each cycle; sums start at 0 at the top, move
        down by a row each cycle, and are added up over tiles below the array. Tiles: group, n,
        stretches of `stream` outputs, k (fastest).

        output_stationary: PE (r, c) sums up output mR + r of channel nC + c. Words move right,
        weights move down; tap k meets there in cycle k + r + c. Sums are read in the last cycle of
        a tile, R cycles after the last write. Tiles: group, m, n (fastest).

        row_stationary: PE (r, c) keeps the kernel row of pair q = qR + r of an input channel and a
        kernel row, and the input row that it meets at row yC + c of the map; it computes all
        columns of that row, one product a cycle, kernel columns fastest, from cycle r on. Its sum
        starts at 0 for each column and takes in the sum of the PE above with the last product.
        Below the array, sums are added up over tiles. Tiles: group, channel, y, q (fastest).

        How far a struck operand goes: `element` strikes the word where it comes from, for all PEs
        that get it in the tile; `pe_row` strikes it in the PE, and so for those that it moves on
        to, or where it stays in the PE (stationary weights; words and weights of row_stationary)
        for all its uses there from then on; `single_mac` strikes it in the multiplier alone.

        A PE without work hands sums on and adds nothing. Biases are added outside.
Source: Kung, "Why Systolic Architectures?", 1982; Jouppi et al., ISCA 2017 (weight stationary);
        Chen et al., Eyeriss, ISCA 2016 (row stationary; here pairs fill the rows without gaps).
        METHODS D.2 for the scopes of reuse.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bitproof.faults.layer_matrices import Indices, LayerMatrices
from bitproof.faults.table import ArraySite

Scope = Literal["element", "pe_row", "single_mac"]


@dataclass(frozen=True)
class ArraySize:
    """What dataflows need to know of an array."""

    rows: int
    columns: int
    latency: int
    stream: int | None
    """Outputs that stream through one set of stationary weights; None: all."""


@dataclass(frozen=True)
class Window:
    """Cycles in which a fault strikes."""

    first: int
    last: int


ALWAYS = None
"""The window of a permanent fault."""


@dataclass(frozen=True, eq=False)
class Products:
    """Products that a fault touches: all combinations of groups, outputs, taps and channels."""

    groups: Indices
    outputs: Indices
    taps: Indices
    channels: Indices


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums that a fault touches: all combinations of groups, outputs and channels.

    Each is added up in parts, from 0, and the parts then; in a part, what was added so far is
    struck after each step.
    """

    groups: Indices
    outputs: Indices
    channels: Indices
    parts: tuple[tuple[Indices, ...], ...]
    """Taps that are added before each strike, part by part."""


class Dataflow(ABC):
    """One layer on one array."""

    def __init__(self, layer: LayerMatrices, array: ArraySize) -> None:
        self.layer, self.array = layer, array
        self.all_groups = np.arange(layer.groups)
        self.all_outputs = np.arange(layer.n_outputs)
        self.all_channels = np.arange(layer.n_channels)

    @property
    @abstractmethod
    def tile_cycles(self) -> int:
        """Cycles of a tile."""

    @property
    @abstractmethod
    def n_tiles(self) -> int:
        """Tiles of the layer, for one image."""

    @property
    def cycles(self) -> int:
        """Cycles of the layer, for one image."""
        return self.tile_cycles * self.n_tiles

    @abstractmethod
    def products(
        self, register: ArraySite, scope: Scope, row: int, column: int, window: Window | None
    ) -> Iterator[Products]:
        """Yield the products that a fault in a register other than the sum touches, each once."""

    @abstractmethod
    def sums(self, row: int, column: int, window: Window | None) -> Iterator[Sums]:
        """Yield the sums that a fault in the sum's register touches."""

    def _tiles(self, window: Window) -> Iterator[tuple[int, int, int]]:
        """Yield the tiles that a window meets, with the first and last cycle within."""
        size = self.tile_cycles
        for tile in range(window.first // size, min(window.last // size + 1, self.n_tiles)):
            start = tile * size
            yield tile, max(window.first - start, 0), min(window.last - start, size - 1)


class WeightStationary(Dataflow):
    """Weights stay, words move right, sums move down."""

    def __init__(self, layer: LayerMatrices, array: ArraySize) -> None:
        super().__init__(layer, array)
        self.order = layer.channels_last
        self.stream = min(array.stream or layer.n_outputs, layer.n_outputs)
        self.tap_tiles = -(-layer.n_taps // array.rows)
        self.channel_tiles = -(-layer.n_channels // array.columns)
        self.output_tiles = -(-layer.n_outputs // self.stream)

    @property
    def tile_cycles(self) -> int:
        """Cycles of a tile: loading, the stream, and until the last sum is out."""
        return 2 * self.array.rows + self.array.columns + self.stream + self.array.latency - 1

    @property
    def n_tiles(self) -> int:
        """Tiles of the layer."""
        return self.layer.groups * self.channel_tiles * self.output_tiles * self.tap_tiles

    def products(
        self, register: ArraySite, scope: Scope, row: int, column: int, window: Window | None
    ) -> Iterator[Products]:
        """Yield the products that a fault touches."""
        right: Scope = scope if register == "pe_input" else "single_mac"
        if window is ALWAYS:
            channels = _reached(self.all_channels, column, self.array.columns, right)
            taps = self.order[row :: self.array.rows]
            yield Products(self.all_groups, self.all_outputs, taps, channels)
            return
        late = self.array.latency if register == "pe_product" else 0
        for tile, first, last in self._tiles(window):
            group, n, m, k = self._place(tile)
            tap, channels = k * self.array.rows + row, self._of_tile(n)
            if tap >= self.layer.n_taps or column >= len(channels):
                continue
            start = self.array.rows + row + column + late  # the cycle of the first output
            outputs = self._outputs(m)
            if register == "pe_weight" and scope != "single_mac":
                written = self.array.rows - 1
                used = last >= written and first < start + len(outputs)
                skipped = max(first - start, 0) if scope == "pe_row" else 0
                outputs = outputs[skipped:] if used else outputs[:0]
            else:
                outputs = outputs[max(first - start, 0) : max(last - start + 1, 0)]
            reached = _reached(channels, column, self.array.columns, right)
            yield Products(np.array([group]), outputs, self.order[[tap]], reached)

    def sums(self, row: int, column: int, window: Window | None) -> Iterator[Sums]:
        """Yield the partial sums that a fault touches, tile by tile."""
        if window is ALWAYS:
            channels = self.all_channels[column :: self.array.columns]
            parts = tuple((self._above(k, row),) for k in range(self.tap_tiles))
            yield Sums(self.all_groups, self.all_outputs, channels, parts)
            return
        start = self.array.rows + row + column + self.array.latency + 1
        for tile, first, last in self._tiles(window):
            group, n, m, k = self._place(tile)
            channels = self._of_tile(n)[column : column + 1]
            outputs = self._outputs(m)[max(first - start, 0) : max(last - start + 1, 0)]
            yield Sums(np.array([group]), outputs, channels, ((self._above(k, row),),))

    def _place(self, tile: int) -> tuple[int, int, int, int]:
        tile, k = divmod(tile, self.tap_tiles)
        tile, m = divmod(tile, self.output_tiles)
        group, n = divmod(tile, self.channel_tiles)
        return group, n, m, k

    def _of_tile(self, n: int) -> Indices:
        return self.all_channels[n * self.array.columns : (n + 1) * self.array.columns]

    def _outputs(self, m: int) -> Indices:
        return self.all_outputs[m * self.stream : (m + 1) * self.stream]

    def _above(self, k: int, row: int) -> Indices:
        """Return the taps of a tile that the sum of a row holds."""
        start = k * self.array.rows
        return self.order[start : min(start + row + 1, self.layer.n_taps)]


class OutputStationary(Dataflow):
    """Sums stay, words move right, weights move down."""

    def __init__(self, layer: LayerMatrices, array: ArraySize) -> None:
        super().__init__(layer, array)
        self.order = layer.channels_last
        self.output_tiles = -(-layer.n_outputs // array.rows)
        self.channel_tiles = -(-layer.n_channels // array.columns)

    @property
    def tile_cycles(self) -> int:
        """Cycles of a tile: the stream, until the last sum is written, and reading them out."""
        array = self.array
        return self.layer.n_taps + 2 * array.rows + array.columns + array.latency - 1

    @property
    def n_tiles(self) -> int:
        """Tiles of the layer."""
        return self.layer.groups * self.output_tiles * self.channel_tiles

    def products(
        self, register: ArraySite, scope: Scope, row: int, column: int, window: Window | None
    ) -> Iterator[Products]:
        """Yield the products that a fault touches."""
        right: Scope = scope if register == "pe_input" else "single_mac"
        down: Scope = scope if register == "pe_weight" else "single_mac"
        if window is ALWAYS:
            outputs = _reached(self.all_outputs, row, self.array.rows, down)
            channels = _reached(self.all_channels, column, self.array.columns, right)
            yield Products(self.all_groups, outputs, self.order, channels)
            return
        start = row + column + (self.array.latency if register == "pe_product" else 0)
        for tile, first, last in self._tiles(window):
            group, outputs, channels = self._place(tile)
            if row >= len(outputs) or column >= len(channels):
                continue
            taps = self.order[max(first - start, 0) : max(last - start + 1, 0)]
            outputs = _reached(outputs, row, self.array.rows, down)
            channels = _reached(channels, column, self.array.columns, right)
            yield Products(np.array([group]), outputs, taps, channels)

    def sums(self, row: int, column: int, window: Window | None) -> Iterator[Sums]:
        """Yield the sums that a fault touches; they stay where they are struck."""
        if window is ALWAYS:
            outputs = self.all_outputs[row :: self.array.rows]
            channels = self.all_channels[column :: self.array.columns]
            steps = tuple(self.order[i : i + 1] for i in range(self.layer.n_taps))
            yield Sums(self.all_groups, outputs, channels, (steps,))
            return
        written = row + column + self.array.latency + 1  # the cycle of the first write
        for tile, first, last in self._tiles(window):
            group, outputs, channels = self._place(tile)
            ends = np.arange(self.layer.n_taps)
            ends = ends[(ends + written >= first) & (ends + written <= last)]
            held = written + self.layer.n_taps <= first < self.tile_cycles - 1
            ends = np.array([self.layer.n_taps - 1]) if held else ends
            if row >= len(outputs) or column >= len(channels) or not len(ends):
                continue
            steps = tuple(np.split(self.order[: ends[-1] + 1], ends[:-1] + 1))
            one = outputs[row : row + 1], channels[column : column + 1]
            yield Sums(np.array([group]), *one, (steps,))

    def _place(self, tile: int) -> tuple[int, Indices, Indices]:
        tile, n = divmod(tile, self.channel_tiles)
        group, m = divmod(tile, self.output_tiles)
        outputs = self.all_outputs[m * self.array.rows : (m + 1) * self.array.rows]
        channels = self.all_channels[n * self.array.columns : (n + 1) * self.array.columns]
        return group, outputs, channels


class RowStationary(Dataflow):
    """Kernel rows and input rows stay, sums move down at the end of each column."""

    def __init__(self, layer: LayerMatrices, array: ArraySize) -> None:
        super().__init__(layer, array)
        self.kernel_columns, self.map_columns = layer.columns
        self.pairs = layer.n_taps // self.kernel_columns
        self.map_rows = layer.n_outputs // self.map_columns
        self.pair_tiles = -(-self.pairs // array.rows)
        self.row_tiles = -(-self.map_rows // array.columns)
        self.steps = self.map_columns * self.kernel_columns

    @property
    def tile_cycles(self) -> int:
        """Cycles of a tile."""
        return self.steps + self.array.rows + self.array.latency

    @property
    def n_tiles(self) -> int:
        """Tiles of the layer."""
        return self.layer.groups * self.layer.n_channels * self.row_tiles * self.pair_tiles

    def products(
        self, register: ArraySite, scope: Scope, row: int, column: int, window: Window | None
    ) -> Iterator[Products]:
        """Yield the products that a fault touches."""
        if window is ALWAYS:
            yield from self._always(register, scope, row, column)
            return
        late = self.array.latency if register == "pe_product" else 0
        for tile, first, last in self._tiles(window):
            group, n, rows, pairs = self._place(tile)
            if row >= len(pairs) or column >= len(rows):
                continue
            start = row + late
            struck = np.arange(max(first - start, 0), min(last - start + 1, self.steps))
            if not len(struck):
                continue
            if register == "pe_product" or scope == "single_mac":
                found = {(row, column): struck}
            elif register == "pe_weight":
                found = self._of_weight(scope, row, column, struck, len(rows))
            else:
                found = self._of_input(scope, row, column, struck, (rows, pairs))
            for (r, c), steps in found.items():
                yield from self._products(group, n, int(rows[c]), int(pairs[r]), steps)

    def sums(self, row: int, column: int, window: Window | None) -> Iterator[Sums]:
        """Yield the sums that a fault touches, tile by tile."""
        if window is ALWAYS:
            outputs = self._outputs(np.arange(column, self.map_rows, self.array.columns))
            columns = np.arange(self.kernel_columns)
            tiles = (self._pairs(q) for q in range(self.pair_tiles))
            parts = tuple(self._prefixes(pairs, row, columns) for pairs in tiles)
            yield Sums(self.all_groups, outputs, self.all_channels, parts)
            return
        start = row + self.array.latency + 1
        for tile, first, last in self._tiles(window):
            group, n, rows, pairs = self._place(tile)
            if column >= len(rows):
                continue
            struck = np.arange(max(first - start, 0), min(last - start + 1, self.steps))
            of, at = np.divmod(struck, self.kernel_columns)
            for x in np.unique(of):
                steps = self._prefixes(pairs, row, at[of == x])
                output = rows[column] * self.map_columns + x
                yield Sums(np.array([group]), np.array([output]), np.array([n]), (steps,))

    def _always(
        self, register: ArraySite, scope: Scope, row: int, column: int
    ) -> Iterator[Products]:
        rows = np.arange(column, self.map_rows, self.array.columns)
        pairs = np.arange(row, self.pairs, self.array.rows)
        if register == "pe_weight" and scope == "element":
            every = np.arange(self.map_rows)
            rows = _reached(every, column, self.array.columns, "element")
        if register != "pe_input" or scope != "element":
            taps, outputs = self._taps(pairs), self._outputs(rows)
            yield Products(self.all_groups, outputs, taps, self.all_channels)
            return
        for y in range(self.row_tiles):
            for q in range(self.pair_tiles):
                at, of = self._rows(y), self._pairs(q)
                if row >= len(of) or column >= len(at):
                    continue
                for r, c in self._sharing(row, column, (at, of)):
                    taps, outputs = self._taps(of[[r]]), self._outputs(at[[c]])
                    yield Products(self.all_groups, outputs, taps, self.all_channels)

    def _of_weight(
        self, scope: Scope, row: int, column: int, struck: Indices, columns: int
    ) -> dict[tuple[int, int], Indices]:
        """Return the steps of PEs that use weights that a PE uses in some steps."""
        steps, at = np.arange(self.steps), struck % self.kernel_columns
        if scope == "element":
            own = steps[np.isin(steps % self.kernel_columns, at)]
            return {(row, c): own for c in range(columns)}
        first = {int(j): int(struck[at == j].min()) for j in np.unique(at)}
        used = [s for s in steps if s >= first.get(int(s) % self.kernel_columns, self.steps)]
        return {(row, column): np.array(used, np.int64)}

    def _of_input(
        self,
        scope: Scope,
        row: int,
        column: int,
        struck: Indices,
        place: tuple[Indices, Indices],
    ) -> dict[tuple[int, int], Indices]:
        """Return the steps of PEs that use input words that a PE uses in some steps."""
        steps = np.arange(self.steps)
        words = self._word(steps)
        first = {int(word): int(struck[words[struck] == word].min()) for word in words[struck]}
        if scope == "pe_row":
            used = [s for s in steps if s >= first.get(int(words[s]), self.steps)]
            return {(row, column): np.array(used, np.int64)}
        own = steps[np.isin(words, list(first))]
        return dict.fromkeys(self._sharing(row, column, place), own)

    def _sharing(
        self, row: int, column: int, place: tuple[Indices, Indices]
    ) -> list[tuple[int, int]]:
        """Return the PEs of a tile that are given the same input row."""
        rows, pairs = place
        kernel_rows = self.pairs // self.layer.channels_in
        channel, at = np.divmod(pairs, kernel_rows)
        own = self._input_rows(rows[[column]], at[[row]])[0, 0]
        same = (self._input_rows(rows, at) == own).all(-1) & (channel == channel[row])[None]
        return [(int(r), int(c)) for c, r in zip(*np.nonzero(same), strict=True)]

    def _input_rows(self, rows: Indices, at: Indices) -> np.ndarray:
        """Return lead and input rows (last axis) that rows of the map meet at kernel rows."""
        layer = self.layer
        places, per_lead = rows * self.map_columns, layer.n_places
        lead = np.broadcast_to((places // per_lead)[:, None], (len(rows), len(at)))
        axes = range(len(layer.kernel) - 1)
        taps = at * self.kernel_columns
        return np.stack([lead, *(layer.reads(n, places % per_lead, taps) for n in axes)], -1)

    def _word(self, steps: Indices) -> Indices:
        """Return the column of the input that each step reads."""
        layer = self.layer
        if not layer.kernel:
            return np.zeros_like(steps)
        x, j = np.divmod(steps, self.kernel_columns)
        words: np.ndarray = x * layer.stride[-1] + j * layer.dilation[-1]
        return words

    def _products(
        self, group: int, n: int, y: int, pair: int, steps: Indices
    ) -> Iterator[Products]:
        """Yield the products of some steps of a PE, kernel column by kernel column."""
        x, j = np.divmod(steps, self.kernel_columns)
        for column in np.unique(j):
            outputs = y * self.map_columns + x[j == column]
            tap = np.array([pair * self.kernel_columns + column])
            yield Products(np.array([group]), outputs, tap, np.array([n]))

    def _prefixes(self, pairs: Indices, row: int, columns: Indices) -> tuple[Indices, ...]:
        """Return the taps added before each strike after some kernel columns, rising."""
        steps: list[Indices] = []
        done = 0
        working = row < len(pairs)
        for j in columns.tolist():
            new = self._taps(pairs[[row]])[done : j + 1] if working else np.arange(0)
            done = j + 1
            if j == self.kernel_columns - 1:
                new = np.concatenate([new, self._taps(pairs[:row])])
            elif not working:
                continue
            steps.append(new)
        return tuple(steps)

    def _place(self, tile: int) -> tuple[int, int, Indices, Indices]:
        tile, q = divmod(tile, self.pair_tiles)
        tile, y = divmod(tile, self.row_tiles)
        group, n = divmod(tile, self.layer.n_channels)
        return group, n, self._rows(y), self._pairs(q)

    def _rows(self, y: int) -> Indices:
        return np.arange(y * self.array.columns, min((y + 1) * self.array.columns, self.map_rows))

    def _pairs(self, q: int) -> Indices:
        return np.arange(q * self.array.rows, min((q + 1) * self.array.rows, self.pairs))

    def _taps(self, pairs: Indices) -> Indices:
        """Return the taps of some pairs, in order."""
        return (pairs[:, None] * self.kernel_columns + np.arange(self.kernel_columns)).reshape(-1)

    def _outputs(self, rows: Indices) -> Indices:
        return (rows[:, None] * self.map_columns + np.arange(self.map_columns)).reshape(-1)


def _reached(index: Indices, at: int, size: int, scope: Scope) -> Indices:
    """Return what meets a word that a PE holds, in tiles of some size along one axis of the array.

    That is the PE's own part of each tile, what lies behind it as well where the word moves on, or
    all of a tile.
    """
    if scope == "single_mac":
        here: np.ndarray = index[at::size]
        return here
    tile, own = np.divmod(np.arange(len(index)), size)
    has_it = tile * size + at < len(index)
    reached: np.ndarray = index[has_it if scope == "element" else own >= at]
    return reached


DATAFLOWS: dict[str, type[Dataflow]] = {
    "weight_stationary": WeightStationary,
    "output_stationary": OutputStationary,
    "row_stationary": RowStationary,
}
