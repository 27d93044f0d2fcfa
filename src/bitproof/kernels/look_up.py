"""Sums of products that are looked up one by one: compiled where that is there, else by torch."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float32, Int32, Int64, UInt8
from torch import Tensor

from bitproof.kernels import gpu_tables
from bitproof.kernels.forms import planes_of, two_planes
from bitproof.kernels.gather import gathered_sums, windows
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import Requantization
from bitproof.kernels.library import library


@dataclass(frozen=True, eq=False)
class LookUp:
    """The weights of a layer, with the table of each filter."""

    weight: UInt8[Tensor, "m d kh kw"]
    """Bit patterns; `d` is the channels of one group."""
    tables: Int32[Tensor, "t 256 256"]
    """What is looked up, by the patterns of word and weight: products, or errors."""
    choice: Int64[Tensor, " m"]
    geometry: Geometry
    """Its padding is not looked at: words come padded."""
    signed: bool
    """Whether patterns stand for int8."""
    plus_exact: bool
    """Whether `tables` holds errors, which somebody adds to exact products."""
    start: Int64[Tensor, " m"]
    """Added to the sums of each filter."""
    weight_points: Int32[Tensor, " m"] | None
    """What the sum of words under the window is multiplied by and taken off; None for nothing."""
    planes: UInt8[Tensor, "t 256 p 256"] | None
    """The tables for the compiled kernel; None where it is not there or cannot hold them."""
    compiled_start: Int32[Tensor, " m"]
    """`start` with what planes leave out."""
    rows: gpu_tables.Rows | None = None
    """The tables for the GPU's kernel; None where that is not there."""

    @classmethod
    def of(
        cls,
        weight: UInt8[Tensor, "m d kh kw"],
        tables: Int32[Tensor, "t 256 256"],
        choice: Int64[Tensor, " m"],
        *,
        geometry: Geometry,
        signed: bool,
        errors: bool,
    ) -> "LookUp":
        """Return the look-up without anything that is added.

        Args:
            weight: bit patterns.
            tables: products, by the patterns of word and weight.
            choice: the table of each filter.
            geometry: how filters move.
            signed: whether patterns stand for int8.
            errors: look up what a single table has beyond exact products, if that is one plane.
        """
        forms = (
            [planes_of(tables[0], signed=signed)]
            if errors
            else [two_planes(table) for table in tables]
        )
        zeros = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)
        known = [form for form in forms if form is not None]
        plus_exact = bool(known) and known[0].plus_exact
        planes, begin = None, zeros
        if library() is not None and weight.device.type == "cpu" and len(known) == len(forms):
            planes = torch.stack([form.stacked for form in known])
            starts = torch.stack([form.start for form in known]).long()
            begin = starts[choice[:, None], weight.flatten(1).long()].sum(1)
        if plus_exact:
            values = torch.arange(256, dtype=torch.int32, device=tables.device)
            values = values.to(torch.int8).int() if signed else values
            tables = tables - values.outer(values)
        return cls(
            weight.contiguous(),
            tables,
            choice,
            geometry,
            signed,
            plus_exact,
            zeros,
            None,
            planes,
            begin.to(torch.int32),
            gpu_tables.Rows.of(weight.contiguous(), tables, choice, geometry=geometry)
            if weight.is_cuda and gpu_tables.available(weight.device)
            else None,
        )

    def adding(
        self, start: Int64[Tensor, " m"], weight_points: Int32[Tensor, " m"] | None = None
    ) -> "LookUp":
        """Return the look-up with `start` added, and the sum of words times points taken off."""
        points = weight_points if weight_points is not None and weight_points.any() else None
        left_out = self.compiled_start.long() - self.start
        return replace(
            self,
            start=start,
            weight_points=points,
            compiled_start=(start + left_out).to(torch.int32),
        )

    def sums(self, words: UInt8[Tensor, "n c h w"]) -> Int32[Tensor, "n m y x"]:
        """Return the sums for maps of bit patterns, padded already; they wrap."""
        if self.is_compiled:
            return self._compiled(words, None, None)
        if self.rows is not None:
            sums = self.rows.sums(words, self.start)
        else:
            sums = gathered_sums(
                words, self.weight, self.tables, self.choice, geometry=self.geometry
            )
            sums = sums + self.start.to(torch.int32).reshape(-1, 1, 1)
        if self.weight_points is None:
            return sums
        groups = self.geometry.groups
        under = windows(words, self.weight.shape[2:], self.geometry)
        values = under.view(torch.int8).int() if self.signed else under.int()
        total = _grouped(values, groups).sum(2, dtype=torch.int32)
        total = total.repeat_interleave(len(self.weight) // groups, 1)
        return sums - total * self.weight_points.reshape(-1, 1, 1)

    @property
    def is_compiled(self) -> bool:
        """Whether `words` finds words."""
        return self.planes is not None and library() is not None

    def words(
        self,
        words: UInt8[Tensor, "n c h w"],
        how: Requantization,
        *,
        addend: Float32[Tensor, "n m y x"] | None = None,
    ) -> Tensor | None:
        """Return the sums as output words, or None where that is not compiled.

        Args:
            words: maps of bit patterns, padded already.
            how: how sums become words.
            addend: whole numbers that the sums begin with.
        """
        return self._compiled(words, how, addend) if self.is_compiled else None

    def _compiled(self, words: Tensor, how: Requantization | None, addend: Tensor | None) -> Tensor:
        compiled = library()
        assert compiled is not None
        assert self.planes is not None
        return compiled.table_sums(
            words,
            self.weight,
            self.planes,
            self.choice.int(),
            geometry=self.geometry,
            start=self.compiled_start,
            weight_zero=self.weight_points,
            signed_words=self.signed,
            addend=addend,
            how=how,
        )


def _grouped(maps: Tensor, groups: int) -> Tensor:
    """Return maps with an axis for the groups of channels."""
    return maps.reshape(len(maps), groups, -1, *maps.shape[2:])
