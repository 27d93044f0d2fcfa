"""What the C library gets: tensors as addresses and sizes, checked before they are handed over.

The structures mirror `csrc/tables.h`; `layout` tells a library apart that was built from another.
Each job keeps the tensors whose addresses it holds: an interrupted caller may be gone before the
last thread is done.
"""

import ctypes
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float32, Int32, UInt8
from torch import Tensor

from bitproof.kernels.geometry import Geometry

POINTER, NUMBER, REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
LARGEST_ZERO_POINT = 1 << 20
"""Words need far smaller ones; the library clamps before it rounds, which needs a bound."""


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    """Return neighbours of one type, as C declares them."""
    return [(name, kind) for name in names.split()]


class _Requantization(ctypes.Structure):
    _fields_ = (
        ("multiplier", POINTER),
        *_fields(NUMBER, "multipliers truncate"),
        *_fields(REAL, "zero_point low high unused"),
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

    def described(self, channels: int) -> _Requantization:
        """Return the same for the library, for sums of so many channels."""
        least, most = (-128, 127) if self.signed else (0, 255)
        assert least <= self.low <= self.high <= most, (self.low, self.high)
        assert abs(self.zero_point) <= LARGEST_ZERO_POINT, self.zero_point
        assert self.multiplier.shape in {(channels,), (1,)}, (self.multiplier.shape, channels)
        return _Requantization(
            multiplier=address_of(self.multiplier, torch.float32),
            multipliers=self.multiplier.numel(),
            truncate=self.truncate,
            zero_point=self.zero_point,
            low=self.low,
            high=self.high,
        )


class Convolution(ctypes.Structure):
    """One convolution by looked-up products."""

    kept: tuple[object, ...]
    products: int
    _fields_ = (
        *_fields(POINTER, "words weight tables choice start weight_zero addend out"),
        *_fields(NUMBER, "images channels height width"),
        *_fields(NUMBER, "filters kernel_height kernel_width groups out_height out_width"),
        *_fields(NUMBER, "stride_y stride_x dilation_y dilation_x"),
        *_fields(NUMBER, "planes signed_words requantizes addend_last"),
        ("how", _Requantization),
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
        job.products = out.numel() * weight[0].numel()
        return job, out


class RemapTerms(ctypes.Structure):
    """Words to be remapped by each of some tables, `inner` of them in a row."""

    kept: tuple[object, ...]
    _fields_ = (*_fields(POINTER, "source target tables"), *_fields(NUMBER, "terms inner"))

    @classmethod
    def describe(
        cls, words: Tensor, tables: UInt8[Tensor, "r 256"]
    ) -> tuple["RemapTerms", Tensor, int]:
        """Check the words and return the job, its output and its number of rows."""
        (n, channels, height, width), terms = words.shape, len(tables)
        source, last = _dense(words, torch.uint8)
        out = torch.empty(
            (n, terms * channels, height, width),
            dtype=torch.uint8,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )
        job = cls(
            source=source,
            target=out.data_ptr(),
            tables=address_of(tables, torch.uint8),
            terms=terms,
            inner=channels if last else channels * height * width,
        )
        job.kept = words, tables, out
        return job, out, n * height * width if last else n


class RequantizeSums(ctypes.Structure):
    """Float sums that become words, `channels` of `inner` in a row."""

    kept: tuple[object, ...]
    _fields_ = (
        *_fields(POINTER, "sums out start"),
        *_fields(NUMBER, "channels inner"),
        *_fields(REAL, "scale unused"),
        ("how", _Requantization),
    )

    @classmethod
    def describe(
        cls, sums: Tensor, how: Requantization, out: Tensor, *, scale: float, start: Tensor | None
    ) -> tuple["RequantizeSums", int]:
        """Check the sums and return the job and its number of rows."""
        n, channels, height, width = sums.shape
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
        return job, n * height * width if last else n


@dataclass(frozen=True)
class Addend:
    """Words that take part in a sum: `(word - zero_point) * multiplier`."""

    words: Tensor
    zero_point: int
    multiplier: float


class AddWords(ctypes.Structure):
    """Words that are added and become words."""

    kept: tuple[object, ...]
    _fields_ = (
        *_fields(POINTER, "left right out"),
        *_fields(NUMBER, "left_signed right_signed"),
        *_fields(REAL, "left_point left_multiplier right_point right_multiplier"),
        ("how", _Requantization),
    )

    @classmethod
    def describe(
        cls, left: Addend, right: Addend, how: Requantization
    ) -> tuple["AddWords", Tensor]:
        """Check the words, which lie alike and without gaps, and return the job and its output."""
        one, other = left.words, right.words
        assert (one.shape, one.stride()) == (other.shape, other.stride()), (one, other)
        assert is_dense(one), one.stride()
        out = torch.empty_like(one, dtype=how.dtype)
        assert out.stride() == one.stride(), (out.stride(), one.stride())
        for words in (one, other):
            assert words.dtype in {torch.uint8, torch.int8}, words.dtype
            assert words.device.type == "cpu", words.device
        job = cls(
            left=one.data_ptr(),
            right=other.data_ptr(),
            out=out.data_ptr(),
            left_signed=one.dtype == torch.int8,
            right_signed=other.dtype == torch.int8,
            left_point=left.zero_point,
            left_multiplier=left.multiplier,
            right_point=right.zero_point,
            right_multiplier=right.multiplier,
            how=how.described(1),
        )
        job.kept = one, other, how, out
        return job, out


def is_dense(tensor: Tensor) -> bool:
    """Tell whether numbers lie without gaps: in the order of axes, or maps with channels last."""
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return last or tensor.is_contiguous()


def layout() -> int:
    """Return the number that a library of the same structures reports."""
    sizes = (ctypes.sizeof(kind) for kind in (Convolution, RemapTerms, RequantizeSums, AddWords))
    return sum(size * 1000**place for size, place in zip(sizes, (3, 2, 1, 0), strict=True))


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
