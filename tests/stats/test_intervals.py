import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bitproof.stats import mean_interval, wilson


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 20_000), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99])
)
def test_wilson_is_scipy_s(n: int, share: float, confidence: float) -> None:
    successes = round(share * n)
    wanted = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    low, rate, high = wilson(successes, n, confidence=confidence)
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert rate == successes / n
    assert 0 <= low <= rate <= high <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_counts_that_cannot_be(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes: wanted"):
        wilson(successes, n)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(0, 1), min_size=2, max_size=30),
    confidence=st.sampled_from([0.8, 0.95, 0.99]),
)
def test_mean_interval_is_scipy_s(values: list[float], confidence: float) -> None:
    low, mean, high = mean_interval(values, confidence=confidence)
    error = stats.sem(values)
    assert mean == pytest.approx(np.mean(values))
    if error == 0:
        assert low == pytest.approx(mean)
        assert high == pytest.approx(mean)
        return
    wanted = stats.t.interval(confidence, len(values) - 1, loc=np.mean(values), scale=error)
    assert (low, high) == pytest.approx((max(0, wanted[0]), min(1, wanted[1])), abs=1e-9)


def test_one_draw_alone_says_nothing_about_the_spread() -> None:
    assert mean_interval([0.4]) == (0.0, 0.4, 1.0)


def test_mean_intervals_cover_the_truth_as_often_as_promised() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.05, size=(1000, 10))
    covered = sum(low <= 0.5 <= high for low, _, high in map(mean_interval, draws.tolist()))
    # Five standard deviations of a binomial count around 950.
    assert abs(covered - 950) < 5 * (1000 * 0.95 * 0.05) ** 0.5
