"""Inputs, windows, averages, copies and starts of sums, on every level, equal torch's."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from bitproof.core.rng import make_generator
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import Addend, Requantization, new_tensor
from bitproof.kernels.library import Library, find_library, levels, library, why_absent
from bitproof.kernels.map_jobs import (
    AverageWords,
    ChangedConvolution,
    CopyElements,
    PoolWords,
    QuantizeValues,
    StartSums,
)

pytestmark = pytest.mark.skipif(library() is None, reason=why_absent() or "no library")

DTYPES = [torch.uint8, torch.int8, torch.int16]
SEARCH = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(params=levels())
def level(request: pytest.FixtureRequest) -> Library:
    found = find_library(request.param)[0]
    assert found is not None
    return found


def how_for(dtype: torch.dtype, truncate: bool) -> Requantization:
    bounds = torch.iinfo(dtype)
    return Requantization(
        torch.ones(1), zero_point=5, low=bounds.min + 2, high=bounds.max - 1, truncate=truncate
    )


def as_words(values: Tensor, how: Requantization, dtype: torch.dtype) -> Tensor:
    shifted = (values + how.zero_point).trunc() if how.truncate else values.round() + how.zero_point
    return shifted.clamp(how.low, how.high).to(dtype)


def random_words(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    bounds = torch.iinfo(dtype)
    generator = make_generator(seed)
    return torch.randint(bounds.min, bounds.max + 1, shape, generator=generator).to(dtype)


@SEARCH
@given(data=st.data())
def test_values_become_words(level: Library, data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.sampled_from([(1, 1, 1, 1), (3, 3, 9, 7), (2, 5, 20, 20), (4, 300), (2, 7, 5)]))
    dtype = draw(st.sampled_from(DTYPES))
    how = how_for(dtype, draw(st.booleans()))
    generator = make_generator(draw(st.integers(0, 99)))
    values = torch.rand(shape, generator=generator)
    normalization, expected = None, values
    if len(shape) == 4 and draw(st.booleans()):
        mean, std = (torch.rand(shape[1], generator=generator) + 0.1 for _ in range(2))
        normalization = mean, std
        expected = (values - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
    multiplier = float(torch.rand((), generator=generator) * 300)
    job, out = QuantizeValues.describe(
        values, normalization, multiplier, how, dtype=dtype, place=new_tensor
    )
    level.run(job)
    assert torch.equal(out, as_words(expected * multiplier, how, dtype))


@SEARCH
@given(data=st.data())
def test_windows_are_those_of_torch(level: Library, data: st.DataObject) -> None:
    draw = data.draw
    kernel, stride = ((draw(st.integers(1, 4)), draw(st.integers(1, 4))) for _ in range(2))
    padding = tuple(draw(st.integers(0, taps // 2)) for taps in kernel)
    sizes = [taps + draw(st.integers(0, 9)) for taps in kernel]
    channels = draw(st.sampled_from([1, 3, 16, 70, 300]))
    dtype = draw(st.sampled_from(DTYPES))
    words = random_words(
        (draw(st.integers(1, 3)), channels, *sizes), dtype, draw(st.integers(0, 9))
    )
    words = words.contiguous(memory_format=torch.channels_last)
    move = Geometry(stride, (padding[0], padding[1]))
    if draw(st.booleans()):
        ceil = draw(st.booleans())
        wanted = functional.max_pool2d(words.float(), kernel, stride, padding, ceil_mode=ceil)
        source, sizes = Addend(words, 0, 1.0), list(wanted.shape[2:])
        job, out = PoolWords.describe(
            source, kernel, move, sizes, how=None, dtype=dtype, place=new_tensor
        )
        wanted = wanted.to(dtype)
    else:
        target, point = draw(st.sampled_from(DTYPES)), draw(st.integers(-9, 200))
        how, factor = how_for(target, draw(st.booleans())), torch.tensor(0.37)
        sums = functional.avg_pool2d(
            words.float() - point, kernel, stride, padding, divisor_override=1
        )
        wanted = as_words(sums * factor, how, target)
        source = Addend(words, point, float(factor))
        outputs = list(wanted.shape[2:])
        job, out = PoolWords.describe(
            source, kernel, move, outputs, how=how, dtype=target, place=new_tensor
        )
    level.run(job)
    assert torch.equal(out, wanted)


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("rows", [(1, 1, 1), (3, 17, 5), (2, 400, 300), (700, 9, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_averages_are_exact(
    level: Library, dtype: torch.dtype, rows: tuple[int, int, int], truncate: bool
) -> None:
    words, point, factor = random_words(rows, dtype, 1), 7, torch.tensor(0.013)
    how = how_for(torch.int16, truncate)
    out = torch.empty((rows[0], rows[2]), dtype=torch.int16)
    level.run(AverageWords.describe(Addend(words, point, float(factor)), rows, how, out))
    sums = (words.double() - point).sum(1).float()
    assert torch.equal(out, as_words(sums * factor, how, torch.int16))


@SEARCH
@given(data=st.data())
def test_copies_are_those_of_torch(level: Library, data: st.DataObject) -> None:
    draw = data.draw
    ndim = draw(st.integers(1, 6))
    dtype = draw(st.sampled_from([*DTYPES, torch.float32]))
    source = torch.arange(4**ndim).reshape([4] * ndim).to(dtype)
    source = source.permute(draw(st.permutations(range(ndim))))
    for axis in range(ndim):
        start, step = draw(st.integers(0, 3)), draw(st.integers(1, 2))
        index = [slice(None)] * ndim
        index[axis] = slice(start, None, step)
        source = source[tuple(index)]
    if draw(st.booleans()):
        source = source[..., :1].expand(*source.shape[:-1], 3)
    order = draw(st.permutations(range(ndim)))
    out = torch.zeros([source.shape[axis] for axis in order], dtype=dtype)
    out = out.permute([order.index(axis) for axis in range(ndim)])
    job = CopyElements.describe(source, out)
    assert job is not None
    level.run(job)
    assert torch.equal(out, source)


def test_copies_know_both_orders(level: Library, two_threads: None) -> None:
    maps = random_words((5, 70, 33, 31), torch.uint8, 0)
    last = torch.empty_like(maps, memory_format=torch.channels_last)
    there = CopyElements.describe(maps, last)
    back = CopyElements.describe(last, again := torch.empty_like(maps))
    assert there is not None
    assert back is not None
    level.run(there)
    level.run(back)
    assert torch.equal(last, maps)
    assert torch.equal(again, maps)
    inside = torch.zeros(5, 80, 40, 40, dtype=torch.uint8)[:, 3:73, 2:35, 4:35]
    part = CopyElements.describe(maps, inside)
    assert part is not None
    level.run(part)
    assert torch.equal(inside, maps)


def test_axes_that_are_too_many_are_left_alone() -> None:
    source = torch.zeros([2] * 8).permute(7, 6, 5, 4, 3, 2, 1, 0)
    assert CopyElements.describe(source, torch.zeros([2] * 8)) is None


def test_starts_wrap_as_registers_do(level: Library) -> None:
    sums = random_words((6,), torch.int16, 0).int() * 60_000
    start = torch.full((32,), 9, dtype=torch.int32)
    level.run(StartSums.describe(sums, start, 2, point=130, rest=-77))
    wanted = (-130 * (sums.long() - 77) + 2**31) % 2**32 - 2**31
    assert start.reshape(2, 16)[:, :3].flatten().tolist() == wanted.tolist()
    assert not start.reshape(2, 16)[:, 3:].any()


def test_windows_beside_the_map_are_refused() -> None:
    words = random_words((1, 2, 4, 4), torch.uint8, 0).contiguous(memory_format=torch.channels_last)
    source, move = Addend(words, 0, 1.0), Geometry((2, 2), (1, 1))
    for sizes in ([4, 2], [0, 2]):
        with pytest.raises(AssertionError):
            PoolWords.describe(
                source, (2, 2), move, sizes, how=None, dtype=torch.uint8, place=new_tensor
            )


@SEARCH
@given(data=st.data())
def test_changed_images_have_the_sums_of_a_whole_convolution(
    level: Library, data: st.DataObject
) -> None:
    draw = data.draw
    channels, filters = (draw(st.sampled_from([1, 3, 16, 37])) for _ in range(2))
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    padding = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    move = Geometry(stride, padding, dilation)
    sizes = [reach + draw(st.integers(0, 6)) for reach in move.reaches(kernel)]
    dtype, target = draw(st.sampled_from(DTYPES[:2])), draw(st.sampled_from(DTYPES))
    seed, point = draw(st.integers(0, 99)), draw(st.integers(-20, 140))
    known = random_words((4, channels, *sizes), dtype, seed)
    which = torch.randint(0, 4, (draw(st.integers(1, 9)),), generator=make_generator(seed))
    words = known[which]
    changes = [draw(st.sampled_from([0, 1, 5, 30])) for _ in which]
    for number, count in enumerate(changes):
        at = torch.randint(0, words[0].numel(), (count,), generator=make_generator(seed, number))
        flat = words[number].flatten()
        flat[at] = random_words((count,), dtype, number)
        words[number] = flat.reshape(words[number].shape)
    weight = torch.randint(-255, 256, (filters, channels, *kernel), generator=make_generator(seed))

    def sums_of(maps: Tensor) -> Tensor:
        centered = maps.double() - point
        return functional.conv2d(centered, weight.double(), None, stride, padding, dilation).int()

    last = torch.channels_last
    how = replace(how_for(target, draw(st.booleans())), multiplier=torch.rand(filters) / 999)
    most = draw(st.sampled_from([0, 4, 1000]))
    maps = known.contiguous(memory_format=last), sums_of(known).contiguous(memory_format=last)
    job, out, left = ChangedConvolution.describe(
        words.contiguous(memory_format=last),
        maps,
        which,
        weight.to(torch.int16).permute(2, 3, 1, 0).contiguous(),
        geometry=move,
        most=most,
        how=how,
        dtype=target,
    )
    level.run(job)
    differ = (words != known[which]).flatten(1).sum(1)
    assert torch.equal(left, differ > most)
    wanted = as_words(sums_of(words).float() * how.multiplier.reshape(-1, 1, 1), how, target)
    assert torch.equal(out[~left], wanted[~left])
