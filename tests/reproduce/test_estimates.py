import numpy as np
import pytest
from scipy import stats

from bitproof.metrics import Tally
from bitproof.reproduce.estimates import combine, gain
from bitproof.stats import Interval, newcombe


def tallies(correct: list[int], total: int = 100) -> list[Tally]:
    return [Tally(right, total) for right in correct]


@pytest.mark.parametrize("by_trial", [True, False])
def test_the_interval_of_a_gain_is_that_of_the_differences(by_trial: bool) -> None:
    mine, other = [60, 75, 55, 58], [50, 70, 52, 41]
    found = gain(tallies(mine), tallies(other), by_trial=by_trial)
    test = stats.ttest_rel(np.array(mine) / 100, np.array(other) / 100).confidence_interval()
    assert found.interval == pytest.approx((test.low, 0.0875, test.high))
    assert found.n == 4


def test_a_paired_interval_is_shorter_than_one_that_forgets_the_pairs() -> None:
    mine, other = [60, 75, 55, 58], [50, 66, 45, 47]
    paired = gain(tallies(mine), tallies(other), by_trial=True).interval
    loose = stats.ttest_ind(np.array(mine) / 100, np.array(other) / 100).confidence_interval()
    assert paired.high - paired.low < (loose.high - loose.low) / 5


def test_a_loss_keeps_its_sign() -> None:
    low, value, high = gain(tallies([40, 41]), tallies([50, 52]), by_trial=True).interval
    assert low < value == pytest.approx(-0.105)
    assert high < 0


def test_where_nothing_is_paired_the_counts_are_compared() -> None:
    found = gain(tallies([56], 80), tallies([48], 80), by_trial=False)
    assert found.interval == newcombe((56, 80), (48, 80))
    assert found.n == 80


def test_one_chip_says_nothing() -> None:
    found = gain(tallies([56], 80), tallies([48], 80), by_trial=True)
    assert tuple(found.interval) == pytest.approx((-1.0, 0.1, 1.0))


def test_a_smaller_last_block_does_not_move_the_value() -> None:
    mine, other = (
        [*tallies(right), Tally(last, 20)] for right, last in (([60, 70], 10), ([50, 65], 2))
    )
    low, value, high = gain(mine, other, by_trial=False).interval
    assert value == pytest.approx((140 - 117) / 220)
    assert low < value < high


def test_one_seed_keeps_its_interval() -> None:
    run = Interval(0.1, 0.2, 0.35)
    assert combine([run], lowest=0.0) == run


def test_seeds_and_measurements_both_widen_the_interval() -> None:
    runs = [Interval(value - 0.03, value, value + 0.03) for value in (0.5, 0.54, 0.52)]
    low, value, high = combine(runs, lowest=0.0)
    between = stats.t.ppf(0.975, 2) * stats.sem([0.5, 0.54, 0.52])
    half = np.hypot(between, 0.03)
    assert (low, value, high) == pytest.approx((0.52 - half, 0.52, 0.52 + half))


def test_an_interval_stays_within_what_there_can_be() -> None:
    accuracies = [Interval(0.0, 0.01, 0.02), Interval(0.9, 0.99, 1.0)]
    assert tuple(combine(accuracies, lowest=0.0)) == pytest.approx((0.0, 0.5, 1.0))
    gains = [Interval(-1.0, -0.9, 0.0), Interval(0.0, 0.9, 1.0)]
    assert combine(gains, lowest=-1.0) == (-1.0, 0.0, 1.0)
