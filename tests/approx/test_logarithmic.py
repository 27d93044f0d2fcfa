"""Compared with logarithms in float64, which are exact here, and with METHODS C.2."""

import numpy as np
import pytest
import torch

from bitproof.approx import Mitchell, TruncatedMitchell, error_figures
from bitproof.approx.figures import relative_errors
from bitproof.approx.logarithmic import leading_one


def by_logarithms(mantissa: int) -> np.ndarray:
    """Return products by piecewise linear logarithms with `mantissa` bits, rounded down."""
    numbers = np.arange(1, 256, dtype=np.float64)
    power = 2.0 ** np.array([int(n).bit_length() - 1 for n in numbers])
    fraction = np.floor((numbers / power - 1) * 2**mantissa) / 2**mantissa
    logarithm = np.log2(power) + fraction
    total = logarithm[:, None] + logarithm
    whole = np.floor(total)
    products = np.zeros((256, 256), dtype=np.int64)
    products[1:, 1:] = np.floor(2.0**whole * (1 + total - whole))
    return products


@pytest.mark.parametrize("mantissa", range(1, 8))
def test_sums_of_logarithms_say_the_same(mantissa: int) -> None:
    table = TruncatedMitchell(mantissa=mantissa).table()
    assert np.array_equal(table.products.numpy(), by_logarithms(mantissa))


def test_seven_bits_are_mitchells_multiplier() -> None:
    assert torch.equal(TruncatedMitchell(mantissa=7).table().products, Mitchell().table().products)


@pytest.mark.parametrize(
    ("mantissa", "mred", "nmed", "wcre", "bias"),
    [
        (7, 3.788, 0.933, 11.11, -3.79),
        (6, 4.049, 1.030, 12.03, -4.05),
        (5, 4.828, 1.274, 13.83, -4.83),
        (4, 6.619, 1.780, 17.26, -6.62),
        (3, 10.35, 2.782, 23.53, -10.3),
    ],
)
def test_figures_are_those_of_methods_c2(
    mantissa: int, mred: float, nmed: float, wcre: float, bias: float
) -> None:
    table = TruncatedMitchell(mantissa=mantissa).table()
    figures = error_figures(table)
    assert 100 * figures.mred == pytest.approx(mred, abs=0.005)
    assert 100 * figures.nmed == pytest.approx(nmed, abs=0.0005)
    # With four bits it is 17.2546 %, which METHODS has as 17.26.
    assert 100 * figures.wcre == pytest.approx(wcre, abs=0.006)
    products = table.exact != 0
    relative = table.errors[products].double() / table.exact[products].double()
    assert 100 * float(relative.mean()) == pytest.approx(bias, abs=0.05)


def test_mitchell_is_at_most_a_ninth_too_small() -> None:
    # Mitchell 1962: -11.1 % at worst, where both mantissas are one half; never too large.
    table = Mitchell().table()
    assert float(relative_errors(table).max()) == pytest.approx(1 / 9, abs=1e-12)
    assert int(table.errors.max()) == 0


def test_powers_of_two_are_exact() -> None:
    errors = Mitchell().table().errors
    for bit in range(8):
        assert not errors[1 << bit].any()


def test_signs_go_round_the_multiplier() -> None:
    signed, unsigned = Mitchell(signed=True).table().products, Mitchell().table().products
    assert torch.equal(signed[:129, :129].abs(), unsigned[:129, :129])
    assert torch.equal(signed[129:, 1:128], -unsigned[1:128, 1:128].flip(0))


def test_leading_one_is_the_bit_length_less_one() -> None:
    numbers = torch.arange(1, 70_000)
    assert leading_one(numbers).tolist() == [int(n).bit_length() - 1 for n in numbers]
