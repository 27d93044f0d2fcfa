"""Arrays of multipliers, stepped cycle by cycle: slow, obvious, and written apart from the library.

Nothing here knows which outputs a fault reaches: registers are filled, struck and read, and the
sums that come out are what comes out. Values travel with a tag that says what they are, and meet
only what they belong to (asserted), so that a wrong skew cannot go unnoticed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Bits = Callable[[int], int]
"""What happens to the bits of a word."""
Word = tuple[Any, int]
"""A tag and a value."""


@dataclass
class SlowFault:
    """A fault in one register of one element; cycles count through the layer."""

    register: str
    row: int
    column: int
    first: int | None
    """None: permanent."""
    window: int
    scope: str
    strike: Bits
    seen: set[Any] = field(default_factory=set)
    """Tags of words that the element held while it struck: a first pass finds them."""

    def at(self, register: str, row: int, column: int) -> bool:
        return (register, row, column) == (self.register, self.row, self.column)

    def active(self, cycle: int) -> bool:
        return self.first is None or self.first <= cycle < self.first + self.window

    def starts(self, cycle: int) -> bool:
        return self.first is not None and cycle == self.first


@dataclass
class SlowLayer:
    """One image: `words[g][m][k]` and `weights[g][k][n]`, raw words, taps in storage order."""

    words: np.ndarray
    weights: np.ndarray
    point: int
    weight_points: np.ndarray
    """`[g][n]`."""
    origin: np.ndarray
    """`[g][m][k]`: where each word comes from; what lies in the padding is its own place."""
    channels_in: int
    kernel_columns: int
    map_columns: int

    def multiply(self, g: int, n: int, word: int, weight: int) -> int:
        return (word - self.point) * (weight - int(self.weight_points[g, n]))

    @property
    def order(self) -> list[int]:
        """Taps, channels running fastest."""
        groups, _, taps = self.words.shape
        del groups
        each = taps // self.channels_in
        return [c * each + at for at in range(each) for c in range(self.channels_in)]


def wrap(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


class SlowArray(ABC):
    """An array of R rows and C columns; subclasses step it."""

    def __init__(
        self, layer: SlowLayer, rows: int, columns: int, latency: int, stream: int | None
    ) -> None:
        self.layer, self.rows, self.columns, self.latency = layer, rows, columns, latency
        self.groups, self.m, self.k = layer.words.shape
        self.n = layer.weights.shape[2]
        self.stream = min(stream or self.m, self.m)
        self.cycle = 0

    def run(self, fault: SlowFault | None = None) -> np.ndarray:
        """Return `[g][m][n]`, sums without bias."""
        if (
            fault is not None
            and fault.scope == "element"
            and fault.register in {"pe_input", "pe_weight"}
        ):
            self._pass(fault, watch=True)
            return self._pass(fault, watch=False)
        return self._pass(fault, watch=False)

    def _pass(self, fault: SlowFault | None, *, watch: bool) -> np.ndarray:
        self.fault, self.watch, self.cycle = fault, watch, 0
        self.sums = np.zeros((self.groups, self.m, self.n), np.int64)
        self.step_all()
        wrapped: np.ndarray = np.vectorize(wrap)(self.sums)
        return wrapped

    @abstractmethod
    def step_all(self) -> None: ...

    def written(self, register: str, r: int, c: int, word: Word | None) -> Word | None:
        """Return what a register holds that was just written."""
        f = self.fault
        if word is None or f is None or not f.at(register, r, c) or not f.active(self.cycle):
            return word
        if register in {"pe_input", "pe_weight"}:
            if f.scope == "element":
                if self.watch:
                    f.seen.add(word[0])
                return word
            if f.scope == "single_mac":
                return word
        value = f.strike(word[1])
        return word[0], value

    def fed(self, register: str, word: Word) -> Word:
        """Return a word as it comes out of the buffer."""
        f = self.fault
        if f is None or self.watch or f.scope != "element" or f.register != register:
            return word
        return (word[0], f.strike(word[1])) if word[0] in f.seen else word

    def at_multiplier(self, register: str, r: int, c: int, word: Word) -> Word:
        """Return a word in the latch of the multiplier, which takes it anew in each cycle."""
        f = self.fault
        if f is None or f.scope != "single_mac" or not f.at(register, r, c):
            return word
        return (word[0], f.strike(word[1])) if f.active(self.cycle) else word

    def grid(self) -> list[list[Word | None]]:
        return [[None] * self.columns for _ in range(self.rows)]

    def multiply_all(  # noqa: PLR0917
        self,
        a: list[list[Word | None]],
        w: list[list[Word | None]],
        line: list[list[list[Word | None]]],
        g: int,
        tag: Callable[[Any, Any], Any],
        channel: Callable[[Any], int],
    ) -> list[list[Word | None]]:
        """Push products into the delay lines; return the registers that they come out at."""
        out = self.grid()
        for r in range(self.rows):
            for c in range(self.columns):
                word, weight = a[r][c], w[r][c]
                product = None
                if word is not None and weight is not None:
                    word = self.at_multiplier("pe_input", r, c, word)
                    weight = self.at_multiplier("pe_weight", r, c, weight)
                    value = self.layer.multiply(g, channel(weight[0]), word[1], weight[1])
                    product = (tag(word[0], weight[0]), value)
                line[r][c].append(product)
                out[r][c] = self.written("pe_product", r, c, line[r][c].pop(0))
        return out

    def lines(self) -> list[list[list[Word | None]]]:
        return [[[None] * self.latency for _ in range(self.columns)] for _ in range(self.rows)]


class SlowWeightStationary(SlowArray):
    def step_all(self) -> None:
        order = self.layer.order
        for g in range(self.groups):
            for n0 in range(0, self.n, self.columns):
                for m0 in range(0, self.m, self.stream):
                    for k0 in range(0, self.k, self.rows):
                        self.tile(g, n0, m0, order[k0 : k0 + self.rows])

    def tile(self, g: int, n0: int, m0: int, taps: list[int]) -> None:  # noqa: C901, PLR0912
        rows, columns = self.rows, self.columns
        channels = list(range(n0, min(n0 + columns, self.n)))
        outputs = list(range(m0, min(m0 + self.stream, self.m)))
        a, w, line = self.grid(), self.grid(), self.lines()
        p, s = self.grid(), self.grid()
        place = (g, n0, m0, taps[0])
        for t in range(2 * rows + columns + self.stream + self.latency - 1):
            new_s = self.grid()
            for c, n in enumerate(channels):
                for r in range(rows):
                    above = s[r - 1][c] if r else None
                    own = p[r][c]
                    if r < len(taps):
                        assert r == 0 or (above is None) == (own is None)
                        if own is not None:
                            assert r == 0 or (above is not None and above[0] == own[0])
                            total = own[1] + (above[1] if above else 0)
                            new_s[r][c] = (own[0], wrap(total))
                    else:
                        assert own is None
                        new_s[r][c] = above
                    new_s[r][c] = self.written("pe_sum", r, c, new_s[r][c])
                out = new_s[rows - 1][c]
                if out is not None:
                    self.sums[g, out[0], n] += out[1]
            s = new_s
            new_a = self.grid()
            for r in range(len(taps)):
                for c in range(len(channels)):
                    if c:
                        new_a[r][c] = a[r][c - 1]
                    elif 0 <= t - rows - r < len(outputs):
                        m = outputs[t - rows - r]
                        word = int(self.layer.words[g, m, taps[r]])
                        new_a[r][0] = self.fed("pe_input", ((place, m, taps[r]), word))
                    new_a[r][c] = self.written("pe_input", r, c, new_a[r][c])
            a = new_a
            if t == rows - 1:
                for r, k in enumerate(taps):
                    for c, n in enumerate(channels):
                        weight = ((place, k, n), int(self.layer.weights[g, k, n]))
                        w[r][c] = self.written("pe_weight", r, c, self.fed("pe_weight", weight))
            elif self.fault is not None and self.fault.register == "pe_weight":
                f = self.fault
                held = w[f.row][f.column]
                if held is not None:
                    if f.scope == "element" and self.watch and f.active(self.cycle):
                        still = t <= rows + f.row + f.column + len(outputs) - 1
                        if still:
                            f.seen.add(held[0])
                    elif f.scope == "pe_row" and f.starts(self.cycle):
                        w[f.row][f.column] = (held[0], f.strike(held[1]))
            p = self.multiply_all(a, w, line, g, lambda x, _: x[1], lambda tag: int(tag[2]))
            self.cycle += 1
        assert all(word is None for row in a for word in row)


class SlowOutputStationary(SlowArray):
    def step_all(self) -> None:
        for g in range(self.groups):
            for m0 in range(0, self.m, self.rows):
                for n0 in range(0, self.n, self.columns):
                    self.tile(g, m0, n0)

    def tile(self, g: int, m0: int, n0: int) -> None:  # noqa: C901, PLR0912
        outputs = list(range(m0, min(m0 + self.rows, self.m)))
        channels = list(range(n0, min(n0 + self.columns, self.n)))
        order = self.layer.order
        a, w, line, p = self.grid(), self.grid(), self.lines(), self.grid()
        s = self.grid()
        cycles = self.k + 2 * self.rows + self.columns + self.latency - 1
        for t in range(cycles):
            if t == cycles - 1:
                for r, m in enumerate(outputs):
                    for c, n in enumerate(channels):
                        out = s[r][c]
                        assert out is not None
                        assert out[0] == order[-1]
                        self.sums[g, m, n] = out[1]
            for r in range(len(outputs)):
                for c in range(len(channels)):
                    own = p[r][c]
                    if own is not None:
                        before = s[r][c]
                        total = own[1] + (before[1] if own[0] != order[0] and before else 0)
                        s[r][c] = self.written("pe_sum", r, c, (own[0], wrap(total)))
                    elif self.fault is not None and self.fault.at("pe_sum", r, c):
                        before = s[r][c]
                        if before is not None and self.fault.starts(self.cycle):
                            s[r][c] = (before[0], self.fault.strike(before[1]))
            new_a, new_w = self.grid(), self.grid()
            for r, m in enumerate(outputs):
                for c, n in enumerate(channels):
                    if c:
                        new_a[r][c] = a[r][c - 1]
                    elif 0 <= t - r < self.k:
                        k = order[t - r]
                        word = ((m0, n0, g, k, m), int(self.layer.words[g, m, k]))
                        new_a[r][0] = self.fed("pe_input", word)
                    if r:
                        new_w[r][c] = w[r - 1][c]
                    elif 0 <= t - c < self.k:
                        k = order[t - c]
                        weight = ((m0, n0, g, k, n), int(self.layer.weights[g, k, n]))
                        new_w[0][c] = self.fed("pe_weight", weight)
                    new_a[r][c] = self.written("pe_input", r, c, new_a[r][c])
                    new_w[r][c] = self.written("pe_weight", r, c, new_w[r][c])
            a, w = new_a, new_w

            def same_tap(x: Any, y: Any) -> Any:
                assert x[3] == y[3]
                return x[3]

            p = self.multiply_all(a, w, line, g, same_tap, lambda tag: int(tag[4]))
            self.cycle += 1


class SlowRowStationary(SlowArray):
    def step_all(self) -> None:
        width, kernel = self.layer.map_columns, self.layer.kernel_columns
        map_rows, pairs = self.m // width, self.k // kernel
        for g in range(self.groups):
            for n in range(self.n):
                for y0 in range(0, map_rows, self.columns):
                    for q0 in range(0, pairs, self.rows):
                        self.tile(
                            (g, n),
                            list(range(y0, min(y0 + self.columns, map_rows))),
                            list(range(q0, min(q0 + self.rows, pairs))),
                        )

    def tile(self, of: tuple[int, int], rows: list[int], pairs: list[int]) -> None:  # noqa: C901, PLR0912
        (g, n), layer = of, self.layer
        width, kernel = layer.map_columns, layer.kernel_columns
        p, s, line = self.grid(), self.grid(), self.lines()
        place = (g, n, rows[0], pairs[0])
        # What each element keeps: words by where they come from, weights by their tap.
        inputs: dict[tuple[int, int], dict[Any, int]] = {}
        kept: dict[tuple[int, int], dict[Any, int]] = {}
        for r, q in enumerate(pairs):
            for c, y in enumerate(rows):
                own_inputs, own_weights = {}, {}
                for x in range(width):
                    for j in range(kernel):
                        m, k = y * width + x, q * kernel + j
                        tag = (place, tuple(layer.origin[g, m, k]))
                        word = self.fed("pe_input", (tag, int(layer.words[g, m, k])))
                        own_inputs[tag] = word[1]
                        wtag = (place, k)
                        weight = self.fed("pe_weight", (wtag, int(layer.weights[g, k, n])))
                        own_weights[wtag] = weight[1]
                inputs[r, c], kept[r, c] = own_inputs, own_weights
        struck: set[Any] = set()
        for t in range(width * kernel + self.rows + self.latency):
            new_s = self.grid()
            for c in range(len(rows)):
                for r in range(self.rows):
                    own, before = p[r][c], s[r][c]
                    above = s[r - 1][c] if r else None
                    done = above is not None and above[0][1] == kernel - 1
                    if r < len(pairs):
                        if own is not None:
                            x, j = own[0]
                            total = own[1]
                            if j:
                                assert before is not None
                                assert before[0] == (x, j - 1)
                                total += before[1]
                            if j == kernel - 1 and r:
                                assert above is not None
                                assert above[0] == (x, j)
                                total += above[1]
                            new_s[r][c] = ((x, j), wrap(total))
                    elif done:
                        new_s[r][c] = above
                    new_s[r][c] = self.written("pe_sum", r, c, new_s[r][c])
                out = new_s[self.rows - 1][c]
                if out is not None and out[0][1] == kernel - 1:
                    self.sums[g, rows[c] * width + out[0][0], n] += out[1]
            s = new_s
            a, w = self.grid(), self.grid()
            for r, q in enumerate(pairs):
                for c, y in enumerate(rows):
                    if not 0 <= t - r < width * kernel:
                        continue
                    x, j = divmod(t - r, kernel)
                    m, k = y * width + x, q * kernel + j
                    tag, wtag = (place, tuple(layer.origin[g, m, k])), (place, k)
                    self._use("pe_input", (r, c), tag, inputs[r, c], struck)
                    self._use("pe_weight", (r, c), wtag, kept[r, c], struck)
                    a[r][c] = ((x, j), inputs[r, c][tag])
                    w[r][c] = ((x, j), kept[r, c][wtag])
            p = self.multiply_all(a, w, line, g, lambda v, _: v, lambda _: n)
            self.cycle += 1

    def _use(
        self, register: str, at: tuple[int, int], tag: Any, words: dict[Any, int], struck: set[Any]
    ) -> None:
        """Let a word be used; while the fault strikes, it breaks in the element's memory, once."""
        f = self.fault
        if f is None or not f.at(register, *at) or not f.active(self.cycle):
            return
        if f.scope == "element" and self.watch:
            f.seen.add(tag)
        if f.scope == "pe_row" and tag not in struck:
            struck.add(tag)
            words[tag] = f.strike(words[tag])


SLOW: dict[str, type[SlowArray]] = {
    "weight_stationary": SlowWeightStationary,
    "output_stationary": SlowOutputStationary,
    "row_stationary": SlowRowStationary,
}
