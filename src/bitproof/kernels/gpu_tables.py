"""Sums of table products on a GPU: one Triton kernel, from padded words to int32 sums.

Model:  a program is one warp; it sums 128 pixels for up to 8 filters. At each tap of the window it
        reads a word for each pixel, wherever the image has it (no unfolded copy is made), and the
        entry of each pair of word and weight. The 256 entries of one weight lie side by side, and
        lanes are pixels: a read falls on one row of 256 to 1,024 bytes. Tables stay in global
        memory, where the caches hold them. Integer sums wrap, in any order alike.
"""

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from math import prod
from typing import Any, no_type_check

import torch
from jaxtyping import Int32, Int64, Integer, UInt8
from torch import Tensor

from bitproof.kernels.forms import WORDS
from bitproof.kernels.geometry import Geometry

PIXELS = 128
MOST_FILTERS = 8
"""Of one program; fewer where a group has fewer. With 128 pixels, each lane keeps 32 sums."""
ADDRESSES = 1 << 31
"""Positions inside one image and inside all tables, and numbers of pixels, are int32."""

tl: Any = None  # Triton's language, once the kernel is used: nothing else here needs Triton.


def available(device: torch.device) -> bool:
    """Tell whether Triton is there and compiles for `device`, or interprets on the CPU.

    Example:
        >>> available(torch.device("meta"))
        False
    """
    interpreted = os.environ.get("TRITON_INTERPRET", "").lower() in {"1", "true", "on", "yes", "y"}
    runs = device.type == "cuda" or (device.type == "cpu" and interpreted)
    return runs and find_spec("triton") is not None


@dataclass(frozen=True, eq=False)
class Rows:
    """A layer's weights as rows of entries, prepared for the kernel."""

    entries: Integer[Tensor, "r 256"]
    """By word; a row for each table and weight, in the narrowest type that holds them all."""
    named: Int32[Tensor, "k m"]
    """Where in `entries` the row of each weight begins."""
    begin: Int64[Tensor, " m"]
    """What entries leave out, summed over the weights of each filter."""
    size: torch.Size
    """Of the kernel."""
    geometry: Geometry

    @classmethod
    def of(
        cls,
        weight: UInt8[Tensor, "m d kh kw"],
        tables: Int32[Tensor, "t 256 256"],
        choice: Int64[Tensor, " m"],
        *,
        geometry: Geometry,
    ) -> "Rows":
        """Return the rows of `weight`, for the tables that its filters choose."""
        assert tables.numel() < ADDRESSES, tables.shape
        assert len(weight) % geometry.groups == 0, (weight.shape, geometry)
        entries = tables.transpose(1, 2).reshape(-1, WORDS).long()
        lowest = entries.amin(1)
        entries = entries - lowest[:, None]
        span = int(entries.max())
        narrow = torch.uint8 if span < 1 << 8 else torch.uint16 if span < 1 << 16 else torch.int32
        row = weight.flatten(1).long() + WORDS * choice[:, None]
        return cls(
            entries.to(narrow).contiguous(),
            (row * WORDS).to(torch.int32).T.contiguous(),
            lowest[row].sum(1),
            weight.shape[1:],
            geometry,
        )

    def sums(
        self, words: UInt8[Tensor, "n c h w"], start: Int64[Tensor, " m"]
    ) -> Int32[Tensor, "n m y x"]:
        """Return the sums for maps of bit patterns, padded already, and `start`; they wrap."""
        words, move, (taps, filters) = words.contiguous(), self.geometry, self.named.shape
        (depth, *size), (n, channels, *sides) = self.size, words.shape
        assert channels == depth * move.groups, (words.shape, self.size, move)
        high, wide = replace(move, padding=(0, 0)).outputs(sides, size)
        sums = torch.empty(n, filters, high, wide, dtype=torch.int32, device=words.device)
        assert max(channels * prod(sides), n * high * wide + PIXELS) < ADDRESSES, words.shape
        if not sums.numel():
            return sums
        per_group = filters // move.groups
        tile = min(MOST_FILTERS, 1 << (per_group - 1).bit_length())
        programs = -(-n * high * wide // PIXELS) * move.groups * -(-per_group // tile)
        extents = n * high * wide, high, wide
        strides = channels * prod(sides), depth * prod(sides), sides[1] * move.stride[0]
        begin = (start + self.begin).to(torch.int32)
        offsets = _offsets(self.size, tuple(sides), move.dilation, words.device)
        tensors = words, offsets, self.named, self.entries, begin, sums
        sizes = *extents, *strides, move.stride[1], taps, filters, per_group
        with torch.cuda.device_of(words):  # type: ignore[no-untyped-call]
            _kernel()[(programs,)](*tensors, *sizes, PIXELS, tile, num_warps=1)
        return sums


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """Return the kernel; Triton compiles its source for each kind of operands that it meets."""
    global tl
    triton, tl = import_module("triton"), import_module("triton.language")

    @no_type_check
    def sum_tile(  # noqa: PLR0917
        words,
        offsets,
        named,
        entries,
        start,
        sums,
        pixels,
        high,
        wide,
        image_size,
        group_size,
        row_step,
        column_step,
        taps,
        filters,
        per_group,
        PIXELS: tl.constexpr,  # noqa: N803
        FILTERS: tl.constexpr,  # noqa: N803
    ):
        """Sum the products of some pixels with some filters of one group."""
        tiles = tl.cdiv(per_group, FILTERS)
        tile = tl.program_id(0) % (filters // per_group * tiles)
        group = tile // tiles
        pixel = tl.program_id(0) // (filters // per_group * tiles) * PIXELS + tl.arange(0, PIXELS)
        filter_ = tile % tiles * FILTERS + tl.arange(0, FILTERS)
        # What is left of a tile repeats the last pixel and filter, and stores the same sums there.
        pixel = tl.minimum(pixel, pixels - 1)
        filter_ = tl.minimum(filter_, per_group - 1) + group * per_group
        image = (pixel // (high * wide)).to(tl.int64)
        place = pixel % (high * wide)
        corner = place // wide * row_step + place % wide * column_step
        seen = words + image * image_size + group * group_size + corner
        total = tl.zeros((FILTERS, PIXELS), tl.int32) + tl.load(start + filter_)[:, None]
        for tap in range(taps):
            word = tl.load(seen + tl.load(offsets + tap)).to(tl.int32)
            row = entries + tl.load(named + tap * filters + filter_)
            total += tl.load(row[:, None] + word[None, :]).to(tl.int32)
        channel = image[None, :] * filters + filter_[:, None]
        tl.store(sums + channel * (high * wide) + place[None, :], total)

    # Sizes are plain numbers: no kernel of its own for a size of 1, or for multiples of 16.
    return triton.jit(sum_tile, do_not_specialize=list(range(6, 16)))


@lru_cache(maxsize=256)
def _offsets(
    size: torch.Size, sides: tuple[int, ...], dilation: tuple[int, int], device: torch.device
) -> Int32[Tensor, " k"]:
    """Return how far the word of each tap lies from that of the first."""
    depth, rows, columns = (torch.arange(length) for length in size)
    inside = rows[:, None] * dilation[0] * sides[1] + columns * dilation[1]
    return (depth[:, None, None] * prod(sides) + inside).flatten().to(device, torch.int32)
