"""Confidence intervals for rates and for means over draws.

Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927;
        Student's t for the mean of independent draws.
"""

import math
from collections.abc import Sequence
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
        ValueError: `successes` does not lie in 0 .. n, or `n` is 0.

    Example:
        >>> [round(end, 4) for end in wilson(3, 1000)]
        [0.001, 0.003, 0.0088]
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes: wanted 0 to {n} of at least one trial, got {successes}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Interval(max(0.0, min(rate, middle - half)), rate, min(1.0, max(rate, middle + half)))


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return a mean with Student's t interval: each value is one independent draw (a chip).

    One value alone has no spread, so its interval is everything between 0 and 1.

    Example:
        >>> [round(end, 4) for end in mean_interval([0.5, 0.6, 0.7])]
        [0.3516, 0.6, 0.8484]
    """
    from scipy.stats import t  # noqa: PLC0415 - slow to import, and needed last

    mean = fmean(values)
    if len(values) < 2:
        return Interval(0.0, mean, 1.0)
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values)
    half /= math.sqrt(len(values))
    return Interval(max(0.0, mean - half), mean, min(1.0, mean + half))
