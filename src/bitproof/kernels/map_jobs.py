"""What the C library gets of inputs, windows, averages, copies and changed maps; see `jobs`."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float32, Int16, Int32, Int64
from torch import Tensor

from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import (
    KINDS,
    NUMBER,
    POINTER,
    REAL,
    Addend,
    Job,
    Place,
    Requantization,
    RequantizationFields,
    address_of,
    fields,
    new_tensor,
)

AXES = 6
"""Of elements that are copied, once neighbours are joined."""


class QuantizeValues(Job):
    """Inputs that become words, channels last: `((value - mean) / std) * multiplier`."""

    number = 7
    _fields_ = (
        *fields(POINTER, "values out mean std"),
        *fields(NUMBER, "channels inner out_kind"),
        *fields(REAL, "multiplier unused"),
        ("how", RequantizationFields),
    )

    @classmethod
    def describe(
        cls,
        values: Float32[Tensor, "n *features"],
        normalization: tuple[Float32[Tensor, " c"], Float32[Tensor, " c"]] | None,
        multiplier: float,
        how: Requantization,
        *,
        dtype: torch.dtype,
        place: Place,
    ) -> tuple["QuantizeValues", Tensor]:
        """Check the values, which are contiguous, and return the job and its output.

        `normalization` has the mean and the standard deviation of each channel, on axis 1.
        """
        last = values.ndim == 4
        assert last or normalization is None, values.shape
        channels = values.shape[1] if last else 1
        out = place(values.shape, dtype, last)
        mean, std = normalization or (None, None)
        for one in (mean, std):
            assert one is None or one.shape == (channels,), (one.shape, channels)
        job = cls(
            values=address_of(values, torch.float32),
            out=out.data_ptr(),
            mean=address_of(mean, torch.float32),
            std=address_of(std, torch.float32),
            channels=channels,
            inner=values[0].numel() // channels,
            out_kind=KINDS[dtype],
            multiplier=multiplier,
            how=how.described(1, dtype),
        )
        job.kept = values, normalization, how, out
        job.pieces, job.work = len(values), values.numel() * 4
        return job, out


class PoolWords(Job):
    """Windows over words, of which the largest stays, or the sum."""

    number = 8
    _fields_ = (
        *fields(POINTER, "words out"),
        *fields(NUMBER, "height width channels out_height out_width"),
        *fields(NUMBER, "kernel_height kernel_width stride_y stride_x pad_y pad_x"),
        *fields(NUMBER, "kind out_kind largest"),
        *fields(REAL, "point multiplier"),
        ("how", RequantizationFields),
    )

    @classmethod
    def describe(
        cls,
        source: Addend,
        kernel: tuple[int, int],
        geometry: Geometry,
        sizes: Sequence[int],
        *,
        how: Requantization | None,
        dtype: torch.dtype,
        place: Place,
    ) -> tuple["PoolWords", Tensor]:
        """Check the words, maps with channels last, and return the job and its output.

        Every window of the output, of `sizes`, holds a word of the map. Without `how`, the largest
        word stays.
        """
        words = source.words
        assert words.is_contiguous(memory_format=torch.channels_last), words.stride()
        assert words.device.type == "cpu", words.device
        n, channels, *inside = words.shape
        moves = zip(inside, kernel, geometry.stride, geometry.padding, sizes, strict=True)
        for size, taps, step, edge, out_size in moves:
            assert 0 <= edge < taps, (edge, taps)
            assert 0 < out_size <= (size + edge - 1) // step + 1, (out_size, size)
        assert geometry.dilation == (1, 1), geometry
        assert how is not None or dtype == words.dtype, dtype
        out = place((n, channels, *sizes), dtype, True)
        job = cls(
            *(words.data_ptr(), out.data_ptr(), *inside, channels, *sizes, *kernel),
            *(*geometry.stride, *geometry.padding, KINDS[words.dtype], KINDS[dtype], how is None),
            *(source.zero_point, source.multiplier),
            *(() if how is None else (how.described(1, dtype),)),
        )
        job.kept = words, how, out
        job.pieces, job.work = n * sizes[0], out.numel() * kernel[0] * kernel[1]
        return job, out


class AverageWords(Job):
    """Words in rows whose sums become words."""

    number = 9
    _fields_ = (
        *fields(POINTER, "words out"),
        *fields(NUMBER, "count inner kind out_kind"),
        *fields(REAL, "point multiplier"),
        ("how", RequantizationFields),
    )

    @classmethod
    def describe(
        cls,
        source: Addend,
        rows: tuple[int, int, int],
        how: Requantization,
        out: Tensor,
    ) -> "AverageWords":
        """Check the words, which lie as (rows, count, inner) in memory, and return the job."""
        words, (n, count, inner) = source.words, rows
        assert words.numel() == n * count * inner, (words.shape, rows)
        assert out.numel() == n * inner, (out.shape, rows)
        assert words.device.type == "cpu", words.device
        job = cls(
            *(words.data_ptr(), out.data_ptr(), count, inner),
            *(KINDS[words.dtype], KINDS[out.dtype], source.zero_point, source.multiplier),
            how.described(1, out.dtype),
        )
        job.kept = words, how, out
        job.pieces, job.work = n, words.numel()
        return job


class CopyElements(Job):
    """Elements to be copied into another order."""

    number = 10
    _fields_ = (
        *fields(POINTER, "source target"),
        ("bytes", NUMBER),
        *((name, NUMBER * AXES) for name in ("sizes", "from_steps", "to_steps")),
    )

    @classmethod
    def describe(cls, source: Tensor, out: Tensor) -> "CopyElements | None":
        """Return the job that fills `out`, of the same shape; None where axes are too many."""
        assert (source.shape, source.dtype) == (out.shape, out.dtype), (source.shape, out.shape)
        assert {source.device.type, out.device.type} == {"cpu"}, (source.device, out.device)
        axes = _joined(source, out)
        if len(axes) > AXES:
            return None
        axes = [(1, 0, 0)] * (AXES - len(axes)) + axes
        if axes[0][0] == 1:  # threads share the outermost axis
            longest = next((i for i, axis in enumerate(axes) if axis[0] > 1), AXES - 1)
            if longest < AXES - 1:
                axes.insert(0, axes.pop(longest))
        columns = [(NUMBER * AXES)(*column) for column in zip(*axes, strict=True)]
        job = cls(source.data_ptr(), out.data_ptr(), source.element_size(), *columns)
        job.kept = source, out
        job.pieces, job.work = axes[0][0], out.numel() * source.element_size()
        return job


def _joined(source: Tensor, out: Tensor) -> list[tuple[int, int, int]]:
    """Return size and both steps in bytes of each axis, outermost of `out` first.

    Neighbours are joined.
    """
    size = source.element_size()
    axes = [
        (count, step * size, apart * size)
        for count, step, apart in zip(source.shape, source.stride(), out.stride(), strict=True)
        if count != 1
    ]
    joined: list[tuple[int, int, int]] = []
    for count, step, apart in sorted(axes, key=lambda axis: -axis[2]):
        if joined and joined[-1][1:] == (step * count, apart * count):
            joined[-1] = (joined[-1][0] * count, step, apart)
        else:
            joined.append((count, step, apart))
    return joined or [(1, size, size)]


class StartSums(Job):
    """Sums of words that become what sums of products begin with."""

    number = 11
    _fields_ = (
        *fields(POINTER, "sums start"),
        *fields(NUMBER, "filters padded point rest"),
    )

    @classmethod
    def describe(
        cls,
        sums: Int32[Tensor, " m"],
        start: Int32[Tensor, " padded"],
        rows: int,
        *,
        point: int,
        rest: int,
    ) -> "StartSums":
        """Return the job: `start = -point * (sum + rest)`, in rows that are filled up with 0."""
        assert sums.numel() % rows == start.numel() % rows == 0, (sums.shape, start.shape, rows)
        job = cls(
            *(address_of(sums, torch.int32), address_of(start, torch.int32)),
            *(sums.numel() // rows, start.numel() // rows, point, rest),
        )
        job.kept = sums, start
        job.pieces, job.work = rows, start.numel() * 4
        return job


class ChangedConvolution(Job):
    """A convolution of images that differ from known ones in a few words."""

    number = 12
    _fields_ = (
        *fields(POINTER, "words known sums which weight out left"),
        *fields(NUMBER, "height width channels filters kernel_height kernel_width"),
        *fields(NUMBER, "out_height out_width stride_y stride_x dilation_y dilation_x pad_y pad_x"),
        *fields(NUMBER, "signed_words most out_kind"),
        ("how", RequantizationFields),
    )

    @classmethod
    def describe(
        cls,
        words: Tensor,
        known: tuple[Tensor, Int32[Tensor, "k m y x"]],
        which: Int64[Tensor, " n"],
        weight: Int16[Tensor, "kh kw c m"],
        *,
        geometry: Geometry,
        most: int,
        how: Requantization,
        dtype: torch.dtype,
    ) -> tuple["ChangedConvolution", Tensor, Bool[Tensor, " n"]]:
        """Check the sizes; return the job, its output, and which images it will have left out.

        Args:
            words: (n, c, h, w) of uint8 or int8, channels last, as are all maps.
            known: words of known images, and the accumulators that they have.
            which: known image of each image.
            weight: whole numbers that centered words are multiplied by.
            geometry: how the kernel moves, in one group.
            most: words of an image that may differ from the known ones.
            how: how sums become words, with a multiplier for each filter.
            dtype: of the output, in `KINDS`.
        """
        maps, sums = known
        (n, channels, *sizes), (*taps, depth, filters) = words.shape, weight.shape
        for one in (words, maps, sums):
            assert one.is_contiguous(memory_format=torch.channels_last), one.stride()
            assert one.device.type == "cpu", one.device
        assert maps.shape[1:] == words.shape[1:], (maps.shape, words.shape)
        assert maps.dtype == words.dtype in {torch.uint8, torch.int8}, (maps.dtype, words.dtype)
        outputs = geometry.outputs(sizes, taps)
        assert sums.shape == (len(maps), filters, *outputs), (sums.shape, filters, outputs)
        assert sums.dtype == torch.int32, sums.dtype
        assert (depth, geometry.groups) == (channels, 1), (weight.shape, geometry)
        assert which.shape == (n,), (which.shape, n)
        assert not n or 0 <= int(which.min()) <= int(which.max()) < len(maps), which
        out, left = (
            new_tensor((n, filters, *outputs), dtype, True),
            torch.zeros(n, dtype=torch.bool),
        )
        job = cls(
            *(words.data_ptr(), maps.data_ptr(), sums.data_ptr(), address_of(which, torch.int64)),
            *(address_of(weight, torch.int16), out.data_ptr(), left.data_ptr()),
            *(*sizes, channels, filters, *taps, *outputs),
            *(*geometry.stride, *geometry.dilation, *geometry.padding),
            *(words.dtype == torch.int8, most, KINDS[dtype], how.described(filters, dtype)),
        )
        job.kept = words, known, which, weight, how.multiplier, out, left
        job.pieces, job.work = n, out.numel() * 16
        return job, out, left
