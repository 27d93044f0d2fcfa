import numpy as np
import pytest
import torch

from bitproof.approx import Exact, LowerOr
from bitproof.approx.lower_or import lower_or_sum


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


def test_signs_go_round_the_multiplier() -> None:
    signed, unsigned = LowerOr(columns=6, signed=True).table(), LowerOr(columns=6).table()
    assert int(signed.products[256 - 77, 100]) == -int(unsigned.products[77, 100])
    assert int(signed.products[128, 128]) == int(unsigned.products[128, 128])
