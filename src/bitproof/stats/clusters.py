"""The rate of an outcome where the unit is the fault, a cluster of images, not the image.

Model:  faults are drawn independently (or without return from a finite population); the images
        that share a fault may agree as much as they like. The interval is a binomial one at an
        effective number of trials, rate (1 - rate) / variance, where the variance is measured
        between faults and corrected for few faults by Student's t.
Source: Korn and Graubard, "Confidence Intervals for Proportions with Small Expected Number of
        Positive Counts Estimated from Survey Data", Survey Methodology 1998; Cochran, "Sampling
        Techniques", 3rd ed. 1977, chapters 5 (strata) and 6 (ratios).

Two departures, which `tests/stats/test_coverage.py` shows to be needed. Let f be the faults.

1. *What was not seen counts.* Where 99 faults do nothing and the 100th spoils one image of 64,
   the measured variance is tiny, and Korn and Graubard's interval ends at 0.1 %, as if no fault
   could ruin every image. Where 3 faults in 1,000 do, and one image in 1,000 is spoilt anyhow,
   it holds the truth in 25 % of campaigns of 100 faults, not in 95 %. So numerator and
   denominator of the effective number carry z²/2 all-or-nothing faults more, as Agresti and
   Coull add z² trials. A rate of 0 or 1 thereby gets exactly f effective trials, without a
   jump; the addition vanishes as outcomes grow many.
2. *The bounds.* Outcomes lie in 0..1, so faults of one size vary at most as f all-or-nothing
   trials do: Student's t never brings the number below that. Nor is it above the images.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Integer, Real

from bitproof.stats.intervals import Interval, exact_interval, normal_quantile, score_interval

Method = Literal["wilson", "clopper_pearson"]
"""Interval at the effective number of trials; Clopper-Pearson where at least 95 % is claimed."""


def cluster_rate(
    successes: Real[np.ndarray, " f"],
    totals: Real[np.ndarray, " f"],
    *,
    weights: Real[np.ndarray, " f"] | None = None,
    population: int | None = None,
    confidence: float = 0.95,
    method: Method = "wilson",
) -> Interval:
    """Return the rate over all images of all faults, with an interval between faults.

    Args:
        successes: for each fault, the images with the outcome.
        totals: for each fault, the images it was tried on.
        weights: for each fault, how many of the population it stands for; one alike, if not
            given. Where strata are known, `stratified_rate` gives shorter intervals.
        population: possible faults, if these were drawn from them without return: the interval
            shrinks to a point as all are tried. The images are taken as given. With half the
            population drawn, Clopper-Pearson's coverage can fall to 94.7 %, with 90 % to 93 %.
        confidence: how often the interval holds the truth.
        method: how the interval is taken at the effective number of trials.

    Raises:
        ValueError: there is no fault, a count or weight is out of its range, or the population is
            smaller than the sample.

    Example:
        >>> hits, images = np.array([64, 0, 0, 0, 64, 0, 0, 1, 0, 0]), np.full(10, 64)
        >>> [round(end, 3) for end in cluster_rate(hits, images)]
        [0.056, 0.202, 0.518]
    """
    count = len(successes)
    scale = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    if not count:
        raise ValueError("clusters: wanted at least one fault, got none")
    if not ((totals > 0) & (successes >= 0) & (successes <= totals)).all():
        raise ValueError("successes: wanted 0 to the images of each fault, at least one image")
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise ValueError("weights: wanted finite numbers above 0")
    if population is not None and population < count:
        raise ValueError(f"population: wanted at least the {count} faults tried, got {population}")
    shares = scale * totals / (scale * totals).sum()
    rates = successes / totals
    rate = float(shares @ rates)
    unseen = 1.0 if population is None else 1 - count / population
    return _interval(
        rate,
        spread=(rates - rate) * np.sqrt(count / max(count - 1, 1)),
        shares=shares * np.sqrt(unseen),
        freedom=count - 1,
        images=float(totals.sum()) / unseen if unseen else np.inf,
        confidence=confidence,
        method=method,
    )


def ratio_rate(
    successes: int,
    total: int,
    *,
    count: int,
    success_squares: int,
    products: int,
    total_squares: int,
    confidence: float = 0.95,
) -> Interval:
    """Return the rate over parts of clusters, from sums over clusters alone.

    It is that of `cluster_rate`, where clusters are of one size; of clusters of several sizes, the
    largest is taken to be of the size that a part's cluster has on average.

    Args:
        successes: parts with the outcome, in all clusters.
        total: parts.
        count: clusters.
        success_squares: sum over clusters of the squares of their parts with the outcome.
        products: sum over clusters of their parts with the outcome times their parts.
        total_squares: sum over clusters of the squares of their parts.
        confidence: how often the interval holds the truth.

    Example:
        >>> hits, parts = np.array([64, 0, 0, 0, 64, 0, 0, 1, 0, 0]), np.full(10, 64)
        >>> names = ("success_squares", "products", "total_squares")
        >>> sums = map(int, (hits @ hits, hits @ parts, parts @ parts))
        >>> sums = dict(zip(names, sums, strict=True))
        >>> [round(end, 3) for end in ratio_rate(129, 640, count=10, **sums)]
        [0.056, 0.202, 0.518]
    """
    if not total:
        return Interval(0.0, 0.0, 1.0)
    rate = successes / total
    squares = success_squares - 2 * rate * products + rate * rate * total_squares
    variance = max(squares, 0.0) * count / max(count - 1, 1) / total**2
    share = total_squares / total**2
    return _effective(
        rate,
        variance=variance,
        largest=share,
        all_or_nothing=1 / share,
        freedom=count - 1,
        images=float(total),
        confidence=confidence,
        method="wilson",
    )


def mean_rate(
    values: Float[np.ndarray, " f"], *, confidence: float = 0.95, method: Method = "wilson"
) -> Interval:
    """Return the mean of one fraction for each fault, with an interval between faults.

    Raises:
        ValueError: there is no value, or one outside 0 .. 1.

    Example:
        >>> [round(end, 3) for end in mean_rate(np.array([1.0, 0.0, 0.0, 0.0]))]
        [0.043, 0.25, 0.713]
    """
    return stratified_rate(
        values, np.zeros(len(values), np.int64), None, confidence=confidence, method=method
    )


def stratified_rate(
    values: Float[np.ndarray, " f"],
    strata: Integer[np.ndarray, " f"],
    sizes: Sequence[int] | None,
    *,
    confidence: float = 0.95,
    method: Method = "wilson",
) -> Interval:
    """Return the rate over a population of which each stratum was sampled at its own density.

    A stratum with a single draw borrows the overall rate as the centre of its spread.

    Args:
        values: for each fault, the fraction of images with the outcome.
        strata: for each fault, the index of its stratum.
        sizes: for each stratum, its possible faults; None stands for one endless stratum.
        confidence: how often the interval holds the truth.
        method: how the interval is taken at the effective number of trials.

    Raises:
        ValueError: there is no value, or one outside 0 .. 1, or a stratum that is not empty has no
            draw, or more draws than faults.

    Example:
        >>> values = np.array([1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
        >>> where = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> [round(end, 3) for end in stratified_rate(values, where, [100, 900])]
        [0.006, 0.075, 0.517]
    """
    if not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("values: wanted at least one, each between 0 and 1")
    if strata.min() < 0 or strata.max() >= (1 if sizes is None else len(sizes)):
        raise ValueError("strata: wanted indices into the sizes")
    draws = np.bincount(strata, minlength=1 if sizes is None else len(sizes))
    parts, unseen = (np.ones(1), np.ones(1)) if sizes is None else _parts(draws, sizes)
    means = np.bincount(strata, values, minlength=len(draws)) / np.maximum(draws, 1)
    rate = min(1.0, float(parts @ means))
    centre = np.where(draws > 1, means, rate)
    few = np.sqrt(draws / np.maximum(draws - 1, 1))
    return _interval(
        rate,
        spread=(values - centre[strata]) * few[strata],
        shares=(parts / np.maximum(draws, 1) * np.sqrt(unseen))[strata],
        freedom=len(values) - int((draws > 0).sum()),
        images=np.inf,
        confidence=confidence,
        method=method,
    )


def _parts(
    draws: Integer[np.ndarray, " h"], sizes: Sequence[int]
) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, " h"]]:
    """Return each stratum's share of the population, and the share of it that was not drawn."""
    whole = np.asarray(sizes, dtype=np.float64)
    if not ((draws <= whole) & ((draws > 0) | (whole == 0))).all():
        raise ValueError(f"sizes: wanted 1 to size draws, got {draws.tolist()} of {list(sizes)}")
    return whole / whole.sum(), 1 - draws / np.maximum(whole, 1)


def _interval(
    rate: float,
    *,
    spread: Float[np.ndarray, " f"],
    shares: Float[np.ndarray, " f"],
    freedom: int,
    images: float,
    confidence: float,
    method: Method,
) -> Interval:
    """Return the interval at the effective number of trials.

    Args:
        rate: the estimate.
        spread: deviation of each fault's rate, scaled for the degrees of freedom it cost.
        shares: weight of each fault's deviation in the error of the estimate.
        freedom: degrees of freedom of the variance.
        images: trials on single images, which the effective number does not exceed.
        confidence: how often the interval holds the truth.
        method: how the interval is taken.
    """
    largest = float(shares.max())
    if largest == 0:
        return Interval(rate, rate, rate)
    variance = float(((shares * spread) ** 2).sum())
    all_or_nothing = 1 / float((shares**2).sum())
    return _effective(
        rate,
        variance=variance,
        largest=largest,
        all_or_nothing=all_or_nothing,
        freedom=freedom,
        images=images,
        confidence=confidence,
        method=method,
    )


def _effective(
    rate: float,
    *,
    variance: float,
    largest: float,
    all_or_nothing: float,
    freedom: int,
    images: float,
    confidence: float,
    method: Method,
) -> Interval:
    """Return the interval at the effective number of trials, which all-or-nothing faults bound."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import

    z = normal_quantile(confidence)
    imagined = z * z / 2
    measured = (rate * (1 - rate) + imagined * largest) / (variance + imagined * largest**2)
    ample = (z / float(stdtrit(freedom, (1 + confidence) / 2))) ** 2 if freedom > 0 else 0.0
    n = min(max(measured * ample, min(measured, all_or_nothing)), images)
    take = score_interval if method == "wilson" else exact_interval
    return take(rate, n, confidence=confidence)
