"""How often paired intervals hold the true difference."""

import numpy as np
import pytest

from bitproof.stats import difference, mean_rate, stratified_rate
from bitproof.stats.paired import paired_difference

IMAGES = 32


def draw(kind: str, n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Return two rates of each of `n` units, and the true mean difference."""
    if kind == "bernoulli":  # 5 % lose, 2 % win, the others agree
        place = random.random(n)
        both = (random.random(n) < 0.4) * 1.0
        first = np.where(place < 0.05, 1.0, np.where(place < 0.07, 0.0, both))
        second = np.where(place < 0.05, 0.0, np.where(place < 0.07, 1.0, both))
        return first, second, 0.03
    if kind == "balanced":
        flip = random.random(n) < 0.5
        return flip * 1.0, (~flip) * 1.0, 0.0
    if kind == "same":
        own = random.beta(0.2, 0.8, n)
        first, second = (random.binomial(IMAGES, own) / IMAGES for _ in range(2))
        return first, second, 0.0
    own = random.beta(0.3, 1.2, n)  # the second has a tenth of the first
    return random.binomial(IMAGES, own) / IMAGES, random.binomial(IMAGES, own / 10) / IMAGES, 0.18


@pytest.mark.parametrize("kind", ["bernoulli", "balanced", "same", "tenth"])
@pytest.mark.parametrize("n", [40, 300])
def test_the_difference_lies_in_its_interval_as_often_as_promised(kind: str, n: int) -> None:
    random, hits, draws = np.random.default_rng(5), 0, 150
    for _ in range(draws):
        first, second, truth = draw(kind, n, random)
        low, value, high = paired_difference(first, second, rate=mean_rate)
        assert value == pytest.approx(float((first - second).mean()))
        hits += low <= truth <= high
    assert hits >= 0.93 * draws - 5 * (0.0475 * draws) ** 0.5


def test_pairs_that_mostly_agree_are_told_apart_where_sides_alone_are_not() -> None:
    random = np.random.default_rng(0)
    first, second, _ = draw("bernoulli", 600, random)
    paired = paired_difference(first, second, rate=mean_rate)
    apart = difference(mean_rate(first), mean_rate(second))
    assert paired.value == pytest.approx(apart.value)
    assert paired.high - paired.low < 0.6 * (apart.high - apart.low)


def test_strata_and_whole_populations_count() -> None:
    first, second = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0, 0.0])
    strata = np.array([0, 0, 1, 1])
    whole = paired_difference(
        first, second, rate=lambda values: stratified_rate(values, strata, [2, 2])
    )
    assert whole == (0.25, 0.25, 0.25)  # all were tried


def test_nothing_seen_is_not_nothing_there() -> None:
    same = np.zeros(50)
    low, value, high = paired_difference(same, same, rate=mean_rate)
    assert (value, -low) == (0.0, high)
    assert 0.03 < high < 0.08
