"""Which of several rates is the highest, claimed only as far as all claims hold together.

Model:  every rate has an interval at a confidence so high that the differences of all pairs hold
        together (Bonferroni). A pair is told apart where the interval of its difference lies on one
        side of zero. A rate whose pairs leave it between places 3 and 7 has the ranks 3 to 7; all
        ranks of one table are right together as often as promised, so that any claimed order is
        wrong at most at that rate.
Source: Newcombe, Statistics in Medicine 1998, method 10 (difference from two intervals); Klein,
        Wright and Wieczorek, "A joint confidence region for an overall ranking of populations",
        JRSS C 2020, and Al Mohamad, Goeman and van Zwet, "Simultaneous confidence intervals for
        ranks", Biometrics 2022 (ranks from pairs).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool

from bitproof.stats.intervals import Interval, difference, exact_interval

MOST_TIMES = 1e4
"""More trials than so many times those that were done are not told."""
LEAST, MOST = 1e-3, 1e12
"""Effective numbers of trials that are looked for."""


def pairs_of(count: int) -> int:
    """Return in how many pairs so many rates stand."""
    return count * (count - 1) // 2


def pair_confidence(count: int, confidence: float = 0.95) -> float:
    """Return the confidence that each rate's interval needs, for all pairs to hold together.

    Example:
        >>> round(pair_confidence(20), 5)
        0.99974
    """
    return 1 - (1 - confidence) / max(pairs_of(count), 1)


def told_apart(intervals: Sequence[Interval]) -> Bool[np.ndarray, "n n"]:
    """Return whether the first of two rates surely lies above the second.

    `intervals` are those at `pair_confidence`.
    """
    low, value, high = np.array(intervals, np.float64).reshape(-1, 3).T
    gap = value[:, None] - value[None, :]
    down = np.hypot((value - low)[:, None], (high - value)[None, :])
    above: np.ndarray = gap - down > 0
    return above


def rank_ranges(intervals: Sequence[Interval]) -> list[tuple[int, int]]:
    """Return the first and the last rank that each rate may have; 1 is the highest rate.

    Example:
        >>> rank_ranges([Interval(0.1, 0.2, 0.3), Interval(0.5, 0.6, 0.7), Interval(0.1, 0.3, 0.4)])
        [(2, 3), (1, 1), (2, 3)]
    """
    above = told_apart(intervals)
    firsts = 1 + above.sum(0)
    lasts = len(intervals) - above.sum(1)
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def times_as_many(first: Interval, second: Interval, *, confidence: float) -> float | None:
    """Return how many times as many trials would tell two rates apart, if they are what was seen.

    Both are Clopper-Pearson's at an effective number of trials, at `confidence`; more trials
    multiply that number. None where they are equal, or no number up to `MOST_TIMES` tells them
    apart; 1 where they are told apart.

    Example:
        >>> from bitproof.stats.intervals import exact_interval
        >>> one, two = (exact_interval(rate, 50.0, confidence=0.99) for rate in (0.5, 0.3))
        >>> round(times_as_many(one, two, confidence=0.99), 2)
        1.72
    """
    higher, lower = (first, second) if first.value >= second.value else (second, first)
    if higher.value == lower.value:
        return None
    sizes = [_effective_trials(one, confidence) for one in (higher, lower)]

    def apart(times: float) -> bool:
        grown = [
            one if size is None else exact_interval(one.value, times * size, confidence=confidence)
            for one, size in zip((higher, lower), sizes, strict=True)
        ]
        return difference(*grown).low > 0

    if difference(higher, lower).low > 0:
        return 1.0
    if not apart(MOST_TIMES):
        return None
    return _bisect(apart, 1.0, MOST_TIMES)


def _effective_trials(one: Interval, confidence: float) -> float | None:
    """Return the number of trials that an interval stands for; None where it is a point."""
    if one.high <= one.value and one.low >= one.value:
        return None
    if one.value < 1:
        return _bisect(
            lambda n: exact_interval(one.value, n, confidence=confidence).high <= one.high,
            LEAST,
            MOST,
        )
    return _bisect(
        lambda n: exact_interval(one.value, n, confidence=confidence).low >= one.low, LEAST, MOST
    )


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return where a condition begins to hold between two numbers, to a thousandth."""
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
