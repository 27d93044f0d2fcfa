"""The ways to sum table products in a layer: terms of remapped words, and look-ups.

Every `totals` takes stored words as maps and returns accumulators exactly, with everything that is
added to the products: in float32 where that holds them all, else in int32, which wraps.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float32, Int32, Int64, Integer, UInt8
from torch import Tensor
from torch.nn import functional

from bitproof.kernels.exact_floats import fits_float32
from bitproof.kernels.forms import Terms
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import Requantization
from bitproof.kernels.library import library
from bitproof.kernels.look_up import LookUp
from bitproof.quant.accumulators import ExactAccumulator, exact_convolution
from bitproof.quant.constants import Constants
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.int8_layer import Int8Layer
from bitproof.quant.maps import sum_windows
from bitproof.quant.products import WORDS, OperandEncoding

Filters = Int64[Tensor, " f"] | slice
"""Some filters of a layer, as an index."""
ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Operand:
    """The words that go into a layer, as its multipliers see them."""

    encoding: OperandEncoding
    point: int
    """Their zero point there."""
    geometry: Geometry

    def padded(self, maps: Integer[Tensor, "n c h w"]) -> UInt8[Tensor, "n c rows columns"]:
        """Return bit patterns with the padding around them: words that stand for 0."""
        (down, across), patterns = self.geometry.padding, self.encoding.patterns(maps)
        if not down and not across:
            return patterns
        return functional.pad(patterns, [across, across, down, down], value=self.point % WORDS)

    def window_sums(self, maps: Tensor, size: torch.Size, filters: int) -> Tensor:
        """Return the sum of centered words under each filter's window, as int32."""
        groups = self.geometry.groups
        values = self.encoding.values(self.encoding.patterns(maps).contiguous()) - self.point
        grouped = values.reshape(len(values), groups, -1, *values.shape[2:])
        sums = sum_windows(grouped.sum(2, dtype=torch.int32), size, self.geometry)
        return sums.repeat_interleave(filters // groups, 1) if groups > 1 else sums


@dataclass(frozen=True, eq=False)
class Part(ABC):
    """Filters of a layer that are computed in one way."""

    filters: Filters
    operand: Operand
    base: ExactAccumulator | None
    """The exact products that the rest is added to; None: the rest is all."""

    @abstractmethod
    def totals(self, maps: Integer[Tensor, "n c h w"]) -> Tensor:
        """Return the accumulators of these filters."""

    def _plus_base(self, sums: Tensor, maps: Integer[Tensor, "n c h w"]) -> Tensor:
        if self.base is None:
            return sums
        return sums + self.base.totals(maps).to(torch.int32)[:, self.filters]


@dataclass(frozen=True, eq=False)
class RemappedLayer:
    """Words through tables, and a layer that multiplies what these give."""

    tables: UInt8[Tensor, "r 256"]
    """What each term puts in the place of a stored word, by its bit pattern."""
    layer: Int8Layer
    """Reads what the first table gives for all channels, then the next."""
    padding: tuple[int, int, int, int]
    """Of the words, before they go through the tables, as torch's `pad` takes it."""
    pad_word: int
    """Bit pattern of the words around."""


@dataclass(frozen=True, eq=False)
class Remapped(Part):
    """Products as a sum of terms, each a function of the word times one of the weight."""

    maps_to: UInt8[Tensor, "r 256"]
    """What each term puts in the place of a word."""
    convolution: ExactAccumulator | None
    """Sums all terms; None where there are none."""
    scale: int
    start: Int64[Tensor, " f"]
    under_window: Int32[Tensor, " f"] | None
    """What the sum of centered words is multiplied by and taken off; None for nothing."""
    size: torch.Size
    """Of the kernel."""
    pads: bool
    """Whether words are padded before they are remapped."""
    largest: float
    """Bound on the size of sums of products, with everything that is added to them."""

    @classmethod
    def of(
        cls,
        terms: Terms,
        weight: UInt8[Tensor, "f d kh kw"],
        operand: Operand,
        *,
        start: Int64[Tensor, " f"],
        weight_points: Int32[Tensor, " f"],
        filters: Filters,
        base: ExactAccumulator | None,
    ) -> "Remapped":
        """Return the part that multiplies `weight`, patterns, by way of `terms`."""
        device, geometry = weight.device, operand.geometry
        highest = terms.table(signed=operand.encoding.signed).long().abs().amax(0).to(device)
        largest = highest[weight.long()].flatten(1).sum(1) + start.abs()
        first, second = terms.first.to(device).long(), terms.second.to(device)
        if base is None and (not len(first) or bool(weight_points.any())):
            under_window = weight_points
            count = weight[0].numel()
            start = start - operand.point * count * weight_points.long()
        else:
            under_window = None
        convolution, remap, pads = None, first.to(torch.uint8), False
        if len(first):
            rest = first[:, operand.point % WORDS]
            away = first - rest[:, None]
            zero = -int(away.min())
            pads = int(away.max()) + zero >= WORDS  # no zero point serves all terms
            if pads:
                rest, zero = first.amin(1), 0
                away = first - rest[:, None]
            remap = (away + zero).to(torch.uint8)
            factors = second[:, weight.long()]  # r f d kh kw
            start = start + terms.scale * (rest[:, None] * factors.flatten(2).sum(2)).sum(0)
            kernel = factors.movedim(0, 1).flatten(1, 2).float()
            own = Geometry(geometry.stride, (0, 0), geometry.dilation, geometry.groups)
            point = torch.tensor(zero, dtype=torch.int32)
            grid = Grid(torch.tensor(1.0), point, 8, signed=False)
            convolution = exact_convolution(kernel, None, own if pads else geometry, grid)
        return cls(
            filters,
            operand,
            base,
            remap,
            convolution,
            terms.scale,
            start,
            under_window,
            weight.shape[2:],
            pads,
            float(largest.max()),
        )

    def totals(self, maps: Integer[Tensor, "n c h w"]) -> Tensor:
        """Return the accumulators of these filters."""
        if (terms := self.raw_sums(maps)) is not None:
            if self.scale != 1:
                terms.mul_(self.scale)
            return terms.add_(self.start.float().reshape(-1, 1, 1)) if self.start.any() else terms
        total = self.start.to(torch.int32).reshape(-1, 1, 1)
        if self.convolution is not None:
            terms = self.convolution.totals(self._remapped(maps))
            total = total + terms.to(torch.int32) * self.scale
        if self.under_window is not None:
            sums = self.operand.window_sums(maps, self.size, len(self.start))
            total = total - sums * self.under_window.reshape(-1, 1, 1)
        return self._plus_base(total, maps)

    def raw_sums(self, maps: Integer[Tensor, "n c h w"]) -> Float32[Tensor, "n f y x"] | None:
        """Return `(accumulators - start) / scale`, or None where float32 does not hold these."""
        if self.base is not None or self.under_window is not None or not self._fits_float32:
            return None
        assert self.convolution is not None
        return self.convolution.totals(self._remapped(maps))

    def as_words(self, node: Node, constants: Constants) -> RemappedLayer | None:
        """Return what makes a node's output words in passes of the library, or None.

        Only where the library has such a layer, and float32 holds all accumulators.
        """
        alone = self.base is None and self.under_window is None and isinstance(self.filters, slice)
        if not alone or not self._fits_float32:
            return None
        assert self.convolution is not None
        layer, geometry = self.convolution.usable_layer, self.operand.geometry
        if layer is None or (len(self.maps_to) > 1 and geometry.groups > 1):
            return None
        patterns = self.operand.encoding.patterns(torch.arange(WORDS, dtype=torch.uint8)).int()
        edges = geometry.padding if self.pads else (0, 0)
        return RemappedLayer(
            self.maps_to[:, patterns],
            layer.inside(node, constants, self.start, self.scale),
            padding=(edges[1], edges[1], edges[0], edges[0]),
            pad_word=constants.zero_points[0] % WORDS,
        )

    @cached_property
    def _fits_float32(self) -> bool:
        """Whether float32 holds every accumulator, and what it is put together from."""
        if self.convolution is None or self.convolution.constants.dtype != torch.float32:
            return False
        power_of_two = abs(self.scale).bit_count() == 1  # exact in float32 at any size
        fits = fits_float32(max(self.largest, float(self.start.abs().max())))
        return fits and (power_of_two or fits_float32(self.convolution.largest * abs(self.scale)))

    def _remapped(self, maps: Integer[Tensor, "n c h w"]) -> UInt8[Tensor, "n rc rows columns"]:
        """Return the words that the convolution reads: for each group, term after term."""
        operand, compiled = self.operand, library()
        patterns = operand.padded(maps) if self.pads else operand.encoding.patterns(maps)
        groups = operand.geometry.groups
        if len(self.maps_to) == 1:
            return remap(patterns, self.maps_to[0])
        if compiled is not None and patterns.device.type == "cpu" and groups == 1:
            return compiled.remap_terms(dense(patterns), self.maps_to)
        terms = [remap(patterns, table) for table in self.maps_to]
        if groups == 1:
            return torch.cat(terms, 1)
        split = [term.reshape(len(term), groups, -1, *term.shape[2:]) for term in terms]
        return torch.stack(split, 2).flatten(1, 3)


def remap(codes: UInt8[Tensor, "*shape"], table: UInt8[Tensor, "256"]) -> UInt8[Tensor, "*shape"]:
    """Return what a table holds for each word, laid out in memory as `codes` are."""
    compiled = library() if codes.device.type == "cpu" else None
    if compiled is None:
        return table[codes.int()]
    if codes.ndim == 4 and codes.is_contiguous(memory_format=torch.channels_last):
        return compiled.remap(codes.permute(0, 2, 3, 1), table).permute(0, 3, 1, 2)
    return compiled.remap(codes.contiguous(), table)


@dataclass(frozen=True, eq=False)
class LookedUp(Part):
    """Products that are looked up one by one, or their errors, beside exact products."""

    look_up: LookUp

    def totals(self, maps: Integer[Tensor, "n c h w"]) -> Tensor:
        """Return the accumulators of these filters."""
        return self._plus_base(self.look_up.sums(self.operand.padded(maps)), maps)

    def codes(self, maps: Integer[Tensor, "n c h w"], how: Requantization) -> Tensor | None:
        """Return output words of all filters, or None where no compiled kernel does that."""
        if not self.look_up.is_compiled:
            return None
        if self.base is None:
            return self.look_up.words(self.operand.padded(maps), how)
        if self.base.constants.dtype != torch.float32:
            return None
        exact = self.base.totals(maps)
        return self.look_up.words(self.operand.padded(maps), how, addend=dense(exact))


def dense(maps: Tensor) -> Tensor:
    """Return maps without gaps in memory, channels first or last."""
    last = maps.is_contiguous(memory_format=torch.channels_last)
    return maps if last else maps.contiguous()
