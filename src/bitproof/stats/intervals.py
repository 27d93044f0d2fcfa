"""Confidence intervals for rates and for means over draws.

Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927;
        Clopper and Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of
        the Binomial", Biometrika 1934;
        Newcombe, "Interval Estimation for the Difference between Independent Proportions",
        Statistics in Medicine 1998, method 10;
        Tango, "Equivalence Test and Confidence Interval for the Difference in Proportions for the
        Paired-Sample Design", Statistics in Medicine 1998;
        Student's t for the mean of independent draws.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple


class Interval(NamedTuple):
    """An estimate between the ends of its confidence interval."""

    low: float
    value: float
    high: float


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return a rate with Wilson's score interval, for independent single trials.

    Raises:
        ValueError: `successes` does not lie in 0 .. n, or `n` is 0, or `confidence` is no number
            between 0 and 1.

    Example:
        >>> [round(end, 4) for end in wilson(3, 1000)]
        [0.001, 0.003, 0.0088]
    """
    return score_interval(_rate(successes, n), float(n), confidence=confidence)


def clopper_pearson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return a rate with the exact binomial interval, for independent single trials.

    It covers the truth at least as often as promised, at every rate; Wilson's does on average.

    Raises:
        ValueError: `successes` does not lie in 0 .. n, or `n` is 0, or `confidence` is no number
            between 0 and 1.

    Example:
        >>> [round(end, 4) for end in clopper_pearson(3, 1000)]
        [0.0006, 0.003, 0.0087]
    """
    return exact_interval(_rate(successes, n), float(n), confidence=confidence)


def score_interval(rate: float, n: float, *, confidence: float = 0.95) -> Interval:
    """Return Wilson's interval for `rate` seen in `n` trials, an effective number, not a count.

    Example:
        >>> [round(end, 4) for end in score_interval(0.003, 999.5)]
        [0.001, 0.003, 0.0088]
    """
    z = normal_quantile(confidence)
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Interval(max(0.0, min(rate, middle - half)), rate, min(1.0, max(rate, middle + half)))


def exact_interval(rate: float, n: float, *, confidence: float = 0.95) -> Interval:
    """Return Clopper and Pearson's interval for `rate` seen in an effective number of trials.

    Example:
        >>> [round(end, 4) for end in exact_interval(0.0, 99.5)]
        [0.0, 0.0, 0.0364]
    """
    from scipy.special import betaincinv  # noqa: PLC0415 - slow to import

    normal_quantile(confidence)  # refuses what is no confidence
    tail = (1 - confidence) / 2
    hits, misses = rate * n, (1 - rate) * n
    low = float(betaincinv(hits, misses + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, misses, 1 - tail)) if misses > 0 else 1.0
    return Interval(min(rate, low), rate, max(rate, high))


def normal_quantile(confidence: float) -> float:
    """Return how many standard deviations to either side hold a share `confidence` of a normal.

    Raises:
        ValueError: `confidence` is no number between 0 and 1.

    Example:
        >>> round(normal_quantile(0.95), 4), round(normal_quantile(0.99), 4)
        (1.96, 2.5758)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: wanted a number between 0 and 1, got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def mean_interval(
    values: Sequence[float], *, confidence: float = 0.95, lowest: float = 0.0
) -> Interval:
    """Return a mean with Student's t interval: each value is one independent draw (a chip).

    One value alone has no spread, so its interval is everything from `lowest` to 1. That is 0 for
    rates, and -1 for differences of rates, each from one unit that saw both.

    Example:
        >>> [round(end, 4) for end in mean_interval([0.5, 0.6, 0.7])]
        [0.3516, 0.6, 0.8484]
    """
    mean = fmean(values)
    alone = len(values) < 2
    half = 1 - lowest if alone else student_half_width(values, confidence=confidence)
    return Interval(max(lowest, mean - half), mean, min(1.0, mean + half))


def difference(first: Interval, second: Interval) -> Interval:
    """Return first minus second, as if they were measured independently (hybrid score interval).

    Example:
        >>> found = difference(Interval(0.4, 0.5, 0.6), Interval(0.3, 0.4, 0.5))
        >>> [round(end, 4) for end in found]
        [-0.0414, 0.1, 0.2414]
    """
    value = first.value - second.value
    down = math.hypot(first.value - first.low, second.high - second.value)
    up = math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value - down, value, value + up)


def newcombe(
    first: tuple[int, int], second: tuple[int, int], *, confidence: float = 0.95
) -> Interval:
    """Return the difference of two rates, first minus second, seen in independent trials.

    Args:
        first: successes and trials.
        second: successes and trials.
        confidence: how often the interval holds the truth.

    Raises:
        ValueError: successes do not lie between 0 and their trials, there is no trial, or
            `confidence` is no number between 0 and 1.

    Example:
        >>> [round(end, 4) for end in newcombe((56, 70), (48, 80))]
        [0.0524, 0.2, 0.3339]
    """
    one, other = (wilson(*counts, confidence=confidence) for counts in (first, second))
    return difference(one, other)


def tango(gained: int, lost: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return the difference of two rates seen in the same trials (score interval of pairs).

    It holds each difference that a score test does not reject; of no difference, that test is
    McNemar's. Trials in which both sides agree count by their number alone.

    Args:
        gained: trials in which the first side alone succeeds.
        lost: trials in which the second side alone succeeds.
        n: all trials.
        confidence: how often the interval holds the truth.

    Raises:
        ValueError: there is no trial, or there are more of both kinds than trials, or
            `confidence` is no number between 0 and 1.

    Example:
        >>> [round(end, 4) for end in tango(6, 16, 161)]
        [-0.124, -0.0621, -0.0054]
    """
    if n < 1 or min(gained, lost) < 0 or gained + lost > n:
        raise ValueError(f"gained, lost: wanted 0 to {n} of at least one trial in all")
    z, value = normal_quantile(confidence), (gained - lost) / n

    def rejected(gap: float) -> bool:
        """Whether the score test rejects a true difference of `gap`."""
        # The rate of trials that are lost, most likely where the difference is `gap`.
        half = (gained + lost - (2 * n - gained + lost) * gap) / (4 * n)
        rate = half + math.sqrt(max(half * half + lost * gap * (1 - gap) / (2 * n), 0.0))
        spread = n * max(2 * rate + gap * (1 - gap), 0.0)
        return (gained - lost - n * gap) ** 2 > z * z * spread

    return Interval(_border(rejected, -1.0, value), value, _border(rejected, 1.0, value))


def _border(rejected: Callable[[float], bool], outside: float, inside: float) -> float:
    """Return where a test begins to reject, between the end of a range and an estimate."""
    if not rejected(outside):
        return outside
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if rejected(middle) else (outside, middle)
    return inside


def student_half_width(values: Sequence[float], *, confidence: float = 0.95) -> float:
    """Return half the width of Student's t interval of a mean, for two draws or more.

    Raises:
        ValueError: there are fewer than two draws.

    Example:
        >>> round(student_half_width([0.5, 0.6, 0.7]), 4)
        0.2484
    """
    from scipy.stats import t  # noqa: PLC0415 - slow to import, and needed last

    if len(values) < 2:
        raise ValueError(f"values: wanted two draws or more, got {len(values)}")
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values)
    return half / math.sqrt(len(values))


def _rate(successes: int, n: int) -> float:
    """Return the checked rate of counts."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes: wanted 0 to {n} of at least one trial, got {successes}")
    return successes / n
