import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.kernels import threads
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import Addend, Convolution, Requantization
from bitproof.kernels.library import LEVELS, Library, find_library, levels, library, why_absent

pytestmark = pytest.mark.skipif(not levels(), reason=why_absent() or "no library")
EXTREMES = torch.tensor([0, 1, 15, 16, 127, 128, 129, 143, 144, 254, 255], dtype=torch.uint8)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Library:
    found = find_library(request.param)[0]
    if found is None:
        pytest.skip(f"this processor has no {request.param}")
    return found


@dataclass(frozen=True)
class Case:
    words: tuple[int, int, int, int]
    filters: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    planes: int = 2
    tables: int = 1
    zero: bool = False
    signed: bool = False
    below_128: bool = False


CASES = {
    "one pixel, one term": Case((1, 1, 1, 1), 1),
    "3x3": Case((2, 3, 7, 9), 4, (3, 3)),
    "3x3 of one plane": Case((2, 3, 7, 9), 4, (3, 3), planes=1),
    "a table for each filter": Case((2, 3, 5, 6), 5, (3, 3), tables=5, zero=True),
    "signed words, one plane": Case((2, 3, 5, 6), 3, (2, 3), planes=1, zero=True, signed=True),
    "words below 128": Case((1, 4, 12, 12), 3, (3, 3), below_128=True, zero=True),
    "words below 128, one plane": Case((1, 4, 12, 12), 3, (3, 3), planes=1, below_128=True),
    "stride 2": Case((2, 3, 9, 70), 3, (3, 3), stride=(2, 2)),
    "stride 2 of long rows": Case((1, 2, 3, 151), 2, (1, 3), stride=(1, 2)),
    "stride 3 by 1": Case((2, 3, 10, 8), 3, (3, 2), stride=(3, 1)),
    "stride 1 by 3": Case((2, 3, 10, 23), 3, (3, 2), stride=(1, 3), zero=True),
    "stride over 1x1": Case((3, 5, 9, 9), 3, stride=(2, 2)),
    "dilation": Case((2, 2, 11, 13), 3, (3, 3), dilation=(2, 3)),
    "groups": Case((2, 6, 6, 6), 9, (3, 3), groups=3, tables=2, zero=True),
    "depthwise": Case((2, 7, 6, 5), 7, (3, 3), groups=7, zero=True),
    "depthwise with multiplier": Case((1, 4, 6, 5), 8, (3, 3), groups=4, stride=(2, 2)),
    "columns only": Case((2, 3, 9, 5), 2, (5, 1)),
    "images of one pixel": Case((300, 13, 1, 1), 5),
    "images of one pixel in groups": Case((70, 24, 1, 1), 4, groups=2),
    "one output of larger images": Case((67, 3, 3, 3), 4, (3, 3)),
    "images of four pixels": Case((70, 3, 2, 2), 3),
    "127 terms": Case((1, 127, 2, 3), 2, zero=True),
    "128 terms": Case((1, 128, 2, 3), 2, zero=True),
    "129 terms": Case((1, 129, 2, 3), 2, zero=True),
    "300 terms": Case((1, 300, 3, 3), 2, (1, 1), zero=True, signed=True),
    "more filters than a pass": Case((1, 2, 3, 3), 300, zero=True),
    **{f"{pixels} pixels": Case((1, 2, 1, pixels), 2) for pixels in (63, 64, 65, 127, 128, 129)},
    **{f"{pixels} pixels": Case((1, 2, 1, pixels), 2) for pixels in (192, 255, 256, 257, 600)},
}


@dataclass(frozen=True)
class Operands:
    words: Tensor
    weight: Tensor
    planes: Tensor
    choice: Tensor
    start: Tensor
    weight_zero: Tensor | None


def draw(case: Case, seed: int = 0) -> Operands:
    generator = torch.Generator().manual_seed(seed)

    def draw_bytes(*shape: int) -> Tensor:
        anything = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        extreme = EXTREMES[torch.randint(0, len(EXTREMES), shape, generator=generator)]
        return torch.where(torch.rand(shape, generator=generator) < 0.5, extreme, anything)

    words = draw_bytes(*case.words)
    filters, channels = case.filters, case.words[1] // case.groups
    limit = 2**31
    return Operands(
        words=words & 127 if case.below_128 else words,
        weight=draw_bytes(filters, channels, *case.kernel),
        planes=draw_bytes(case.tables, 256, case.planes, 256),
        choice=torch.arange(filters, dtype=torch.int32) % case.tables,
        start=torch.randint(-limit, limit, (filters,), generator=generator).int(),
        weight_zero=torch.randint(-limit, limit, (filters,), generator=generator).int()
        if case.zero
        else None,
    )


def sums_of(
    library: Library,
    case: Case,
    operands: Operands,
    how: Requantization | None = None,
    addend: Tensor | None = None,
) -> Tensor:
    job, out = Convolution.describe(
        operands.words,
        operands.weight,
        operands.planes,
        operands.choice,
        geometry=Geometry(case.stride, (0, 0), case.dilation, case.groups),
        start=operands.start,
        weight_zero=operands.weight_zero,
        signed_words=case.signed,
        addend=addend,
        how=how,
    )
    return library.convolve(job, out)


def sums_by_loops(case: Case, operands: Operands) -> Tensor:
    words, weight = operands.words.numpy(), operands.weight.numpy()
    planes = operands.planes.numpy().astype(np.int64)
    products = planes[:, :, 0] + (256 * planes[:, :, 1] if case.planes == 2 else 0)
    values = (words.view(np.int8) if case.signed else words).astype(np.int64)
    filters, depth, rows, columns = weight.shape
    height = (words.shape[2] - case.dilation[0] * (rows - 1) - 1) // case.stride[0] + 1
    width = (words.shape[3] - case.dilation[1] * (columns - 1) - 1) // case.stride[1] + 1
    sums = np.zeros((len(words), filters, height, width), dtype=np.int64)
    for m in range(filters):
        sums[:, m] = int(operands.start[m])
        zero = 0 if operands.weight_zero is None else int(operands.weight_zero[m])
        group = m // (filters // case.groups)
        for c, i, j in np.ndindex(depth, rows, columns):
            top, left = i * case.dilation[0], j * case.dilation[1]
            seen = (
                slice(None),
                group * depth + c,
                slice(top, top + (height - 1) * case.stride[0] + 1, case.stride[0]),
                slice(left, left + (width - 1) * case.stride[1] + 1, case.stride[1]),
            )
            table = products[int(operands.choice[m]), weight[m, c, i, j]]
            sums[:, m] += table[words[seen]] - zero * values[seen]
    return torch.from_numpy(sums.astype(np.int32))


def requantized_by_torch(sums: Tensor, how: Requantization) -> Tensor:
    multiplier = how.multiplier.reshape(-1, 1, 1)
    values = sums.float() * multiplier
    if how.truncate:
        values = values.add(how.zero_point).trunc()
    else:
        values = values.round().add(how.zero_point)
    return values.clamp(how.low, how.high).to(how.dtype)


@pytest.mark.parametrize("name", CASES)
def test_sums_equal_those_of_loops(level: Library, name: str) -> None:
    case = CASES[name]
    operands = draw(case)
    assert torch.equal(sums_of(level, case, operands), sums_by_loops(case, operands))


def draw_numbers(shape: tuple[int, ...]) -> Tensor:
    """Return whole numbers that float32 holds, as far from 0 as it allows."""
    most = 2**24
    generator = torch.Generator().manual_seed(3)
    return torch.randint(1 - most, most, shape, generator=generator).float()


@pytest.mark.parametrize("name", CASES)
def test_numbers_that_are_added_are_in_the_sums(level: Library, name: str) -> None:
    case = CASES[name]
    operands = draw(case)
    sums = sums_by_loops(case, operands)
    addend = draw_numbers(tuple(sums.shape))
    last = addend.to(memory_format=torch.channels_last)
    expected = sums + addend.int()
    assert torch.equal(sums_of(level, case, operands, addend=addend), expected)
    assert torch.equal(sums_of(level, case, operands, addend=last), expected)


@pytest.mark.parametrize("filters", [1, 15, 16, 17, 40, 270])
@pytest.mark.parametrize("side", [1, 3, 5, 17])
def test_numbers_with_channels_last_are_added_to_their_own_pixels(
    level: Library, filters: int, side: int
) -> None:
    case = Case((3, 2, side, side), filters)
    operands = draw(case)
    addend = draw_numbers((3, filters, side, side)).to(memory_format=torch.channels_last)
    expected = sums_by_loops(case, operands) + addend.int()
    assert torch.equal(sums_of(level, case, operands, addend=addend), expected)


@pytest.mark.parametrize("truncate", [False, True])
def test_numbers_are_added_before_sums_are_requantized(level: Library, truncate: bool) -> None:
    case = Case((2, 8, 9, 9), 20, (3, 3), planes=1)
    operands = replace(draw(case), start=torch.full((20,), -9000, dtype=torch.int32))
    addend = draw_numbers((2, 20, 7, 7)).div(1000).round()
    expected_sums = sums_by_loops(case, operands) + addend.int()
    how = Requantization(torch.linspace(0.001, 0.02, 20), 100, 3, 250, truncate)
    expected = requantized_by_torch(expected_sums, how)
    assert len(set(expected.flatten().tolist())) > 50
    for maps in (addend, addend.to(memory_format=torch.channels_last)):
        assert torch.equal(sums_of(level, case, operands, how, maps), expected)


def test_numbers_that_do_not_fit_are_refused(level: Library) -> None:
    case = Case((1, 3, 5, 5), 4, (3, 3))
    operands = draw(case)
    for wrong in (torch.zeros(1, 4, 3, 4), torch.zeros(1, 4, 3, 3).int(), torch.zeros(1, 4, 3)):
        with pytest.raises((AssertionError, TypeCheckError)):
            sums_of(level, case, operands, addend=wrong)
    with pytest.raises(AssertionError):
        sums_of(level, case, operands, addend=torch.zeros(1, 4, 6, 3)[:, :, ::2])


@pytest.mark.parametrize("seed", range(30))
def test_any_convolution_equals_loops(level: Library, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def pick(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    groups, kernel = pick(1, 3), (pick(1, 3), pick(1, 3))
    dilation = pick(1, 2), pick(1, 2)
    least = [dilation[side] * (kernel[side] - 1) + 1 for side in (0, 1)]
    case = Case(
        words=(pick(1, 5), groups * pick(1, 9), least[0] + pick(0, 8), least[1] + pick(0, 30)),
        filters=groups * pick(1, 3),
        kernel=kernel,
        stride=(pick(1, 3), pick(1, 3)),
        dilation=dilation,
        groups=groups,
        planes=pick(1, 2),
        tables=pick(1, 3),
        zero=bool(pick(0, 1)),
        signed=bool(pick(0, 1)),
        below_128=bool(pick(0, 1)),
    )
    operands = draw(case, seed)
    assert torch.equal(sums_of(level, case, operands), sums_by_loops(case, operands))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("truncate", [False, True])
def test_words_equal_those_of_torch(level: Library, truncate: bool, signed: bool) -> None:
    case = Case((2, 30, 9, 9), 6, (3, 3), zero=True, signed=signed)
    operands = replace(draw(case), weight_zero=torch.full((6,), 128, dtype=torch.int32))
    operands = replace(operands, start=torch.zeros(6, dtype=torch.int32))
    middle = sums_by_loops(case, operands).double().mean((0, 2, 3))
    operands = replace(operands, start=-middle.int())
    multiplier = torch.tensor([1e-4, 2.0**-14, 2.0**-15, 3e-5, 1e30, float("inf")])
    how = Requantization(
        multiplier, -3 if signed else 7, -100 if signed else 1, 99, truncate, signed
    )
    sums = sums_by_loops(case, operands)
    assert (sums != 0).all()
    expected = requantized_by_torch(sums, how)
    assert len(set(expected.flatten().tolist())) > 20
    assert torch.equal(sums_of(level, case, operands, how), expected)
    single = replace(how, multiplier=multiplier[:1])
    assert torch.equal(sums_of(level, case, operands, single), requantized_by_torch(sums, single))


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("factor", [0.5, -0.5, 0.25, 1 / 3, 2.0**-24])
def test_ties_and_large_sums_are_requantized_as_by_torch(
    level: Library, truncate: bool, factor: float
) -> None:
    near = torch.arange(-600, 600)
    powers = 2 ** torch.arange(31).repeat_interleave(5) + torch.arange(-2, 3).repeat(31)
    start = torch.cat([near, powers, -powers, torch.tensor([2**31 - 1, -(2**31)])])
    start = start.clamp(-(2**31), 2**31 - 1).int()
    case = Case((1, 1, 1, 1), len(start))
    operands = replace(draw(case), start=start, planes=torch.zeros_like(draw(case).planes))
    for zero_point, signed in ((0, False), (128, False), (-1, True)):
        low, high = (-128, 127) if signed else (0, 255)
        how = Requantization(torch.tensor([factor]), zero_point, low, high, truncate, signed)
        expected = requantized_by_torch(start.reshape(1, -1, 1, 1), how)
        assert torch.equal(sums_of(level, case, operands, how), expected)
        sums = start.float().reshape(1, -1, 1, 1)
        assert torch.equal(level.requantize(sums, how), expected)


def test_threads_do_not_change_sums(level: Library, two_threads: None) -> None:
    how = Requantization(torch.tensor([1e-4]), 3, 0, 255)
    for case in (
        Case((3, 64, 20, 20), 32, (3, 3), zero=True),
        Case((1, 512, 9, 9), 40, (3, 3), zero=True),
        Case((64, 300, 1, 1), 300, groups=2),
    ):
        operands = draw(case)
        many = sums_of(level, case, operands), sums_of(level, case, operands, how)
        addend = draw_numbers(tuple(many[0].shape)).to(memory_format=torch.channels_last)
        more = sums_of(level, case, operands, addend=addend)
        torch.set_num_threads(1)
        alone = sums_of(level, case, operands), sums_of(level, case, operands, how)
        torch.set_num_threads(2)
        assert torch.equal(many[0], alone[0])
        assert torch.equal(many[1], alone[1])
        assert torch.equal(more, alone[0] + addend.int())


def test_callers_may_be_threads_themselves(level: Library) -> None:
    case = Case((2, 8, 20, 20), 8, (3, 3), zero=True)
    draws = [draw(case, seed) for seed in range(4)]
    expected = [sums_by_loops(case, operands) for operands in draws]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda operands: sums_of(level, case, operands), draws))
    assert all(map(torch.equal, found, expected))


def test_channels_last_words_are_taken(level: Library) -> None:
    case = Case((2, 8, 6, 6), 4, (3, 3))
    operands = draw(case)
    last = operands.words.to(memory_format=torch.channels_last)
    found = sums_of(level, case, replace(operands, words=last))
    assert torch.equal(found, sums_by_loops(case, operands))


def test_no_images_give_no_sums(level: Library) -> None:
    case = Case((1, 3, 5, 5), 4, (3, 3))
    operands = draw(case)
    found = sums_of(level, case, replace(operands, words=operands.words[:0]))
    assert found.shape == (0, 4, 3, 3)


def test_sizes_that_do_not_fit_are_refused(level: Library) -> None:
    case = Case((1, 3, 5, 5), 4, (3, 3))
    operands = draw(case)
    for wrong in (
        replace(operands, words=operands.words[:, :2]),
        replace(operands, words=operands.words.view(torch.int8)),
        replace(operands, choice=operands.choice + 1),
        replace(operands, start=operands.start[:2]),
        replace(operands, start=operands.start.long()),
        replace(operands, planes=operands.planes[:, :128]),
        replace(operands, words=operands.words[:, :, :2]),
        replace(operands, weight=operands.weight.transpose(2, 3)),
    ):
        with pytest.raises((AssertionError, TypeCheckError)):
            sums_of(level, case, wrong)


@pytest.mark.parametrize("size", [0, 1, 31, 63, 64, 65, 127, 128, 1000])
def test_remap_equals_indexing(level: Library, size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    table = torch.randperm(256, generator=generator).to(torch.uint8)
    words = torch.randint(0, 256, (size,), generator=generator, dtype=torch.uint8)
    assert torch.equal(level.remap(words, table), table[words.int()])


def test_remap_covers_all_words(level: Library) -> None:
    table = torch.arange(255, -1, -1).to(torch.uint8)
    words = torch.arange(256).to(torch.uint8)
    assert torch.equal(level.remap(words, table), table)


def test_remap_wants_contiguous_words(level: Library) -> None:
    table = torch.arange(255, -1, -1).to(torch.uint8)
    words = draw(Case((2, 3, 4, 5), 1)).words
    assert torch.equal(level.remap(words, table), 255 - words)
    with pytest.raises(AssertionError):
        level.remap(words[:, :, 1:-1], table)


def test_remap_by_threads_equals_indexing(level: Library, two_threads: None) -> None:
    generator = torch.Generator().manual_seed(1)
    table = torch.randperm(256, generator=generator).to(torch.uint8)
    words = torch.randint(0, 256, (9, 1 << 20), generator=generator, dtype=torch.uint8)
    assert torch.equal(level.remap(words, table), table[words.int()])


@pytest.mark.parametrize("terms", [1, 2, 5])
@pytest.mark.parametrize("channels", [1, 3, 16, 31, 32, 63, 64, 65, 130])
def test_terms_are_the_words_through_each_table(level: Library, channels: int, terms: int) -> None:
    generator = torch.Generator().manual_seed(channels)
    shape = 3, channels, 5, 8
    words = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    tables = torch.randint(0, 256, (terms, 256), generator=generator, dtype=torch.uint8)
    expected = torch.cat([table[words.int()] for table in tables], 1)
    found = level.remap_terms(words, tables)
    assert found.is_contiguous()
    assert torch.equal(found, expected)
    last = level.remap_terms(words.to(memory_format=torch.channels_last), tables)
    assert last.is_contiguous(memory_format=torch.channels_last) or channels == 1
    assert torch.equal(last, expected)


def test_terms_of_long_rows_and_of_none(level: Library, two_threads: None) -> None:
    tables = torch.stack([torch.arange(256), torch.arange(255, -1, -1)]).to(torch.uint8)
    for shape in ((2, 3, 70, 71), (5, 16, 200, 200), (0, 3, 4, 4)):
        words = draw(Case(shape, 1)).words
        for maps in (words, words.to(memory_format=torch.channels_last)):
            assert torch.equal(level.remap_terms(maps, tables), torch.cat([words, 255 - words], 1))


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (3, 33, 1, 1), (1, 1, 9, 9), (2, 70, 3, 3)])
def test_scaled_and_shifted_sums_are_requantized_as_by_torch(
    level: Library, shape: tuple[int, int, int, int], truncate: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    sums = (torch.randn(shape, generator=generator) * 200).round()
    start = torch.randint(-(2**12), 2**12, (shape[1],), generator=generator).float()
    multiplier = torch.rand(shape[1], generator=generator) / 64 + 0.01
    for how in (
        Requantization(multiplier, 105, 0, 200, truncate),
        Requantization(torch.tensor([1 / 32]), -5, -128, 120, truncate, signed=True),
    ):
        for scale in (1.0, -16.0, 3.0):
            for begin in (start, None):
                shift = 0 if begin is None else begin.reshape(-1, 1, 1)
                expected = requantized_by_torch(sums * scale + shift, how)
                for maps in (sums, sums.to(memory_format=torch.channels_last)):
                    found = level.requantize(maps, how, scale=scale, start=begin)
                    assert torch.equal(found, expected)
                    assert found.stride() == maps.stride()


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (3, 33, 1, 1), (1, 1, 9, 9), (2, 70, 3, 3)])
def test_float_sums_are_requantized_as_by_torch(
    level: Library, shape: tuple[int, int, int, int], truncate: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    sums = (torch.randn(shape, generator=generator) * 2000).round() / 2
    sums.view(-1)[:4] = torch.tensor([float("inf"), -float("inf"), 3e38, -3e38])[: sums.numel()]
    multiplier = torch.rand(shape[1], generator=generator) / 4 + 0.01
    for how in (
        Requantization(multiplier, 5, 0, 200, truncate),
        Requantization(torch.tensor([0.25]), -5, -128, 120, truncate, signed=True),
    ):
        expected = requantized_by_torch(sums, how)
        assert torch.equal(level.requantize(sums, how), expected)
        last = level.requantize(sums.to(memory_format=torch.channels_last), how)
        assert torch.equal(last, expected)
        assert last.is_contiguous(memory_format=torch.channels_last)


def test_float_sums_requantized_by_threads_are_the_same(level: Library, two_threads: None) -> None:
    sums = torch.randn(8, 64, 64, 64, generator=torch.Generator().manual_seed(0)) * 100
    how = Requantization(torch.rand(64), 7, 0, 255)
    expected = requantized_by_torch(sums, how)
    assert torch.equal(level.requantize(sums, how), expected)
    last = sums.to(memory_format=torch.channels_last)
    assert torch.equal(level.requantize(last, how), expected)


@pytest.mark.parametrize("pieces", [1, 2, 3, 23, 24, 25, 1000])
@pytest.mark.parametrize("has_open_mp", [True, False])
def test_each_piece_is_done_once(
    monkeypatch: pytest.MonkeyPatch, two_threads: None, pieces: int, has_open_mp: bool
) -> None:
    if not has_open_mp:
        monkeypatch.setattr(threads, "_open_mp", lambda: None)
    done: list[int] = []
    threads.share(lambda first, last: done.extend(range(first, last)), pieces, 1 << 30)
    assert sorted(done) == list(range(pieces))


@pytest.mark.parametrize("has_open_mp", [True, False])
def test_what_a_thread_raises_reaches_the_caller(
    monkeypatch: pytest.MonkeyPatch, two_threads: None, has_open_mp: bool
) -> None:
    if not has_open_mp:
        monkeypatch.setattr(threads, "_open_mp", lambda: None)

    def fail(first: int, last: int) -> int:
        if first:
            raise ValueError(f"piece {last}")
        return 0

    with pytest.raises(ValueError, match="piece"):
        threads.share(fail, 100, 1 << 30)
    with pytest.raises(MemoryError, match="wanted scratch memory"):
        threads.share(lambda first, _: -1 if first else 0, 100, 1 << 30)


def test_the_library_takes_the_highest_level() -> None:
    if "BITPROOF_KERNELS" in os.environ:
        pytest.skip("BITPROOF_KERNELS names a level")
    found = library()
    assert found is not None
    assert found.level == levels()[-1]
    assert why_absent() == ""


@pytest.mark.parametrize(
    ("wanted", "level", "reason"),
    [
        ("portable", "portable", ""),
        ("none", "None", "the C library is switched off: BITPROOF_KERNELS is none"),
        ("sse9", "None", "BITPROOF_KERNELS: wanted none or one of "),
    ],
)
def test_the_environment_names_a_level(
    monkeypatch: pytest.MonkeyPatch, wanted: str, level: str, reason: str
) -> None:
    monkeypatch.setenv("BITPROOF_KERNELS", wanted)
    library.cache_clear()
    try:
        found = library()
        assert (found.level if found else "None") == level
        assert why_absent().startswith(reason)
        assert bool(why_absent()) == bool(reason)
    finally:
        library.cache_clear()


@pytest.mark.slow
def test_a_forked_process_makes_its_own_threads() -> None:
    # Compared by numpy: torch's own threads do not survive a fork.
    code = """
import os, torch
from bitproof.kernels.library import library
torch.set_num_threads(2)
words = torch.zeros(1 << 24, dtype=torch.uint8)
table = torch.full((256,), 3, dtype=torch.uint8)
assert (library().remap(words, table).numpy() == 3).all()
if os.fork() == 0:
    os._exit(0 if (library().remap(words, table).numpy() == 3).all() else 1)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("dtypes", [(torch.uint8, torch.uint8), (torch.int8, torch.uint8)])
def test_words_are_added_as_torch_adds_them(
    level: Library, dtypes: tuple[torch.dtype, torch.dtype], truncate: bool
) -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    left = codes.repeat_interleave(256).view(dtypes[0]).reshape(2, 8, 64, 64)
    right = codes.repeat(256).view(dtypes[1]).reshape(2, 8, 64, 64)
    first, second = Addend(left, 3, 0.3), Addend(right, -7, 0.5)
    how = Requantization(torch.ones(1), 100, 5, 250, truncate)
    sums = (left.float() - 3) * 0.3 + (right.float() + 7) * 0.5
    assert torch.equal(level.add(first, second, how, torch.uint8), requantized_by_torch(sums, how))
    last = torch.channels_last
    moved = [replace(one, words=one.words.to(memory_format=last)) for one in (first, second)]
    found = level.add(moved[0], moved[1], how, torch.uint8)
    assert found.is_contiguous(memory_format=last)
    assert torch.equal(found, requantized_by_torch(sums, how))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
def test_long_words_are_added_and_change_their_grid(level: Library, dtype: torch.dtype) -> None:
    generator = make_generator(0)
    left = torch.randint(-(2**15), 2**15, (3, 700), generator=generator).to(torch.int16)
    right = torch.randint(0, 256, (3, 700), generator=generator).to(torch.uint8)
    bounds = torch.iinfo(dtype)
    how = Requantization(torch.ones(1), 7, bounds.min, bounds.max)
    first, second = Addend(left, 0, 0.013), Addend(right, 9, 21.7)
    real = left.float() * torch.tensor(0.013), (right.float() - 9) * torch.tensor(21.7)
    for found, sums in (
        (level.add(first, second, how, dtype), real[0] + real[1]),
        (level.add(first, None, how, dtype), real[0]),
    ):
        assert torch.equal(found, (sums.round() + 7).clamp(bounds.min, bounds.max).to(dtype))
