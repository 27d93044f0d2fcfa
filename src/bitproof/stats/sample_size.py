"""How many faults to draw, and how to split them over strata.

Model:  faults are drawn without return from a finite population; the rate of an outcome is then
        known to within a margin, by the normal approximation, whatever the rate turns out to be.
Source: Leveugle, Calvez, Maistri and Vanhauwaert, "Statistical Fault Injection: Quantified Error
        and Confidence", DATE 2009; Ruospo et al., "Assessing Convolutional Neural Networks
        Reliability through Statistical Fault Injections", DATE 2023 (data-aware strata);
        Neyman, "On the Two Different Aspects of the Representative Method", 1934.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from bitproof.stats.intervals import normal_quantile


def sample_size(
    population: int, *, margin: float, confidence: float = 0.95, rate: float = 0.5
) -> int:
    """Return how many faults to draw from `population` to know a rate to within `margin`.

    The formula's number is rounded up, with the exact quantile (1.95996 at 95 %). Papers also
    round to the nearest: 384.1 faults for 5 % at 95 % are 385 here. For 1 % at 95 %, an endless
    population needs 9603.6, thus 9604, and one of 89 million 9602.6, thus 9603.

    Args:
        population: possible faults.
        margin: half the width of the interval, as a fraction.
        confidence: how often the interval holds the truth.
        rate: assumed rate of the outcome; 0.5 needs the most faults.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> sample_size(89_314_816, margin=0.01), sample_size(1000, margin=0.01)
        (9603, 906)
    """
    if population < 1:
        raise ValueError(f"population: wanted at least 1, got {population}")
    if not (0 < margin < 1 and 0 < rate < 1):
        raise ValueError(f"margin, rate: wanted numbers between 0 and 1, got {margin} and {rate}")
    quantile = normal_quantile(confidence)
    odds = margin**2 * (population - 1) / (quantile**2 * rate * (1 - rate))
    return min(population, math.ceil(population / (1 + odds)))


def allocate(
    sizes: Sequence[int],
    n: int,
    *,
    how: Literal["proportional", "equal", "neyman"] = "proportional",
    spread: Sequence[float] | None = None,
    floor: int = 1,
) -> list[int]:
    """Split `n` draws over strata; what a stratum cannot take goes to the others.

    The draws sum to `n`, or to the population where that is smaller. Shares are exact fractions,
    and the largest remainders are rounded up, the first of equals first.

    Args:
        sizes: possible faults in each stratum; none gets more draws.
        n: draws in all.
        how: in proportion to the sizes; equally; or, after Neyman, in proportion to the sizes
            times the `spread`, which gives the smallest variance if the spreads are true.
        spread: assumed standard deviation of the outcome in each stratum, for "neyman" only.
        floor: least number of draws of a stratum (all of it, if it is smaller). If `n` does
            not suffice for that, there is no floor.

    Raises:
        ValueError: a number is negative, or `spread` is missing, superfluous or of another
            length than `sizes`.

    Example:
        >>> allocate([1000, 90, 10], 50)
        [45, 4, 1]
        >>> allocate([1000, 90, 10], 50, how="equal")
        [20, 20, 10]
        >>> allocate([1000, 90, 10], 50, how="neyman", spread=[0.01, 0.5, 0.3])
        [9, 39, 2]
    """
    if n < 0 or floor < 0 or any(size < 0 for size in sizes):
        raise ValueError("sizes, n, floor: wanted no negative number")
    if (spread is not None) != (how == "neyman"):
        raise ValueError(f"spread: wanted for 'neyman' and for nothing else, got how='{how}'")
    weights = [Fraction(size) for size in sizes]
    if how == "equal":
        weights = [Fraction(int(size > 0)) for size in sizes]
    if spread is not None:
        if len(spread) != len(sizes) or not all(0 <= one < math.inf for one in spread):
            raise ValueError("spread: wanted one finite number, not negative, for each stratum")
        weights = [size * Fraction(one) for size, one in zip(sizes, spread, strict=True)]
    n = min(n, sum(sizes))
    least = [min(size, floor) for size in sizes]
    if sum(least) > n:
        least = [0] * len(sizes)
    some = [i for i, weight in enumerate(weights) if weight]
    idle = [i for i, weight in enumerate(weights) if not weight]
    # Strata of no spread get the least, and more only once all others are full.
    share = min(n - sum(least[i] for i in idle), sum(sizes[i] for i in some))
    draws = [0] * len(sizes)
    for group, part, parts in (
        (some, share, weights),
        (idle, n - share, [Fraction(max(size, 1)) for size in sizes]),
    ):
        limits = [(parts[i], least[i], sizes[i]) for i in group]
        for i, count in zip(group, _fill(limits, part), strict=True):
            draws[i] = count
    return draws


def _fill(limits: Sequence[tuple[Fraction, int, int]], n: int) -> list[int]:
    """Return counts that sum to `n`, in proportion to weights, each from its least to its most.

    Args:
        limits: weight (above 0), least and most of each.
        n: the sum, not below that of the leasts and not above that of the mosts.
    """
    counts = [0] * len(limits)
    free = set(range(len(limits)))
    while free:
        total = sum(limits[i][0] for i in free)
        ideal = {i: n * limits[i][0] / total for i in free}
        over = {i: limits[i][2] for i in free if ideal[i] > limits[i][2]}
        under = {i: limits[i][1] for i in free if ideal[i] < limits[i][1]}
        too_much = sum(ideal[i] - most for i, most in over.items())
        too_little = sum(least - ideal[i] for i, least in under.items())
        # Cutting the larger breach moves all others further away from their opposite limit.
        settled = over if too_much >= too_little else under
        if not settled:
            break
        for i, count in settled.items():
            counts[i] = count
            n -= count
        free -= settled.keys()
    for i in free:
        counts[i] = math.floor(ideal[i])
        n -= counts[i]
    for i in sorted(free, key=lambda i: (counts[i] - ideal[i], i))[:n]:
        counts[i] += 1
    return counts
