"""How often a claimed order of rates is wrong, where the truth is known."""

import numpy as np
import pytest

from bitproof.stats import Interval, cluster_rate, difference
from bitproof.stats.ranking import (
    pair_confidence,
    pairs_of,
    rank_ranges,
    times_as_many,
    told_apart,
)

IMAGES = 64


def draw(random: np.random.Generator, rate: float, n: int, kind: str) -> np.ndarray:
    """Return the spoilt images of `n` faults: all or nothing, by chance, or of rare disasters."""
    if kind == "all":
        return IMAGES * (random.random(n) < rate)
    if kind == "rare":
        return random.binomial(IMAGES, np.where(random.random(n) < rate, 1.0, 0.0))
    return random.binomial(IMAGES, random.beta(rate, 1 - rate, n))


@pytest.mark.parametrize("kind", ["all", "beta"])
@pytest.mark.parametrize(
    ("rates", "n"),
    [((0.05,) * 6, 200), ((0.02, 0.021, 0.3, 0.31, 0.6), 60), ((0.01, 0.01, 0.02, 0.5), 25)],
)
def test_a_claimed_order_is_wrong_at_most_at_the_stated_rate(
    kind: str, rates: tuple[float, ...], n: int
) -> None:
    random, truth, tables, wrong = np.random.default_rng(1), np.array(rates), 120, 0
    level = pair_confidence(len(rates))
    for _ in range(tables):
        counts = [draw(random, rate, n, kind) for rate in rates]
        intervals = [
            cluster_rate(c, np.full(n, IMAGES), confidence=level, method="clopper_pearson")
            for c in counts
        ]
        above = told_apart(intervals)
        false = bool((above & (truth[:, None] <= truth[None, :])).any())
        firsts, lasts = np.array(rank_ranges(intervals)).T
        higher = (truth[:, None] > truth[None, :]).sum(0)  # of those surely above each
        lower = (truth[:, None] < truth[None, :]).sum(0)
        missed = (firsts > 1 + higher).any() or (lasts < len(rates) - lower).any()
        assert bool(missed) == false  # ranks are wrong only where an order is
        wrong += false
    allowed = 0.05 * tables
    assert wrong <= allowed + 5 * (0.95 * allowed) ** 0.5


def test_clear_differences_are_told() -> None:
    random, n = np.random.default_rng(0), 400
    rates = (0.6, 0.3, 0.02)
    intervals = [
        cluster_rate(
            draw(random, rate, n, "beta"), np.full(n, IMAGES), confidence=pair_confidence(3)
        )
        for rate in rates
    ]
    assert rank_ranges(intervals) == [(1, 1), (2, 2), (3, 3)]


def test_pairs_are_those_of_single_differences() -> None:
    random = np.random.default_rng(3)
    middles = random.uniform(0.2, 0.8, 9)
    halves = random.uniform(0.0, 0.2, (9, 2))
    intervals = [Interval(m - a, m, m + b) for m, (a, b) in zip(middles, halves, strict=True)]
    wanted = [[difference(one, two).low > 0 for two in intervals] for one in intervals]
    assert told_apart(intervals).tolist() == wanted


def test_equal_rates_share_all_ranks_and_need_no_known_number() -> None:
    same = Interval(0.1, 0.2, 0.3)
    assert rank_ranges([same] * 4) == [(1, 4)] * 4
    assert times_as_many(same, same, confidence=0.95) is None
    assert (pairs_of(4), pair_confidence(1)) == (6, 0.95)


@pytest.mark.parametrize(("n", "counts"), [(200, (40, 30)), (40, (2, 0)), (400, (399, 396))])
def test_as_many_trials_as_told_do_tell_apart(n: int, counts: tuple[int, int]) -> None:
    level = pair_confidence(2)

    def intervals(times: float) -> list[Interval]:
        trials = round(times * n)
        hits = [
            np.repeat([IMAGES, 0], [round(times * c), trials - round(times * c)]) for c in counts
        ]
        return [
            cluster_rate(h, np.full(trials, IMAGES), confidence=level, method="clopper_pearson")
            for h in hits
        ]

    first, second = intervals(1)
    times = times_as_many(first, second, confidence=level)
    assert times is not None
    assert not told_apart(intervals(0.9 * times)).any()
    assert told_apart(intervals(1.1 * times))[0, 1]


def test_exhaustive_rates_are_points_and_any_difference_counts() -> None:
    points = [Interval(rate, rate, rate) for rate in (0.1, 0.2, 0.1)]
    assert rank_ranges(points) == [(2, 3), (1, 1), (2, 3)]
