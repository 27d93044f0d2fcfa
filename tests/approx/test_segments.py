"""Compared with operands written as text, and with the figures of the DRUM paper."""

from itertools import pairwise

import pytest
import torch

from bitproof.approx import Drum, Exact, Loba, error_figures
from bitproof.approx.figures import relative_errors
from bitproof.approx.segments import unbiased_segment
from bitproof.core.rng import make_generator


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
