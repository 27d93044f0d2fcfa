"""Rank correlation against scipy, and its interval against what it promises."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from bitproof.core.errors import SpecError
from bitproof.stats.correlation import rank_correlation


def pairs(n: int, slope: float, seed: int) -> tuple[list[float], list[float]]:
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    y = slope * x + random.normal(size=n)
    return x.tolist(), y.round(1).tolist()  # rounded: with ties


@pytest.mark.parametrize("slope", [-1.0, 0.0, 2.0])
def test_the_estimate_is_that_of_scipy(slope: float) -> None:
    x, y = pairs(30, slope, 0)
    found = rank_correlation(x, y)
    assert found.value == pytest.approx(spearmanr(x, y).statistic)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found == rank_correlation(x, y)


@pytest.mark.slow
def test_the_interval_covers_the_truth_of_independent_pairs() -> None:
    covered = sum(
        (found := rank_correlation(*pairs(40, 0.0, seed), seed=seed)).low <= 0 <= found.high
        for seed in range(100)
    )
    assert 88 <= covered <= 99


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "wanted four pairs"),
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0], "wanted four pairs"),
        ([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0], "got equal ones"),
    ],
)
def test_what_has_no_correlation_is_refused(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        rank_correlation(x, y)
