"""Sums of products that are looked up one by one: compiled where that is there, else by torch."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float32, Int32, Int64, UInt8
from torch import Tensor

from bitproof.kernels import gpu_tables
from bitproof.kernels.forms import exact_products, planes_of
from bitproof.kernels.gather import gathered_sums, windows
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import Convolution, Requantization
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
    """For the compiled kernel; None where it is not there or cannot hold the tables."""
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

        `errors`: look up what a single table has beyond exact products, if that is one plane.
        """
        fewest: Literal[1, 2] = 1 if errors else 2
        forms = [planes_of(table, signed=signed, fewest=fewest) for table in tables]
        zeros = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)
        known = [form for form in forms if form is not None]
        plus_exact = bool(known) and known[0].plus_exact
        planes, begin = None, zeros
        if library() is not None and weight.device.type == "cpu" and len(known) == len(forms):
            planes = torch.stack([form.stacked for form in known])
            starts = torch.stack([form.start for form in known]).long()
            begin = starts[choice[:, None], weight.flatten(1).long()].sum(1)
        if plus_exact:
            tables = tables - exact_products(signed=signed).to(tables.device)
        weight, rows = weight.contiguous(), None
        if weight.is_cuda and gpu_tables.available(weight.device):
            rows = gpu_tables.Rows.of(weight, tables, choice, geometry=geometry)
        kept = (weight, tables, choice, geometry, signed, plus_exact)
        return cls(*kept, zeros, None, planes, begin.to(torch.int32), rows)

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
            return self.words(words, None)
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
        grouped = values.reshape(len(values), groups, -1, *values.shape[2:])
        total = grouped.sum(2, dtype=torch.int32)
        total = total.repeat_interleave(len(self.weight) // groups, 1)
        return sums - total * self.weight_points.reshape(-1, 1, 1)

    @property
    def is_compiled(self) -> bool:
        """Whether the C library is there and can hold the tables; `words` needs it."""
        return self.planes is not None and library() is not None

    def words(
        self,
        words: UInt8[Tensor, "n c h w"],
        how: Requantization | None,
        *,
        addend: Float32[Tensor, "n m y x"] | None = None,
    ) -> Tensor:
        """Return the sums as output words, or as they are where `how` is None.

        `words` are padded already; `addend` holds whole numbers that the sums begin with.
        """
        compiled = library()
        assert compiled is not None
        assert self.planes is not None
        job, out = Convolution.describe(
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
        return compiled.convolve(job, out)
