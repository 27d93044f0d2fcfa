"""What the C library gets: tensors as addresses and sizes, checked before they are handed over.

The structures mirror `csrc/tables.h`; `layout` tells a library apart that was built from another.
Each job keeps the tensors whose addresses it holds: an interrupted caller may be gone before the
last thread is done.
"""

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float32, Float64, Int16, Int32, Integer, UInt8
from torch import Tensor

from bitproof.kernels.geometry import Geometry

POINTER, NUMBER, REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
Place = Callable[[Sequence[int], torch.dtype, bool], Tensor]
"""Gives room for an output of some shape and dtype; whether channels lie last."""
LARGEST_ZERO_POINT = 1 << 20
"""Words need far smaller ones; the library clamps before it rounds, which needs a bound."""


def new_tensor(shape: Sequence[int], dtype: torch.dtype, last: bool) -> Tensor:
    """Return memory of its own; where a size is 1, channels may lie in both orders at once."""
    order = torch.channels_last if last else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=dtype, memory_format=order)


def fields(kind: type, names: str) -> list[tuple[str, type]]:
    """Return neighbours of one type, as C declares them."""
    return [(name, kind) for name in names.split()]


class RequantizationFields(ctypes.Structure):
    """A `Requantization`, as the library has it."""

    _fields_ = (
        ("multiplier", POINTER),
        *fields(NUMBER, "multipliers truncate"),
        *fields(REAL, "zero_point low high unused"),
    )


@dataclass(frozen=True, eq=False)
class Requantization:
    """How sums become words: `clamp(round(sum * multiplier) + zero_point, low, high)`.

    Example:
        >>> how = Requantization(torch.tensor([0.5]), zero_point=3, low=0, high=255)
        >>> how.dtype
        torch.uint8
    """

    multiplier: Float32[Tensor, " m"]
    """One for each channel, or a single one."""
    zero_point: int
    low: int
    """Smallest word."""
    high: int
    """Largest word."""
    truncate: bool = False
    """Drop the fraction after the zero point is added, instead of rounding half to even."""
    signed: bool = False
    """Whether words are int8."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the words."""
        return torch.int8 if self.signed else torch.uint8

    def described(self, channels: int, dtype: torch.dtype | None = None) -> RequantizationFields:
        """Return the same for the library, for sums of so many channels that become `dtype`."""
        dtype = self.dtype if dtype is None else dtype
        if dtype != torch.float32:  # real values have no bounds
            bounds = torch.iinfo(dtype)
            assert bounds.min <= self.low <= self.high <= bounds.max, (self.low, self.high)
        assert abs(self.zero_point) <= LARGEST_ZERO_POINT, self.zero_point
        assert self.multiplier.shape in {(channels,), (1,)}, (self.multiplier.shape, channels)
        return RequantizationFields(
            multiplier=address_of(self.multiplier, torch.float32),
            multipliers=self.multiplier.numel(),
            truncate=self.truncate,
            zero_point=self.zero_point,
            low=self.low,
            high=self.high,
        )


class Job(ctypes.Structure):
    """What one call of the library is told, and how threads can share it."""

    number: ClassVar[int]
    """Number of what it asks for, as in `csrc/tables.h`."""
    kept: tuple[Any, ...]
    """Tensors whose addresses it holds."""
    pieces: int
    """That can be done apart from each other, equally large."""
    work: int
    """Bytes or products of all pieces."""


class Convolution(Job):
    """One convolution by looked-up products."""

    _fields_ = (
        *fields(POINTER, "words weight tables choice start weight_zero addend out"),
        *fields(NUMBER, "images channels height width"),
        *fields(NUMBER, "filters kernel_height kernel_width groups out_height out_width"),
        *fields(NUMBER, "stride_y stride_x dilation_y dilation_x"),
        *fields(NUMBER, "planes signed_words requantizes addend_last"),
        ("how", RequantizationFields),
    )

    @classmethod
    def describe(
        cls,
        words: UInt8[Tensor, "n c h w"],
        weight: UInt8[Tensor, "m d i j"],
        planes: UInt8[Tensor, "t 256 p 256"],
        choice: Int32[Tensor, " m"],
        *,
        geometry: Geometry,
        start: Int32[Tensor, " m"],
        weight_zero: Int32[Tensor, " m"] | None,
        signed_words: bool,
        addend: Float32[Tensor, "n m y x"] | None,
        how: Requantization | None,
    ) -> tuple["Convolution", Tensor]:
        """Check that all sizes fit together and return the job and its output: int32, or words.

        Arguments are as in `LookUp`, but for:

            planes: low bytes, then high ones if there are two, of the product of weight (second
                index) and word (last index).
            weight_zero: what is subtracted from a filter's sum for each word, times the word.
            addend: whole numbers below 2**24 that the sums begin with, dense, channels first or
                last.
            how: how sums become words; None: they are returned.
        """
        words = words.contiguous()
        (n, channels, *sizes), (filters, depth, *kernel) = words.shape, weight.shape
        groups = geometry.groups
        assert groups > 0, groups
        assert filters % groups == 0, (filters, groups)
        assert channels == depth * groups, (channels, depth, groups)
        assert weight.numel(), weight.shape
        assert min(*geometry.stride, *geometry.dilation) > 0, geometry
        outputs = replace(geometry, padding=(0, 0)).outputs(sizes, kernel)
        assert min(outputs) > 0, (words.shape, weight.shape)
        tables, _, sides, _ = planes.shape
        assert planes.shape == (tables, 256, sides, 256), planes.shape
        assert sides in {1, 2}, planes.shape
        assert 0 <= int(choice.min()) <= int(choice.max()) < tables, (choice, tables)
        for tensor in (choice, start, weight_zero):
            assert tensor is None or tensor.shape == (filters,), (tensor.shape, filters)
        out = torch.empty((n, filters, *outputs), dtype=torch.int32 if how is None else how.dtype)
        assert addend is None or addend.shape == out.shape, (addend, out.shape)
        bytes_ = (address_of(tensor, torch.uint8) for tensor in (words, weight, planes))
        numbers = (address_of(tensor, torch.int32) for tensor in (choice, start, weight_zero))
        added, added_last = (None, False) if addend is None else _dense(addend, torch.float32)
        job = cls(
            *(*bytes_, *numbers, added, out.data_ptr()),
            *(n, channels, *sizes, filters, *kernel, groups, *outputs),
            *(*geometry.stride, *geometry.dilation, sides, signed_words, how is not None),
            added_last,
            *(() if how is None else (how.described(filters),)),
        )
        job.kept = words, weight, planes, choice, start, weight_zero, addend, how, out
        job.work = out.numel() * weight[0].numel()
        return job, out


class RemapBytes(Job):
    """Words to be read from a table."""

    number = 0
    _fields_ = (*fields(POINTER, "source target table"), ("long_words", NUMBER))

    @classmethod
    def describe(
        cls,
        words: UInt8[Tensor, "*shape"],
        table: Integer[Tensor, "256"],
        place: Place = new_tensor,
    ) -> tuple["RemapBytes", Tensor]:
        """Check the words, which lie without gaps, and return the job and its output.

        The table, and so the output, is of uint8 or int16.
        """
        assert table.shape == (256,), table.shape
        assert is_dense(words), words.stride()
        assert words.device.type == "cpu", words.device
        assert words.dtype == torch.uint8, words.dtype
        assert table.dtype in {torch.uint8, torch.int16}, table.dtype
        out = place(words.shape, table.dtype, lies_last(words))
        long_words = table.dtype == torch.int16
        job = cls(words.data_ptr(), out.data_ptr(), address_of(table, table.dtype), long_words)
        job.kept = words, table, out
        job.pieces = job.work = words.numel()
        return job, out


class RemapTerms(Job):
    """Words to be remapped by each of some tables, `inner` of them in a row."""

    number = 1
    _fields_ = (*fields(POINTER, "source target tables"), *fields(NUMBER, "terms inner"))

    @classmethod
    def describe(
        cls, words: Tensor, tables: UInt8[Tensor, "r 256"], place: Place = new_tensor
    ) -> tuple["RemapTerms", Tensor]:
        """Check the words and return the job and its output."""
        (n, channels, height, width), terms = words.shape, len(tables)
        source, last = _dense(words, torch.uint8)
        out = place((n, terms * channels, height, width), torch.uint8, last)
        job = cls(
            source=source,
            target=out.data_ptr(),
            tables=address_of(tables, torch.uint8),
            terms=terms,
            inner=channels if last else channels * height * width,
        )
        job.kept = words, tables, out
        job.pieces, job.work = n * height * width if last else n, out.numel()
        return job, out


class RequantizeSums(Job):
    """Float sums that become words, `channels` of `inner` in a row."""

    number = 2
    _fields_ = (
        *fields(POINTER, "sums out start"),
        *fields(NUMBER, "channels inner"),
        *fields(REAL, "scale unused"),
        ("how", RequantizationFields),
    )

    @classmethod
    def describe(
        cls, sums: Tensor, how: Requantization, *, scale: float, start: Tensor | None
    ) -> tuple["RequantizeSums", Tensor]:
        """Check the sums and return the job and its output."""
        n, channels, height, width = sums.shape
        out = torch.empty_like(sums, dtype=how.dtype)
        address, last = _dense(sums, torch.float32)
        assert start is None or start.shape == (channels,), start.shape
        assert out.stride() == sums.stride(), (out.stride(), sums.stride())
        job = cls(
            sums=address,
            out=out.data_ptr(),
            start=address_of(start, torch.float32),
            channels=channels,
            inner=1 if last else height * width,
            scale=scale,
            how=how.described(channels),
        )
        job.kept = sums, out, how.multiplier, start
        job.pieces, job.work = n * height * width if last else n, sums.numel() * 4
        return job, out


@dataclass(frozen=True)
class Addend:
    """Words that take part in a sum: `(word - zero_point) * multiplier`."""

    words: Tensor
    zero_point: int
    multiplier: float


KINDS = {torch.uint8: 0, torch.int8: 1, torch.int16: 2}
"""How the library calls words that it adds, by dtype."""


class AddWords(Job):
    """Words that are added or multiplied and become words, or that change their grid."""

    number = 3
    _fields_ = (
        *fields(POINTER, "left right out"),
        *fields(NUMBER, "left_kind right_kind out_kind multiplies"),
        *fields(REAL, "left_point left_multiplier right_point right_multiplier"),
        ("how", RequantizationFields),
    )

    @classmethod
    def describe(
        cls,
        left: Addend,
        right: Addend | None,
        how: Requantization,
        dtype: torch.dtype,
        place: Place = new_tensor,
        *,
        multiplies: bool = False,
    ) -> tuple["AddWords", Tensor]:
        """Check the words, which lie alike and without gaps, and return the job and its output.

        With `multiplies`, centered words are multiplied, and then by the left multiplier.
        """
        assert not multiplies or right is not None
        one = left.words
        assert is_dense(one), one.stride()
        out = place(one.shape, dtype, lies_last(one))
        job = cls(
            left=one.data_ptr(),
            out=out.data_ptr(),
            left_kind=KINDS[one.dtype],
            out_kind=KINDS[dtype],
            left_point=left.zero_point,
            left_multiplier=left.multiplier,
            multiplies=multiplies,
            how=how.described(1, dtype),
        )
        if right is not None:
            other = right.words
            assert is_dense(other), other.stride()
            assert (one.shape, lies_last(one)) == (other.shape, lies_last(other)), (
                *(one.shape, one.stride()),
                *(other.shape, other.stride()),
            )
            job.right, job.right_kind = other.data_ptr(), KINDS[other.dtype]
            job.right_point, job.right_multiplier = right.zero_point, right.multiplier
        for addend in (left, right):
            assert addend is None or addend.words.device.type == "cpu", addend
        job.kept = left, right, how, out
        job.pieces, job.work = out.numel(), out.numel() * 4
        return job, out


class Rows(Job):
    """Rows of words to be standardized, or to become a softmax."""

    number = 6
    _fields_ = (
        *fields(POINTER, "words out table weight bias"),
        *fields(NUMBER, "count kind out_kind masked truncate"),
        *fields(ctypes.c_double, "point floor scale zero_point low high"),
    )

    @classmethod
    def describe(
        cls,
        words: Tensor,
        dtype: torch.dtype,
        how: Requantization,
        *,
        point: int,
        floor: float,
        scale: float,
        table: Float64[Tensor, " distances"] | None = None,
        affine: tuple[Tensor | None, Tensor | None] = (None, None),
        place: Place = new_tensor,
    ) -> tuple["Rows", Tensor]:
        """Check the words, whose last axis is a row, and return the job and its output.

        Args:
            words: contiguous, of a dtype in `KINDS`.
            dtype: of the output, in `KINDS`.
            how: bounds, zero point and rounding of the output.
            point: zero point of the words.
            floor: what is added under the root of a norm; the centered word that a masked softmax
                gives no weight, NaN for none.
            scale: of the output.
            table: exponentials by distance from a row's largest word, for a softmax.
            affine: float64 factors and summands for each place in a row, for a norm.
            place: gives room for the output.
        """
        count = words.shape[-1]
        for one in affine:
            assert one is None or one.shape == (count,), (one.shape, count)
        assert words.is_contiguous(), words.stride()
        assert words.device.type == "cpu", words.device
        out = place(words.shape, dtype, False)
        doubles = (address_of(one, torch.float64) for one in (table, *affine))
        job = cls(
            *(words.data_ptr(), out.data_ptr(), *doubles),
            *(count, KINDS[words.dtype], KINDS[dtype], not math.isnan(floor), how.truncate),
            *(point, floor, scale, how.zero_point, how.low, how.high),
        )
        job.kept = words, out, table, affine
        job.pieces, job.work = out.numel() // count, out.numel() * 16
        return job, out


class Int8Pack(Job):
    """8-bit weights to be laid out for the library's products."""

    number = 5
    _fields_ = (
        *fields(POINTER, "weight add packed sums"),
        *fields(NUMBER, "filters groups depth kernel_height kernel_width dilation_x flip"),
    )

    @classmethod
    def describe(
        cls, codes: Tensor, add: Int32[Tensor, " m"], geometry: Geometry
    ) -> tuple["Int8Pack", Tensor, Tensor]:
        """Check the codes, (m, d, i, j) of uint8 or int8, and return the job and its outputs.

        Outputs are the blocks and the sum of each filter's weights, which are the codes (uint8
        ones less 128) plus `add`, and fit int8.
        """
        filters, depth, *kernel = codes.shape
        groups, gap = geometry.groups, geometry.dilation[1]
        assert filters % groups == 0, (filters, groups)
        assert codes.dtype in {torch.uint8, torch.int8}, codes.dtype
        joined = groups == 1 and gap == 1
        runs = kernel[0] if joined else kernel[0] * kernel[1]
        quads = -(-(kernel[1] * depth if joined else depth) // 4)
        packed = torch.zeros(groups * pad16(filters // groups) * runs * quads * 4, dtype=torch.int8)
        sums = torch.empty(filters, dtype=torch.int32)
        job = cls(
            weight=address_of(codes, codes.dtype),
            add=address_of(add, torch.int32),
            packed=packed.data_ptr(),
            sums=sums.data_ptr(),
            filters=filters,
            groups=groups,
            depth=depth,
            kernel_height=kernel[0],
            kernel_width=kernel[1],
            dilation_x=gap,
            flip=128 if codes.dtype == torch.uint8 else 0,
        )
        job.kept = codes, add, packed, sums
        job.pieces, job.work = filters, codes.numel()
        return job, packed, sums


RESULTS = {torch.uint8: 0, torch.int8: 0, torch.int16: 1, torch.float32: 2, torch.int32: 3}
"""What the library makes of sums, by dtype: words, long words, real values, the sums."""
PIXELS = 256
"""Most pixels of a tile."""
FEW_TILES = 4
"""Tiles below which threads share the filters of each."""
FILTERS = 64
"""That are computed together; threads share no fewer."""
TILE_BYTES = 1 << 16
"""Most words of a tile whose channels have a filter each."""


class Int8Convolution(Job):
    """One convolution by 8-bit products."""

    number = 4
    _fields_ = (
        *fields(POINTER, "words weight start shift out"),
        *fields(NUMBER, "images height width channels"),
        *fields(NUMBER, "filters groups kernel_height kernel_width out_height out_width"),
        *fields(NUMBER, "stride_y stride_x dilation_y dilation_x pad_y pad_x"),
        *fields(NUMBER, "pad_word signed_words tile_height tile_width result"),
        *fields(NUMBER, "by_channel by_image scale parts"),
        ("how", RequantizationFields),
    )

    @classmethod
    def describe(
        cls,
        words: Tensor,
        packed: Tensor,
        kernel: tuple[int, ...],
        *,
        geometry: Geometry,
        start: Int32[Tensor, " padded"],
        shift: Int32[Tensor, " padded"] | None,
        pad_word: int,
        how: Requantization,
        dtype: torch.dtype,
        by_image: bool = False,
        scale: int = 1,
        place: Place = new_tensor,
    ) -> tuple["Int8Convolution", Tensor]:
        """Check that all sizes fit together and return the job and its output, channels last.

        Args:
            words: (n, c, h, w) of uint8 or int8, channels last.
            packed: as `Int8Pack` gives it; or, where each channel has a filter of its own, as
                `pack_channels` does.
            kernel: shape of the weights, (m, d, i, j).
            geometry: how the kernel moves.
            start: what each filter's sums begin with, filters of each group filled up to 16.
            shift: the same of what is added for each word under the window, times the word.
            pad_word: what lies around the map, as an unsigned word.
            how: how sums become words or real values; multipliers are filled up as `start` is.
            dtype: of the output, a key of `RESULTS`.
            by_image: whether each image has weights of its own, packed as groups, with starts,
                shifts and multipliers of its own.
            scale: what sums of products are multiplied by, within int32.
            place: gives room for the output.
        """
        assert words.is_contiguous(memory_format=torch.channels_last), words.stride()
        (n, channels, *sizes), (filters, depth, *taps) = words.shape, kernel
        groups = geometry.groups
        assert channels == depth * groups, (channels, depth, groups)
        by_channel = packed.dtype == torch.int16
        padded = pad16(filters) if by_channel else groups * pad16(filters // groups)
        padded *= n if by_image else 1
        for tensor in (start, shift, how.multiplier):
            assert tensor is None or tensor.shape == (padded,), (tensor.shape, padded)
        outputs = geometry.outputs(sizes, taps)
        assert min(outputs) > 0, (words.shape, kernel)
        out = place((n, filters, *outputs), dtype, True)
        across = min(outputs[1], 64 if outputs[0] > 1 else PIXELS)
        down = min(outputs[0], PIXELS // across)
        if by_channel:  # a word is read a few times only: tiles that stay in the first cache
            down = max(1, min(down, TILE_BYTES // (channels * across)))
        tiles = n * -(-outputs[0] // down) * -(-outputs[1] // across)
        whole = by_channel or by_image or groups > 1 or tiles >= FEW_TILES
        parts = 1 if whole else -(-padded // FILTERS)
        numbers = (address_of(tensor, torch.int32) for tensor in (start, shift))
        assert words.dtype in {torch.uint8, torch.int8}, words.dtype
        job = cls(
            *(words.data_ptr(), address_of(packed, packed.dtype), *numbers, out.data_ptr()),
            *(n, *sizes, channels, filters, groups, *taps, *outputs),
            *(*geometry.stride, *geometry.dilation, *geometry.padding),
            *(pad_word, words.dtype == torch.int8, down, across, RESULTS[dtype]),
            *(by_channel, by_image, scale, parts),
            how.described(padded, dtype),
        )
        job.kept = words, packed, start, shift, how.multiplier, out
        job.work = out.numel() * depth * taps[0] * taps[1]
        job.pieces = tiles * parts
        return job, out

    def template(self) -> "Int8Convolution":
        """Return a copy that holds on to no words, for `again`."""
        copied = type(self).from_buffer_copy(self)
        copied.kept = (None, *self.kept[1:-1], None)
        copied.pieces, copied.work = self.pieces, self.work
        return copied

    def again(
        self, words: Tensor, shape: torch.Size, dtype: torch.dtype
    ) -> tuple["Int8Convolution", Tensor]:
        """Return the same job for other words of the same shape and dtype, and its output."""
        assert words.is_contiguous(memory_format=torch.channels_last), words.stride()
        out = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
        job = self.template()
        job.words, job.out = words.data_ptr(), out.data_ptr()
        job.kept = (words, *self.kept[1:-1], out)
        return job, out


def pack_channels(weight: Tensor) -> Int16[Tensor, " numbers"]:
    """Return weights of a filter for each channel, (c, 1, i, j), as the library wants them.

    That is int16, by pairs of taps; a few more entries follow, which it may read.
    """
    taps = weight.to(torch.int16).flatten(1).t()
    if len(taps) % 2:
        taps = torch.cat([taps, torch.zeros_like(taps[:1])])
    pairs = taps.reshape(-1, 2, taps.shape[1]).transpose(1, 2).flatten()
    return torch.cat([pairs, pairs.new_zeros(128)])


def pad16(count: int) -> int:
    """Return the next multiple of 16.

    Example:
        >>> pad16(1), pad16(32)
        (16, 32)
    """
    return -(-count // 16) * 16


def lies_last(tensor: Tensor) -> bool:
    """Tell whether the channels of maps lie last in memory, and not in the order of axes."""
    return (
        tensor.ndim == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def is_dense(tensor: Tensor) -> bool:
    """Tell whether numbers lie without gaps: in the order of axes, or maps with channels last."""
    return tensor.is_contiguous() or lies_last(tensor)


def _dense(maps: Tensor, dtype: torch.dtype) -> tuple[int, bool]:
    """Return the address of maps, and whether channels lie last, instead of after the images."""
    last = not maps.is_contiguous()
    assert not last or maps.is_contiguous(memory_format=torch.channels_last), maps.stride()
    assert maps.dtype == dtype, (maps.dtype, dtype)
    assert maps.device.type == "cpu", maps.device
    return maps.data_ptr(), last


def address_of(tensor: Tensor | None, dtype: torch.dtype) -> int | None:
    """Return where the numbers of a contiguous tensor lie, or None where there is none."""
    if tensor is None:
        return None
    assert tensor.dtype == dtype, (tensor.dtype, dtype)
    assert tensor.device.type == "cpu", tensor.device
    assert tensor.is_contiguous(), tensor.stride()
    return tensor.data_ptr()
