"""A convolution or linear layer of an integer network on the C library's 8-bit products.

Model:  stored words are multiplied as they are: a weight is `code - point`, and what its zero
        point, or one far from the middle of int8, would take it out of int8 by is added for all
        words under the window together. The input's zero point goes into what sums begin with.
        Sums are int32 and wrap; they become words in the same pass, by the same float32
        operations as everywhere. Results equal `accumulate` and `requantize` to the bit.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int32, Int64, Integer
from torch import Tensor
from torch.nn import functional

from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import (
    Int8Convolution,
    Int8Pack,
    Job,
    Place,
    new_tensor,
    pack_channels,
    pad16,
)
from bitproof.kernels.library import library
from bitproof.kernels.map_jobs import StartSums
from bitproof.quant.compiled import requantization
from bitproof.quant.constants import Constants
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.maps import as_kernel, as_maps, from_maps

MOST_JOBS = 64
"""Shapes of words that a layer remembers."""
INT8, INT16, UINT8 = (torch.iinfo(dtype) for dtype in (torch.int8, torch.int16, torch.uint8))


@dataclass(frozen=True, eq=False)
class Int8Layer:
    """What one node multiplies with, laid out for the library."""

    node: Node
    constants: Constants
    kernel: tuple[int, ...]
    geometry: Geometry
    packed: Integer[Tensor, " numbers"]
    start: Int32[Tensor, " padded"]
    shift: Int32[Tensor, " padded"] | None
    pad_word: int
    lanes: int
    """Groups of filters that fill up 16 each."""
    scale: int = 1
    """What sums of products are multiplied by."""

    _jobs: dict[Hashable, tuple[Int8Convolution, torch.Size]] = field(
        default_factory=dict, init=False, repr=False
    )
    """Jobs for words of each shape that came: to describe one takes as long as a small layer."""

    def words(self, codes: Tensor, out: Grid | None) -> Tensor:
        """Return the words of the output, or real logits where `out` is None."""
        return self._run(codes, torch.float32 if out is None else out.dtype, sums=False)

    def totals(self, codes: Tensor) -> Tensor:
        """Return the accumulators, in float32 where that holds them all, else in int32."""
        held = self.constants.dtype == torch.float32
        return self._run(codes, torch.float32 if held else torch.int32, sums=True)

    def inside(
        self, node: Node, constants: Constants, start: Int64[Tensor, " m"], scale: int
    ) -> "Int8Layer":
        """Return the layer whose accumulators are `scale` times those of this one, plus `start`.

        Its output is that of another node, with constants of its own.
        """
        more = fill_up(start, self.lanes)
        shift = None if self.shift is None else _wrapped(self.shift.long() * scale)
        return replace(
            self,
            node=node,
            constants=constants,
            start=_wrapped(self.start.long() * scale + more),
            shift=shift,
            scale=self.scale * scale,
        )

    def _run(self, codes: Tensor, dtype: torch.dtype, *, sums: bool) -> Tensor:
        compiled = library()
        assert compiled is not None
        maps = as_maps(codes, self.node).contiguous(memory_format=torch.channels_last)
        key = codes.shape, codes.dtype, dtype, sums
        if key in self._jobs:
            known, shape = self._jobs[key]
            job, out = known.again(maps, shape, dtype)
        else:
            job, out = self.describe(maps, dtype, sums=sums)
            if len(self._jobs) < MOST_JOBS:
                self._jobs[key] = job.template(), out.shape
        compiled.run(job)
        return from_maps(out, codes, self.node)

    def describe(
        self, maps: Tensor, dtype: torch.dtype, *, sums: bool = False, place: Place = new_tensor
    ) -> tuple[Int8Convolution, Tensor]:
        """Return the job for maps of words, channels last, and its output."""
        filters = self.kernel[0]
        multiplier = torch.ones(()) if sums else self.constants.multipliers[0]
        multiplier = multiplier.reshape(-1).expand(filters)
        how = requantization(self.constants, dtype, fill_up(multiplier, self.lanes))
        return Int8Convolution.describe(
            maps,
            self.packed,
            self.kernel,
            geometry=self.geometry,
            start=self.start,
            shift=self.shift,
            pad_word=self.pad_word,
            how=how,
            dtype=dtype,
            scale=self.scale,
            place=place,
        )


def multiply_words(
    operands: list[Tensor], constants: Constants, grids: tuple[Grid, ...], dtype: torch.dtype
) -> Tensor | None:
    """Return products of matrices of words, (..., i, k) and (..., k, j), as `dtype`, or None.

    Real values and words come with the multiplier; int32 are the accumulators.
    """
    compiled = library()
    left, right = operands
    if compiled is None or not can_multiply(operands, grids):
        return None
    codes = right.transpose(-1, -2).contiguous()
    jobs, product = describe_product(left.contiguous(), codes, constants, grids, dtype=dtype)
    for job in jobs:
        compiled.run(job)
    return product


def can_multiply(operands: list[Tensor], grids: tuple[Grid, ...]) -> bool:
    """Tell whether the library multiplies such matrices of words."""
    left, right = operands
    alike = left.ndim > 1 and left.shape[:-2] == right.shape[:-2]
    return alike and min(left.numel(), right.numel()) > 0 and max(g.bits for g in grids) <= 8


def describe_product(
    left: Integer[Tensor, "*n i k"],
    right: Integer[Tensor, "*n j k"],
    constants: Constants,
    grids: tuple[Grid, ...],
    *,
    dtype: torch.dtype,
    place: Place = new_tensor,
) -> tuple[list[Job], Tensor]:
    """Return the jobs that multiply contiguous matrices, and the product.

    Arguments are as in `multiply_words`, but for the right matrices, which are transposed.
    """
    n, (rows, depth), columns = left.shape[:-2].numel(), left.shape[-2:], right.shape[-2]
    pack, packed, sums = Int8Pack.describe(
        right.reshape(n * columns, depth, 1, 1),
        torch.zeros(n * columns, dtype=torch.int32),
        Geometry(groups=n),
    )
    rest = (0 if grids[1].signed else 128) - constants.zero_points[1]
    point = constants.zero_points[0] + (128 if grids[0].signed else 0)
    start = torch.empty(n * pad16(columns), dtype=torch.int32)
    begin = StartSums.describe(sums, start, n, point=point, rest=depth * rest)
    multiplier = constants.multipliers[0] if dtype != torch.int32 else torch.ones(())
    multiply, out = Int8Convolution.describe(
        left.reshape(n, rows, 1, depth).permute(0, 3, 1, 2),
        packed,
        (columns, depth, 1, 1),
        geometry=Geometry(),
        start=start,
        shift=torch.full_like(start, rest) if rest else None,
        pad_word=0,
        how=requantization(constants, dtype, multiplier.expand(len(start)).contiguous()),
        dtype=dtype,
        by_image=True,
        place=place,
    )
    product = out.permute(0, 2, 3, 1).reshape(*left.shape[:-1], columns)
    return [pack, begin, multiply], product


def prepare_int8(
    node: Node, constants: Constants, weight: CodedTensor | None, grid: Grid
) -> Int8Layer | None:
    """Return the layer of a node that reads words on `grid`, None where the library has none.

    Convolutions along three axes are left to floats, and weights that no shift brings into int8.
    """
    compiled = library()
    if compiled is None or node.op not in {"conv", "linear", "affine"} or grid.bits > 8:
        return None
    found = _codes(constants, weight)
    if found is None or found[0].ndim > 4 or found[0].device.type != "cpu":
        return None
    (codes, geometry), excess = as_kernel(found[0], node), found[1]
    point = constants.zero_points[0] + (128 if grid.signed else 0)
    padded = any(geometry.padding)
    if padded and not 0 <= point <= UINT8.max:
        return None  # no word stands for the zeros around the map
    filters, depth, *taps = codes.shape
    groups, shift = geometry.groups, None
    if depth == 1 and groups == filters:
        middle = 128 if codes.dtype == torch.uint8 else 0
        whole = codes.int() - middle + excess.reshape(-1, 1, 1, 1)
        if int(whole.abs().amax()) > INT16.max:
            return None
        groups, packed, sums = 1, pack_channels(whole), whole.flatten(1).sum(1)
        start = -point * sums
    else:
        low, high = _ends(codes)
        add = torch.minimum(torch.maximum(excess, INT8.min - low), INT8.max - high)
        packed, sums = compiled.int8_pack(codes, add.int(), geometry)
        rest = excess - add
        start = -point * (sums.long() + depth * taps[0] * taps[1] * rest)
        shift = fill_up(_wrapped(rest), groups) if bool(rest.any()) else None
    if constants.bias is not None:
        start = start + constants.bias.long()
    return Int8Layer(
        node,
        constants,
        kernel=tuple(codes.shape),
        geometry=geometry,
        packed=packed,
        start=fill_up(_wrapped(start), groups),
        shift=shift,
        pad_word=point if padded else 0,
        lanes=groups,
    )


def _codes(
    constants: Constants, weight: CodedTensor | None
) -> tuple[Integer[Tensor, "m *shape"], Int64[Tensor, " m"]] | None:
    """Return 8-bit codes, and what each filter's weights are beyond them (uint8 ones less 128)."""
    if weight is not None:
        if weight.grid.bits > 8:
            return None
        middle = 0 if weight.grid.signed else 128
        return weight.codes, (middle - weight.grid.zero_point.long()).reshape(-1).expand(
            len(weight.codes)
        )
    if constants.weight is None:
        return None
    low, high = (end(constants.weight.flatten(1), 1).long() for end in (torch.amin, torch.amax))
    if int((high - low).max()) > UINT8.max:
        return None
    excess = low - INT8.min
    shape = [-1] + [1] * (constants.weight.ndim - 1)
    return (constants.weight - excess.reshape(shape)).to(torch.int8), excess


def _ends(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the largest code of each filter, uint8 ones less 128."""
    flat, middle = codes.flatten(1), 128 if codes.dtype == torch.uint8 else 0
    return flat.amin(1).long() - middle, flat.amax(1).long() - middle


def _wrapped(numbers: Tensor) -> Int32[Tensor, " m"]:
    """Return numbers modulo 2**32, as a register keeps them."""
    return ((numbers + 2**31) % 2**32 - 2**31).int()


def fill_up(by_filter: Tensor, groups: int) -> Tensor:
    """Return numbers of filters with zeros, so that those of each group are a multiple of 16.

    Example:
        >>> fill_up(torch.ones(4), groups=2).shape
        torch.Size([32])
    """
    rows = by_filter.reshape(groups, -1)
    return functional.pad(rows, (0, pad16(rows.shape[1]) - rows.shape[1])).flatten()
