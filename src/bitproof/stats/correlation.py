"""Rank correlation with its interval.

Source: Spearman, 1904, by scipy; percentile bootstrap over pairs (Efron and Tibshirani, 1993).
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata, spearmanr

from bitproof.core.errors import SpecError
from bitproof.stats.intervals import Interval

RESAMPLES = 2000


def rank_correlation(
    x: Sequence[float], y: Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return Spearman's rank correlation of pairs, ties at their mean rank.

    The interval is that of resampled pairs; where all values of a resample are equal, it does not
    count. The ends enclose the estimate.

    Raises:
        SpecError: there are fewer than four pairs, or all values of one side are equal.

    Example:
        >>> rank_correlation([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 5.0, 4.0]).value
        0.9
    """
    if len(x) != len(y) or len(x) < 4:
        raise SpecError(f"correlation: wanted four pairs or more, got {len(x)} and {len(y)} values")
    pairs = np.array([x, y], dtype=np.float64)
    if (np.ptp(pairs, axis=1) == 0).any():
        raise SpecError("correlation: wanted values that differ, got equal ones")
    value = float(spearmanr(*pairs).statistic)
    random = np.random.Generator(np.random.SFC64(seed))
    picked = pairs[:, random.integers(0, len(x), (RESAMPLES, len(x)))]
    found = _correlations(rankdata(picked[0], axis=1), rankdata(picked[1], axis=1))
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(found, [tail, 100 - tail])
    return Interval(min(float(low), value), round(value, 12), max(float(high), value))


def _correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the correlation of each pair of rows that has one."""
    left = left - left.mean(1, keepdims=True)
    right = right - right.mean(1, keepdims=True)
    size = np.sqrt((left**2).sum(1) * (right**2).sum(1))
    found: np.ndarray = (left * right).sum(1)[size > 0] / size[size > 0]
    return found
