"""A layer whose products come from tables, prepared for the fastest exact way to sum them.

Model:  filters that share a table are a part. A part with a short exact form is a convolution of
        remapped words by remapped weights on 8-bit dot products, with a set of channels for each
        term; one with small errors is the exact convolution and a look-up of errors; elsewhere
        products are looked up. All ways give the same int32 sums, which wrap as a register does.
Source: `kernels.forms` for the forms; `products` for what the multiplier sees.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int32, Int64, Integer, UInt8
from torch import Tensor
from torch.nn import functional

from bitproof.core.errors import QuantizationError
from bitproof.kernels.forms import Route, Terms, choose_route, planes_of, terms_of
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import Requantization
from bitproof.kernels.library import library
from bitproof.kernels.look_up import LookUp
from bitproof.quant.accumulators import Accumulator, ExactAccumulator, exact_convolution
from bitproof.quant.arithmetic import requantize_
from bitproof.quant.compiled import BYTES, requantization
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.maps import as_kernel, as_maps, from_maps
from bitproof.quant.operations import MAC_OPS
from bitproof.quant.product_parts import (
    ALL,
    Filters,
    LookedUp,
    Operand,
    Part,
    Remapped,
    RemappedLayer,
    dense,
)
from bitproof.quant.products import OperandEncoding, Products

MOST_PARTS = 6
"""Tables in one layer up to which each takes its own way; more are looked up together."""


@dataclass(frozen=True, eq=False)
class ProductLayer(Accumulator):
    """One convolution, linear layer or scaling of channels through product tables."""

    products: Products
    weight: CodedTensor

    def run(self, operands: list[Tensor], out: Grid | None) -> Tensor:
        """Return the words of the output, or real logits where `out` is None."""
        maps = as_maps(operands[0], self.node)
        on_cpu = maps.device.type == "cpu"
        if on_cpu and maps.numel() and library() is not None and self.fused is not None:
            dtype = torch.float32 if out is None else out.dtype
            found = self._run_fused(self.fused, maps, dtype)
            return from_maps(found, operands[0], self.node)
        if out is not None and out.dtype in BYTES and on_cpu and library() is not None:
            how = requantization(self.constants, out.dtype, self.constants.multipliers[0])
            values = self._words(maps, how)
        else:
            values = self._totals(maps).float() * self.constants.multipliers[0].reshape(-1, 1, 1)
            if out is not None:
                values = requantize_(values, self.constants).to(out.dtype)
        return from_maps(values, operands[0], self.node)

    def sums(self, operands: list[Tensor]) -> Tensor:
        """Return the accumulators, rounded to float32."""
        totals = self._totals(as_maps(operands[0], self.node))
        return from_maps(totals.float(), operands[0], self.node)

    def totals(self, codes: Tensor) -> Tensor:
        """Return the accumulators: in float32 where that holds them all, else in int32."""
        return from_maps(self._totals(as_maps(codes, self.node)), codes, self.node)

    @cached_property
    def parts(self) -> list[Part]:
        """Filters that share a way of being computed, with that way."""
        used = sorted(set(self.products.choice.tolist()))
        together = len(used) == 1 or len(used) > MOST_PARTS or self._kernel[1].groups > 1
        # One look-up serves all tables at once; apart, each must have a short form to pay off.
        if together or not all(self._route(table) == "terms" for table in used):
            return [self._part(ALL, used)]
        choice = self.products.choice
        return [self._part((choice == table).nonzero()[:, 0], [table]) for table in used]

    @cached_property
    def fused(self) -> RemappedLayer | None:
        """What makes output words in passes of the library; None where there is no such way."""
        alone = self.parts[0]
        if len(self.parts) > 1 or not isinstance(alone, Remapped):
            return None
        return alone.as_words(self.node, self.constants)

    def _run_fused(
        self, fused: RemappedLayer, maps: Integer[Tensor, "n c h w"], dtype: torch.dtype
    ) -> Tensor:
        compiled, tables = library(), fused.tables
        assert compiled is not None
        words = dense(functional.pad(maps.view(torch.uint8), fused.padding, value=fused.pad_word))
        one = len(tables) == 1
        read = compiled.remap(words, tables[0]) if one else compiled.remap_terms(words, tables)
        job, out = fused.layer.describe(read.contiguous(memory_format=torch.channels_last), dtype)
        compiled.run(job)
        return out

    @cached_property
    def base(self) -> ExactAccumulator:
        """The same layer with exact products, bias included."""
        weight = self.constants.weight
        assert weight is not None
        kernel, geometry = as_kernel(weight, self.node)
        return exact_convolution(kernel, self.constants.bias, geometry, self.grids[0])

    @cached_property
    def _encodings(self) -> list[OperandEncoding]:
        """How activation and weight reach the multiplier."""
        grids = self.grids[0], self.weight.grid
        return [OperandEncoding.of(grid, signed=self.products.signed) for grid in grids]

    @cached_property
    def _kernel(self) -> tuple[UInt8[Tensor, "m d kh kw"], Geometry]:
        """Patterns of the weights at the multiplier, and how they move."""
        return as_kernel(self._encodings[1].patterns(self.weight.codes), self.node)

    @cached_property
    def _weight_points(self) -> Int32[Tensor, " m"]:
        point = self._encodings[1].point(self.weight.grid.zero_point)
        return point.reshape(-1).expand(len(self._kernel[0])).contiguous()

    @cached_property
    def _point(self) -> int:
        """The zero point of the input, as the multiplier sees it."""
        return self.constants.zero_points[0] + self._encodings[0].shift

    def _totals(self, maps: Integer[Tensor, "n c h w"]) -> Tensor:
        """Return exact accumulators: in float32 where that holds them all, else in int32."""
        if len(self.parts) == 1:
            return self.parts[0].totals(maps)
        result: Tensor | None = None
        for part in self.parts:
            own = part.totals(maps)
            if result is None:
                shape = (len(own), len(self._kernel[0]), *own.shape[2:])
                result = torch.empty(shape, dtype=torch.int32, device=own.device)
            result[:, part.filters] = own.to(torch.int32)
        assert result is not None
        return result

    def _words(self, maps: Integer[Tensor, "n c h w"], how: Requantization) -> Tensor:
        """Return output words in as few passes as the compiled library can do it."""
        compiled, alone = library(), self.parts[0] if len(self.parts) == 1 else None
        assert compiled is not None
        found = alone.codes(maps, how) if isinstance(alone, LookedUp) else None
        if found is not None:
            return found
        if isinstance(alone, Remapped) and (raw := alone.raw_sums(maps)) is not None:
            start, scale = alone.start.float(), float(alone.scale)
            return compiled.requantize(dense(raw), how, scale=scale, start=start)
        return compiled.requantize(dense(self._totals(maps).float()), how)

    def _part(self, filters: Filters, tables: list[int]) -> Part:
        """Return the fastest way for filters that share tables."""
        (weight, geometry), signed = self._kernel, self.products.signed
        index = torch.tensor(tables, device=weight.device)
        entries, single = self.products.tables[index], len(tables) == 1
        way: LookUp | Terms | None = None
        if single and self._route(tables[0]) == "terms":
            way = terms_of(entries[0], signed=signed)
        if way is None:
            choice = torch.searchsorted(index, self.products.choice[filters])
            way = LookUp.of(
                weight[filters], entries, choice, geometry=geometry, signed=signed, errors=single
            )
        base = self.base if way.plus_exact else None
        points = self._weight_points[filters]
        start = self._start(filters, plus_exact=way.plus_exact)
        if isinstance(way, LookUp):
            added = way.adding(start, points if base is None else None)
            return LookedUp(filters, self._operand, base, added)
        return Remapped.of(
            way,
            weight[filters],
            self._operand,
            start=start,
            weight_points=points,
            filters=filters,
            base=base,
        )

    def _route(self, table: int) -> Route:
        """Return the fastest way to sum the products of a table."""
        entries, signed = self.products.tables[table], self.products.signed
        on_cpu = entries.device.type == "cpu"
        compiled = library() if on_cpu else None
        return choose_route(
            terms_of(entries, signed=signed),
            planes_of(entries, signed=signed),
            depth=self._kernel[0].shape[1],
            level=compiled.level if compiled else None,
            dots=compiled is not None and compiled.level == "vbmi",
        )

    @cached_property
    def _operand(self) -> Operand:
        geometry, point = self._kernel[1], self.constants.zero_points[0]
        if any(geometry.padding) and not self.grids[0].low <= point <= self.grids[0].high:
            raise QuantizationError(
                f"{self.node.name}: no word stands for 0 in the padding: wanted a zero point "
                f"from {self.grids[0].low} to {self.grids[0].high}, got {point}"
            )
        return Operand(self._encodings[0], self._point, geometry)

    def _start(self, filters: Filters, *, plus_exact: bool) -> Int64[Tensor, " f"]:
        """Return what is added to the sums of products, beside the sums of words."""
        start = self.products.offset.long()
        if not plus_exact:  # the exact layer has all of this already
            weight = self._kernel[0]
            values = self._encodings[1].values(weight.contiguous()).flatten(1).long()
            start = start - self._point * values.sum(1)
            start = start + self._point * values.shape[1] * self._weight_points.long()
            if self.constants.bias is not None:
                start = start + self.constants.bias.long()
        return start[filters]


@dataclass(frozen=True, eq=False)
class ProductMatmul(Accumulator):
    """A product of two activations through one table, with one offset for all.

    With words a and b, zero points A and B: sum (a - A)(b - B) becomes
    sum T[a, b] - A sum b - B sum a + k A B. Each matrix of a batch is a layer of its own, with
    filters of one pixel.
    """

    products: Products

    def sums(self, operands: list[Tensor]) -> Tensor:
        """Return the accumulators, rounded to float32."""
        tables, signed = self.products.tables, self.products.signed
        encodings = [OperandEncoding.of(grid, signed=signed) for grid in self.grids]
        points = [
            int(own.point(grid.zero_point)) for own, grid in zip(encodings, self.grids, strict=True)
        ]
        batch = torch.broadcast_shapes(*(codes.shape[:-2] for codes in operands))  # type: ignore[no-untyped-call]
        left, right = (
            own.patterns(codes).expand(*batch, *codes.shape[-2:]).reshape(-1, *codes.shape[-2:])
            for own, codes in zip(encodings, operands, strict=True)
        )
        rows, taps, columns = *left.shape[1:], right.shape[2]
        offset = int(self.products.offset[0]) + taps * points[0] * points[1]
        choice = torch.zeros(columns, dtype=torch.int64, device=right.device)
        point = torch.full((columns,), points[1], dtype=torch.int32, device=right.device)
        results = []
        for first, second in zip(left, right, strict=True):
            weight = second.T[:, :, None, None]
            look_up = LookUp.of(
                weight, tables, choice, geometry=Geometry(), signed=signed, errors=False
            )
            start = offset - points[0] * encodings[1].values(second.contiguous()).sum(0)
            sums = look_up.adding(start.long(), point).sums(first.T[None, :, None])
            results.append(sums[0, :, 0].T)
        return torch.stack(results).reshape(*batch, rows, columns).float()


def check_products(node: Node, products: Products, weight: CodedTensor | None) -> None:
    """Check that a node can take its products from tables.

    Raises:
        QuantizationError: it multiplies nothing, moves over three axes, or has other filters.
    """
    if node.op not in MAC_OPS:
        raise QuantizationError(f"{node.name}: wanted a node that multiplies, got '{node.op}'")
    filters = 1 if weight is None else len(weight.codes)
    if weight is not None and weight.codes.ndim > 4:
        raise QuantizationError(f"{node.name}: products of convolutions over 3 axes have no kernel")
    if len(products.choice) != filters or len(products.offset) != filters:
        raise QuantizationError(
            f"{node.name}: wanted the table of each of {filters} filters, "
            f"got {len(products.choice)}"
        )
