"""Compared with arrays of gates: cells, full adders, and Baugh and Wooley's constants."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.approx import (
    BrokenArray,
    Exact,
    Formula,
    Kulkarni,
    LowerOr,
    Perforated,
    Truncated,
    TruncatedOperands,
    error_figures,
)
from bitproof.approx.figures import relative_errors
from bitproof.approx.partial_products import lower_or_sum

GOLDEN = Path(__file__).parent / "golden" / "ariths_gen.npz"

Bits = np.ndarray
Keep = Callable[[int, int], bool]


def array_of_gates(keep: Keep, *, signed: bool) -> torch.Tensor:
    """Return the sums of the cells (i, j) that are kept, made by full adders alone."""
    first, second = np.indices((256, 256))
    columns: list[list[Bits]] = [[] for _ in range(16)]
    constant = 0
    for i, j in filter(lambda cell: keep(*cell), product(range(8), range(8))):
        cell = (first >> i & second >> j & 1).astype(bool)
        if signed and (i == 7) != (j == 7):
            # Minus a cell is its complement minus one.
            cell, constant = ~cell, constant - (1 << (i + j))
        columns[i + j].append(cell)
    for place in range(16):
        columns[place].append(np.full((256, 256), constant >> place & 1, dtype=bool))
    products = added(columns)
    if signed:
        products = (products + (1 << 15)) % (1 << 16) - (1 << 15)
    return torch.from_numpy(products).int()


def added(columns: list[list[Bits]]) -> np.ndarray:
    """Return the sums of columns of bits, of which each has at least one, modulo 2**16."""
    codes = np.zeros((256, 256), dtype=np.int64)
    for place, bits in enumerate(columns):
        while len(bits) > 1:
            x, y, z = bits.pop(), bits.pop(), bits.pop() if bits else np.zeros((256, 256), bool)
            bits.append(x ^ y ^ z)
            if place < 15:
                columns[place + 1].append(x & y | z & (x ^ y))
        codes += bits[0].astype(np.int64) << place
    return codes


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("multiplier", "keep"),
    [
        (Exact(), lambda i, j: i + j >= 0),
        (Truncated(columns=5), lambda i, j: i + j >= 5),
        (BrokenArray(rows=2, columns=6), lambda i, j: j >= 2 and i + j >= 6),
        (BrokenArray(rows=6, columns=1), lambda i, j: j >= 6 and i + j >= 1),
        (Perforated(start=2, rows=3), lambda i, j: i >= 0 and not 2 <= j < 5),
    ],
)
def test_the_array_of_gates_says_the_same(multiplier: Formula, keep: Keep, signed: bool) -> None:
    spec = type(multiplier).model_validate({**multiplier.model_dump(), "signed": signed})
    assert torch.equal(spec.table().products, array_of_gates(keep, signed=signed))


def test_unsigned_columns_may_reach_the_sign_bits() -> None:
    gates = array_of_gates(lambda i, j: i + j >= 11, signed=False)
    assert torch.equal(Truncated(columns=11).table().products, gates)


def test_an_independent_generator_says_the_same() -> None:
    with np.load(GOLDEN, allow_pickle=False) as golden:
        assert len(golden.files) == 6
        for name in golden.files:
            kind, settings = (
                name.rsplit("_", 1)[0],
                [int(n) for n in name.split("_") if n.isdigit()],
            )
            multiplier = (
                TruncatedOperands(bits=settings[0])
                if kind == "truncated_operands"
                else BrokenArray(rows=settings[0], columns=settings[1])
            )
            assert np.array_equal(multiplier.table().products.numpy(), golden[name])


@pytest.mark.parametrize("columns", range(8))
def test_truncation_errs_by_the_sum_of_its_cells(columns: int) -> None:
    # Schulte and Swartzlander: (k - 1) 2^k + 1 at worst, a quarter of it on average.
    figures = error_figures(Truncated(columns=columns).table())
    assert figures.wce == (columns - 1) * 2**columns + 1
    assert figures.bias == -figures.wce / 4


@pytest.mark.parametrize(("start", "rows"), [(0, 1), (0, 4), (3, 2), (1, 7)])
def test_perforation_errs_by_the_first_operand_times_the_missing_bits(
    start: int, rows: int
) -> None:
    # Zervakis et al.: the error is A times the perforated bits of B.
    figures = error_figures(Perforated(start=start, rows=rows).table())
    assert figures.wce == 255 * (2**rows - 1) * 2**start
    assert figures.bias == -127.5 * (2**rows - 1) / 2 * 2**start


def test_a_broken_array_without_rows_is_truncated() -> None:
    broken, truncated = BrokenArray(rows=0, columns=6), Truncated(columns=6)
    assert torch.equal(broken.table().products, truncated.table().products)


def test_rows_of_the_first_operand_are_the_other_way_round() -> None:
    table = BrokenArray(rows=3, columns=4).table()
    assert torch.equal(
        table.swapped().products, array_of_gates(lambda i, j: i >= 3 and i + j >= 4, signed=False)
    )


def test_operands_lose_their_lowest_bits() -> None:
    codes = torch.arange(256)
    kept = codes - codes % 8
    assert torch.equal(TruncatedOperands(bits=3).table().products.long(), torch.outer(kept, kept))
    values = codes - 256 * (codes > 127)
    kept = values - codes % 8
    signed = TruncatedOperands(bits=3, signed=True)
    assert torch.equal(signed.table().products.long(), torch.outer(kept, kept))


@pytest.mark.parametrize(
    "table", [{"columns": 8, "signed": True}, {"columns": 16}, {"columns": -1}]
)
def test_columns_out_of_range_are_refused(table: dict[str, object]) -> None:
    for spec in (Truncated, BrokenArray):
        with pytest.raises(ValueError, match="columns"):
            spec.model_validate(table)


@pytest.mark.parametrize(
    "table", [{"start": 6, "rows": 3}, {"start": 6, "rows": 2, "signed": True}]
)
def test_rows_out_of_range_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="start \\+ rows of at most"):
        Perforated.model_validate(table)


def add_by_gates(x: np.ndarray, y: np.ndarray, low: int) -> np.ndarray:
    """Add 16-bit words: OR gates below `low`, then a chain of full adders."""
    total = np.zeros_like(x)
    carry = (x >> low - 1) & (y >> low - 1) & 1
    for place in range(16):
        a, b = x >> place & 1, y >> place & 1
        if place < low:
            total |= (a | b) << place
        else:
            total |= (a ^ b ^ carry) << place
            carry = (a + b + carry) // 2
    return total


@pytest.mark.parametrize("columns", [1, 4, 9, 15])
def test_rows_are_added_by_or_gates_and_full_adders(columns: int) -> None:
    first, second = np.indices((256, 256))
    total = np.zeros_like(first)
    for row in range(8):
        total = add_by_gates(total, np.where(second >> row & 1, first << row, 0), columns)
    assert np.array_equal(LowerOr(columns=columns).table().products.numpy(), total)


@pytest.mark.parametrize("columns", [2, 6, 10])
def test_the_order_of_the_additions_does_not_matter(columns: int) -> None:
    first, second = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    rows = [torch.where(second >> row & 1 == 1, first << row, 0) for row in range(8)]
    while len(rows) > 1:
        rows = [lower_or_sum(x, y, columns) for x, y in zip(rows[::2], rows[1::2], strict=True)]
    assert torch.equal(LowerOr(columns=columns).table().products.long(), rows[0])


@pytest.mark.parametrize("low", [1, 3, 6, 8])
def test_the_adder_is_a_quarter_too_much_on_average(low: int) -> None:
    # The OR loses x & y, (2^l - 1) / 4 on average; the carry gives back 2^l / 4.
    x, y = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    errors = lower_or_sum(x, y, low) - x - y
    assert float(errors.double().mean()) == 0.25


def test_the_adder_is_exact_where_no_low_bits_meet() -> None:
    x, y = torch.arange(256) << 4, torch.arange(256).flip(0) << 4
    assert torch.equal(lower_or_sum(x, y, 4), x + y)


def test_one_column_is_exact() -> None:
    # Only row 0 has a bit in column 0.
    assert torch.equal(LowerOr(columns=1).table().products, Exact().table().products)


def test_signs_go_round_adders_with_or_gates() -> None:
    signed, unsigned = LowerOr(columns=6, signed=True).table(), LowerOr(columns=6).table()
    assert int(signed.products[256 - 77, 100]) == -int(unsigned.products[77, 100])
    assert int(signed.products[128, 128]) == int(unsigned.products[128, 128])


def recursive(first: np.ndarray, second: np.ndarray, bits: int) -> np.ndarray:
    """Return products of four multipliers of half the width, down to the block's truth table."""
    if bits == 2:
        block: np.ndarray = np.array([[0, 0, 0, 0], [0, 1, 2, 3], [0, 2, 4, 6], [0, 3, 6, 7]])
        product: np.ndarray = block[first, second]
        return product
    half = bits // 2
    mask = (1 << half) - 1
    low = recursive(first & mask, second & mask, half)
    high = recursive(first >> half, second >> half, half)
    cross = recursive(first >> half, second & mask, half)
    cross = cross + recursive(first & mask, second >> half, half)
    whole: np.ndarray = (high << bits) + (cross << half) + low
    return whole


def test_blocks_in_blocks_say_the_same() -> None:
    first, second = np.indices((256, 256))
    products = Kulkarni().table().products.numpy()
    assert np.array_equal(products, recursive(first, second, 8))


def test_each_pair_of_threes_is_two_too_small() -> None:
    codes = torch.arange(256)
    threes = torch.stack([(codes >> 2 * place & 3 == 3).long() << 2 * place for place in range(4)])
    weight = threes.sum(0)
    assert torch.equal(Kulkarni().table().errors.long(), -2 * weight.outer(weight))


def test_the_block_has_the_published_error() -> None:
    # VLSI Design 2011: 22.22 % at worst, 1.39 % on average over the 16 pairs of the block.
    table = Kulkarni().table()
    errors = table.errors[:4, :4].abs().double() / table.exact[:4, :4].clamp(min=1).double()
    assert float(errors.max()) == 2 / 9
    assert float(errors.mean()) == 2 / 9 / 16


def test_wider_multipliers_stay_in_the_published_range() -> None:
    # Abstract: average errors from 1.39 % to 3.32 %, here over all pairs; the worst stays 2 / 9.
    table = Kulkarni().table()
    mean = 100 * error_figures(table).mred * 65025 / 65536
    assert 1.39 < mean < 3.32
    assert float(relative_errors(table).max()) == 2 / 9
