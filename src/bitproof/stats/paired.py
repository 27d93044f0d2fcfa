"""The difference of two rates over the same units: faults, chips or images that both sides met.

Model:  each unit gives two rates; what the first has more and what the second has more are two
        rates over units again, of which at least one is 0 in each unit. Their intervals are
        combined with the correlation that this exclusion makes, so that nothing seen is not nothing
        there.
Source: Newcombe, "Improved confidence intervals for the difference between binomial proportions
        based on paired data", Statistics in Medicine 1998 (square-and-add with correlation; here
        of the two discordant rates, for outcomes that are fractions, too).
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from bitproof.stats.intervals import Interval


def paired_difference(
    first: Float[np.ndarray, " u"],
    second: Float[np.ndarray, " u"],
    *,
    rate: Callable[[Float[np.ndarray, " u"]], Interval],
) -> Interval:
    """Return first minus second, each from the same units.

    Args:
        first: for each unit, a fraction.
        second: for the same units, in the same order.
        rate: gives the rate over units of such fractions, with its interval; `mean_rate`, or
            `stratified_rate` by its strata.

    Example:
        >>> from bitproof.stats.clusters import mean_rate
        >>> one, two = np.array([1.0] * 30 + [0.0] * 70), np.array([1.0] * 20 + [0.0] * 80)
        >>> [round(end, 3) for end in paired_difference(one, two, rate=mean_rate)]
        [0.042, 0.1, 0.175]
    """
    gain, loss = np.maximum(first - second, 0.0), np.maximum(second - first, 0.0)
    up, down = rate(gain), rate(loss)
    correlation = 0.0
    spread = float(gain.std() * loss.std())
    if spread > 0:
        correlation = max(-1.0, -float(gain.mean() * loss.mean()) / spread)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one * one + other * other - 2 * correlation * one * other, 0.0))

    value = up.value - down.value
    low = value - reach(up.value - up.low, down.high - down.value)
    high = value + reach(up.high - up.value, down.value - down.low)
    return Interval(max(low, -1.0), value, min(high, 1.0))
