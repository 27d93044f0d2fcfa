"""Compared with exact logarithms in float64, operands written as text, and published figures."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from bitproof.approx import Drum, Exact, Loba, Mitchell, Roba, TruncatedMitchell, error_figures
from bitproof.approx.figures import relative_errors
from bitproof.approx.leading_one import leading_one, nearest_power, unbiased_segment
from bitproof.core.rng import make_generator


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


def test_signs_go_round_mitchells_multiplier() -> None:
    signed, unsigned = Mitchell(signed=True).table().products, Mitchell().table().products
    assert torch.equal(signed[:129, :129].abs(), unsigned[:129, :129])
    assert torch.equal(signed[129:, 1:128], -unsigned[1:128, 1:128].flip(0))


def test_leading_one_is_the_bit_length_less_one() -> None:
    numbers = torch.arange(1, 70_000)
    assert leading_one(numbers).tolist() == [int(n).bit_length() - 1 for n in numbers]


def power_by_search(number: int) -> int:
    """Return the nearest power of two; of two as near, the larger, but 2 for 3."""
    if number in {0, 3}:
        return {0: 0, 3: 2}[number]
    return min((1 << bit for bit in range(10)), key=lambda power: (abs(power - number), -power))


def test_powers_are_the_nearest() -> None:
    numbers = torch.arange(512)
    assert nearest_power(numbers).tolist() == [power_by_search(n) for n in range(512)]


def test_the_product_of_both_remainders_is_missing() -> None:
    rest = torch.tensor([number - power_by_search(number) for number in range(256)])
    assert torch.equal(Roba().table().errors.long(), -rest.outer(rest))


def test_the_worst_error_is_the_published_ninth() -> None:
    # TVLSI 2017: 11.1 % at most.
    assert float(relative_errors(Roba().table()).max()) == 1 / 9


def test_errors_of_both_signs_nearly_cancel() -> None:
    figures = error_figures(Roba().table())
    assert abs(figures.bias) < 0.001 * figures.med


def test_signs_go_round_roba() -> None:
    signed, unsigned = Roba(signed=True).table().products, Roba().table().products
    assert torch.equal(signed[129:, 129:], unsigned[1:128, 1:128].flip(0, 1))
    assert torch.equal(signed[1:128, 129:], -unsigned[1:128, 1:128].flip(1))


def drum_operand(number: int, width: int) -> int:
    digits = f"{number:b}"
    if len(digits) <= width:
        return number
    return int(digits[: width - 1] + "1" + "0" * (len(digits) - width), 2)


def loba_operand(number: int, width: int) -> tuple[int, int]:
    """Return the high and the low segment."""
    digits = f"{number:b}"
    high = int(digits[:width].ljust(len(digits), "0"), 2)
    rest = f"{number - high:b}"
    return high, int(rest[:width].ljust(len(rest), "0"), 2)


@pytest.mark.parametrize("width", range(2, 9))
def test_drum_multiplies_cut_operands(width: int) -> None:
    operands = torch.tensor([drum_operand(number, width) for number in range(256)])
    assert torch.equal(Drum(width=width).table().products.long(), operands.outer(operands))


@pytest.mark.parametrize("width", range(2, 9))
@pytest.mark.parametrize("level", range(4))
def test_loba_adds_products_of_segments(width: int, level: int) -> None:
    high, low = (
        torch.tensor(part)
        for part in zip(*(loba_operand(number, width) for number in range(256)), strict=True)
    )
    expected = high.outer(high)
    if level >= 1:
        expected = expected + high.outer(low)
    if level >= 2:
        expected = expected + low.outer(high)
    if level >= 3:
        expected = expected + low.outer(low)
    table = Loba.model_validate({"width": width, "level": level}).table()
    assert torch.equal(table.products.long(), expected)


@pytest.mark.parametrize(("width", "mred"), [(4, 5.89), (5, 2.94), (6, 1.47), (7, 0.73), (8, 0.37)])
def test_drum_has_the_published_error_on_16_bits(width: int, mred: float) -> None:
    # ICCAD 2015: DRUM-6 has a mean relative error of 1.47 %; it halves with every bit.
    generator = make_generator(0, "drum")
    first, second = torch.randint(1, 2**16, (2, 200_000), generator=generator)
    exact = (first * second).double()
    products = unbiased_segment(first, width) * unbiased_segment(second, width)
    relative = (products.double() - exact) / exact
    assert 100 * float(relative.abs().mean()) == pytest.approx(mred, abs=0.02 * mred)


@pytest.mark.parametrize(("width", "deviation"), [(5, 3.61), (8, 0.45)])
def test_drum_errors_spread_as_published(width: int, deviation: float) -> None:
    # ICCAD 2015, abstract: near-zero mean, standard deviations from 0.45 % to 3.61 %.
    generator = make_generator(0, "drum")
    first, second = torch.randint(1, 2**16, (2, 200_000), generator=generator)
    exact = (first * second).double()
    products = unbiased_segment(first, width) * unbiased_segment(second, width)
    relative = 100 * (products.double() - exact) / exact
    assert float(relative.std()) == pytest.approx(deviation, abs=0.02 * deviation)
    assert abs(float(relative.mean())) < 0.2


@pytest.mark.parametrize("width", range(3, 8))
def test_drum_keeps_its_bound(width: int) -> None:
    most = (1 + 2.0 ** (1 - width)) ** 2 - 1
    assert float(relative_errors(Drum(width=width).table()).max()) <= most


def test_loba_levels_come_nearer_from_below() -> None:
    for width in (2, 3, 4):
        tables = [
            Loba.model_validate({"width": width, "level": level}).table() for level in range(4)
        ]
        for coarse, fine in pairwise(tables):
            assert bool((coarse.products <= fine.products).all())
            assert bool((fine.errors <= 0).all())


def test_two_segments_of_four_bits_are_the_whole_operand() -> None:
    assert torch.equal(Loba(width=4, level=3).table().products, Exact().table().products)


def test_drum_is_nearly_unbiased_and_loba_is_not() -> None:
    drum, loba = (error_figures(spec.table()) for spec in (Drum(width=4), Loba(width=4)))
    assert abs(drum.bias) < 0.15 * drum.med
    assert loba.bias == -loba.med
