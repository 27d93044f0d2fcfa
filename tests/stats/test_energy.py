import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.errors import SpecError
from bitproof.faults.ecc import check_bits
from bitproof.stats import (
    AccessCost,
    Interval,
    failing_words,
    safe_rate,
    secded_bits,
    storage_of_secded,
)

LEVELS = (1e-4, 1e-3, 1e-2)


def chips(*means: float, spread: float = 0.0, n: int = 20) -> np.ndarray:
    """Return the same curve on each chip, shifted evenly around it."""
    shifts = np.linspace(-spread, spread, n)[:, None]
    return np.asarray(means)[None] + shifts


def test_the_limit_is_found_by_hand() -> None:
    # 0.5 points lost at 1e-3, 4.5 at 1e-2: one point is an eighth of the way, in decades.
    found = safe_rate(chips(0.9, 0.895, 0.855), LEVELS, clean=0.9, max_drop=0.01)
    assert found.verdict == "found"
    assert found.ber.value == pytest.approx(10 ** (-3 + 1 / 8))
    assert found.acc == pytest.approx(0.89)
    assert found.drop == 0.01
    assert tuple(found.ber) == pytest.approx([found.ber.value] * 3)  # all chips are alike


def test_a_loss_that_just_is_allowed_is_safe() -> None:
    found = safe_rate(chips(0.96, 0.95, 0.9), LEVELS, clean=0.96, max_drop=0.01)
    assert found.ber.value == pytest.approx(1e-3)


def test_all_rates_may_be_safe() -> None:
    found = safe_rate(chips(0.9, 0.9, 0.895), LEVELS, clean=0.9, max_drop=0.01)
    assert (found.verdict, found.ber) == ("all_safe", Interval(1e-2, 1e-2, 1e-2))
    assert found.drop == pytest.approx(0.005)


def test_no_rate_may_be_safe() -> None:
    found = safe_rate(chips(0.8, 0.7, 0.6), LEVELS, clean=0.9, max_drop=0.01)
    assert (found.verdict, found.ber) == ("none_safe", Interval(0.0, 0.0, 0.0))
    assert found.acc == pytest.approx(0.8)


def test_a_clean_network_below_the_reference_is_never_safe() -> None:
    accs = chips(0.9, 0.9, 0.9)
    found = safe_rate(accs, LEVELS, clean=0.9, reference=0.95, max_drop=0.01)
    assert found.verdict == "clean_unsafe"
    assert found.drop == pytest.approx(0.05)


def test_losses_count_from_the_reference() -> None:
    accs = chips(0.9, 0.89, 0.8)
    own = safe_rate(accs, LEVELS, clean=0.9, max_drop=0.02)
    other = safe_rate(accs, LEVELS, clean=0.9, reference=0.91, max_drop=0.02)
    assert other.ber.value == pytest.approx(1e-3)
    assert other.ber.value < own.ber.value


def test_a_rate_after_an_unsafe_one_is_not_safe_again() -> None:
    dented = safe_rate(chips(0.9, 0.85, 0.9), LEVELS, clean=0.9, max_drop=0.01)
    assert dented.ber.value == pytest.approx(10 ** (-4 + 1 / 5))


def test_the_interval_holds_the_value_and_narrows_with_chips() -> None:
    widths = []
    for n in (5, 20, 80):
        accs = chips(0.9, 0.895, 0.855, spread=0.01, n=n)
        low, value, high = safe_rate(accs, LEVELS, clean=0.9, max_drop=0.01).ber
        assert low < value < high
        widths.append(math.log(high / low))
    assert widths[0] > widths[1] > widths[2]


def test_the_interval_is_that_of_the_normal_distribution_for_many_chips() -> None:
    # Chips differ by a shift alone, so the limit moves by 1/0.04 decades for each unit of it.
    accs = chips(0.9, 0.895, 0.855, spread=0.003, n=200)
    low, value, high = safe_rate(accs, LEVELS, clean=0.9, max_drop=0.01).ber
    half = 1.96 * accs[:, 0].std() / math.sqrt(200) / 0.04
    assert math.log10(high / value) == pytest.approx(half, rel=0.05)
    assert math.log10(value / low) == pytest.approx(half, rel=0.05)


def test_one_chip_tells_nothing_of_others() -> None:
    found = safe_rate(chips(0.9, 0.895, 0.855, n=1), LEVELS, clean=0.9, max_drop=0.01)
    assert (found.ber.low, found.ber.high) == (0.0, 1e-2)


def test_the_same_seed_gives_the_same_interval() -> None:
    accs = chips(0.9, 0.895, 0.855, spread=0.01, n=9)
    first, second = (safe_rate(accs, LEVELS, clean=0.9, max_drop=0.01) for _ in range(2))
    assert first == second


def test_an_uncertain_reference_widens_the_interval() -> None:
    accs = chips(0.9, 0.895, 0.855)
    found = safe_rate(accs, LEVELS, clean=0.9, max_drop=0.01, reference_error=0.002)
    assert found.ber.low < found.ber.value < found.ber.high


@settings(max_examples=30, deadline=None)
@given(
    accs=st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=4),
    drops=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_more_loss_never_allows_less(accs: list[list[float]], drops: tuple[float, float]) -> None:
    few, many = (
        safe_rate(np.array(accs), LEVELS, clean=0.9, max_drop=drop).ber for drop in sorted(drops)
    )
    assert few.value <= many.value * (1 + 1e-9)
    for low, value, high in (few, many):
        assert 0 <= low <= value <= high <= 1e-2


@pytest.mark.parametrize(
    ("accs", "levels", "drop"),
    [
        (np.zeros((0, 3)), LEVELS, 0.01),
        (np.zeros((2, 2)), LEVELS, 0.01),
        (np.full((2, 3), 90.0), LEVELS, 0.01),
        (np.zeros((2, 3)), (1e-3, 1e-4, 1e-2), 0.01),
        (np.zeros((2, 3)), (0.0, 1e-4, 1e-2), 0.01),
        (np.zeros((2, 3)), LEVELS, -0.01),
        (np.zeros((2, 3)), LEVELS, math.nan),
    ],
)
def test_what_is_no_measurement_is_refused(
    accs: np.ndarray, levels: tuple[float, ...], drop: float
) -> None:
    with pytest.raises(SpecError, match="wanted"):
        safe_rate(accs, levels, clean=0.9, max_drop=drop)


def test_the_cautious_rate_gives_the_high_voltage_and_the_small_saving() -> None:
    cost = AccessCost()
    assert cost.voltages(Interval(0.0, 0.0113, 0.054)) == Interval(0.792, 0.833, 1.0)
    saved = cost.saved(Interval(0.0, 0.0113, 0.054))
    assert saved == pytest.approx((0.0, 0.306, 0.373))


def test_check_bits_and_their_decoder_are_charged() -> None:
    cost = AccessCost(storage=storage_of_secded(), decoder=0.05)
    assert cost.energy_at(1.0) == pytest.approx(1.175)
    assert cost.saved(Interval(0.0, 0.0113, 0.0113)).value == pytest.approx(
        1 - 1.125 * 0.694 - 0.05
    )


@pytest.mark.parametrize(("ber", "percent"), [(0.01, 16), (0.001, 0.24)])
def test_words_fail_as_often_as_stated(ber: float, percent: float) -> None:
    # METHODS E.7: "about 16 %" and "0.24 %".
    assert 100 * failing_words(ber) == pytest.approx(percent, rel=0.02)
    assert failing_words(ber) == pytest.approx(
        1 - (1 - ber) ** 72 - 72 * ber * (1 - ber) ** 71, rel=1e-9
    )


def test_failing_words_keep_their_digits_at_small_rates() -> None:
    assert failing_words(1e-12) == pytest.approx(72 * 71 / 2 * 1e-24, rel=1e-9)
    assert (failing_words(0.0), failing_words(1.0)) == (0.0, 1.0)


def test_code_words_are_as_long_as_those_of_the_code_itself() -> None:
    for data_bits in range(8, 130):
        assert secded_bits(data_bits) == data_bits + check_bits(data_bits)


def test_narrow_words_lie_in_a_code_word_whole() -> None:
    assert storage_of_secded(word_bits=4) == storage_of_secded(word_bits=8) == 72 / 64
    assert storage_of_secded(word_bits=7) == 72 / 63
    with pytest.raises(SpecError, match="word_bits"):
        storage_of_secded(word_bits=65)
