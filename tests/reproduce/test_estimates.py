import numpy as np
import pytest
from scipy import stats

from bitproof.evaluation import TallyStore
from bitproof.metrics import Tally
from bitproof.reproduce.estimates import combine, gain
from bitproof.stats import Interval, newcombe


def store_of(threat: str, level: float, s1: list[int], none: list[int], total: int) -> TallyStore:
    store = TallyStore()
    for name, counts in (("s1", s1), ("none", none)):
        for trial, correct in enumerate(counts):
            store.add((name, threat, level, trial), Tally(correct, total))
    return store


@pytest.mark.parametrize("threat", ["random_flips", "linf_pgd"])
def test_the_interval_of_a_gain_is_that_of_the_differences(threat: str) -> None:
    s1, none = [60, 75, 55, 58], [50, 70, 52, 41]
    store = store_of(threat, 0.1, s1, none, 100)
    found = gain(store, threat, 0.1, variant="s1", baseline="none")
    test = stats.ttest_rel(np.array(s1) / 100, np.array(none) / 100).confidence_interval()
    assert found.interval == pytest.approx((test.low, 0.0875, test.high))
    assert found.n == 4


def test_a_paired_interval_is_shorter_than_one_that_forgets_the_pairs() -> None:
    s1, none = [60, 75, 55, 58], [50, 66, 45, 47]
    store = store_of("random_flips", 0.1, s1, none, 100)
    paired = gain(store, "random_flips", 0.1, variant="s1", baseline="none").interval
    loose = stats.ttest_ind(np.array(s1) / 100, np.array(none) / 100).confidence_interval()
    assert paired.high - paired.low < (loose.high - loose.low) / 5


def test_a_loss_keeps_its_sign() -> None:
    store = store_of("random_flips", 0.1, [40, 41], [50, 52], 100)
    low, value, high = gain(store, "random_flips", 0.1, variant="s1", baseline="none").interval
    assert low < value == pytest.approx(-0.105)
    assert high < 0


@pytest.mark.parametrize("threat", ["none", "linf_pgd"])
def test_where_nothing_is_paired_the_counts_are_compared(threat: str) -> None:
    store = store_of(threat, 0.0, [56], [48], 80)
    found = gain(store, threat, 0.0, variant="s1", baseline="none")
    assert found.interval == newcombe((56, 80), (48, 80))
    assert found.n == 80


def test_one_chip_says_nothing() -> None:
    store = store_of("random_flips", 0.1, [56], [48], 80)
    found = gain(store, "random_flips", 0.1, variant="s1", baseline="none")
    assert tuple(found.interval) == pytest.approx((-1.0, 0.1, 1.0))


def test_a_smaller_last_block_does_not_move_the_value() -> None:
    store = store_of("linf_pgd", 0.1, [60, 70], [50, 65], 100)
    store.add(("s1", "linf_pgd", 0.1, 2), Tally(10, 20))
    store.add(("none", "linf_pgd", 0.1, 2), Tally(2, 20))
    low, value, high = gain(store, "linf_pgd", 0.1, variant="s1", baseline="none").interval
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
