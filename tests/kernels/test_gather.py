"""Sums of table products by torch alone, against loops."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from bitproof.kernels import gather
from bitproof.kernels.gather import gathered_sums, windows
from bitproof.kernels.geometry import Geometry

Draw = Callable[[int, int], int]


def draw_bytes(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def draw_tables(number: int, low: int, high: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, (number, 256, 256), generator=generator).int()


def places(words: Tensor, size: tuple[int, ...], move: Geometry) -> list[int]:
    pairs = zip(words.shape[2:], size, move.dilation, move.stride, strict=True)
    return [(length - step * (taps - 1) - 1) // hop + 1 for length, taps, step, hop in pairs]


def by_loops(
    words: Tensor, weight: Tensor, tables: Tensor, choice: Tensor, move: Geometry
) -> Tensor:
    """Return the sums, one product after the other, as 32-bit registers keep them."""
    filters, depth, rows, columns = weight.shape
    high, wide = places(words, (rows, columns), move)
    sums = np.zeros((len(words), filters, high, wide), np.int64)
    for n, m, y, x in np.ndindex(*sums.shape):
        table = tables[int(choice[m])].numpy()
        first = m // (filters // move.groups) * depth
        for c, i, j in np.ndindex(depth, rows, columns):
            row = y * move.stride[0] + i * move.dilation[0]
            column = x * move.stride[1] + j * move.dilation[1]
            word = int(words[n, first + c, row, column])
            sums[n, m, y, x] += int(table[word, int(weight[m, c, i, j])])
    return torch.from_numpy(((sums + 2**31) % 2**32 - 2**31).astype(np.int32))


CASES = {
    "one product": ((1, 1, 1, 1), (1, 1, 1, 1), Geometry()),
    "3x3": ((2, 3, 4, 5), (4, 3, 3, 3), Geometry()),
    "stride and dilation": ((2, 2, 8, 9), (3, 2, 2, 3), Geometry((2, 3), (0, 0), (3, 2))),
    "groups": ((2, 6, 4, 3), (9, 2, 2, 2), Geometry(groups=3)),
    "depthwise": ((1, 5, 4, 4), (5, 1, 3, 3), Geometry((2, 2), groups=5)),
    "pixels": ((1, 40, 7, 1), (5, 40, 1, 1), Geometry()),
}


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 255), (-(2**15), 2**15), (-(2**24), 2**24), (-(2**30), 2**30), (-(2**31), 2**31 - 1)],
    ids=["bytes", "products", "2**24", "2**30", "all of int32"],
)
@pytest.mark.parametrize("name", CASES)
def test_sums_equal_those_of_loops(name: str, low: int, high: int) -> None:
    words, weight, move = CASES[name]
    operands = draw_bytes(*words), draw_bytes(*weight, seed=1)
    tables = draw_tables(2, low, high)
    choice = torch.arange(weight[0]) % 2
    found = gathered_sums(*operands, tables, choice, geometry=move)
    assert torch.equal(found, by_loops(*operands, tables, choice, move))


@pytest.mark.parametrize("entry", [2**24 - 1, 2**24, 2**24 + 1, -(2**24) - 1, -(2**31), 2**31 - 1])
def test_sums_of_equal_products_wrap(entry: int) -> None:
    words, weight = draw_bytes(1, 300, 1, 2), draw_bytes(3, 300, 1, 1)
    tables = torch.full((1, 256, 256), entry, dtype=torch.int32)
    choice = torch.zeros(3, dtype=torch.int64)
    found = gathered_sums(words, weight, tables, choice, geometry=Geometry())
    wanted = (300 * entry + 2**31) % 2**32 - 2**31
    assert torch.equal(found, torch.full((1, 3, 1, 2), wanted, dtype=torch.int32))


@pytest.mark.parametrize("rows", [1, 700, 10_000])
def test_the_size_of_slices_has_no_influence(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    words, weight = draw_bytes(2, 9, 4, 4), draw_bytes(5, 9, 2, 2, seed=1)
    tables = draw_tables(5, -(2**15), 2**15)
    choice = torch.arange(5)
    wanted = gathered_sums(words, weight, tables, choice, geometry=Geometry())
    monkeypatch.setattr(gather, "ROWS", rows)
    assert torch.equal(gathered_sums(words, weight, tables, choice, geometry=Geometry()), wanted)


def test_words_may_lie_in_memory_in_any_way() -> None:
    words, weight = draw_bytes(2, 6, 5, 6), draw_bytes(4, 3, 2, 2, seed=1)
    tables, choice = draw_tables(1, -99, 99), torch.zeros(4, dtype=torch.int64)
    move = Geometry(groups=2)
    wanted = gathered_sums(words, weight, tables, choice, geometry=move)
    last = words.contiguous(memory_format=torch.channels_last)
    turned = words.transpose(2, 3).contiguous().transpose(2, 3)
    for same in (last, turned, torch.cat([words, words], 1)[:, :6]):
        assert torch.equal(gathered_sums(same, weight, tables, choice, geometry=move), wanted)


@pytest.mark.parametrize("name", CASES)
def test_windows_hold_what_the_sums_read(name: str) -> None:
    words, (_, _, rows, columns), move = draw_bytes(*CASES[name][0]), *CASES[name][1:]
    found = windows(words, torch.Size((rows, columns)), move)
    high, wide = places(words, (rows, columns), move)
    assert found.shape == (len(words), words.shape[1] * rows * columns, high, wide)
    for y, x in np.ndindex(high, wide):
        top, left = y * move.stride[0], x * move.stride[1]
        (down, across) = move.dilation
        own = words[:, :, top : top + down * (rows - 1) + 1 : down]
        own = own[:, :, :, left : left + across * (columns - 1) + 1 : across]
        assert torch.equal(found[:, :, y, x], own.flatten(1))


@pytest.mark.gpu
def test_sums_are_the_same_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for words, weight, move in CASES.values():
        operands = draw_bytes(*words), draw_bytes(*weight, seed=1)
        tables, choice = draw_tables(2, -(2**30), 2**30), torch.arange(weight[0]) % 2
        wanted = gathered_sums(*operands, tables, choice, geometry=move)
        there = [tensor.cuda() for tensor in (*operands, tables, choice)]
        assert torch.equal(gathered_sums(*there, geometry=move).cpu(), wanted)
