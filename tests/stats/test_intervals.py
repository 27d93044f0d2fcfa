import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bitproof.stats import (
    Interval,
    clopper_pearson,
    mean_interval,
    newcombe,
    student_half_width,
    wilson,
)
from bitproof.stats.intervals import (
    exact_interval,
    normal_quantile,
    score_interval,
    tango,
)


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


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 20_000), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99])
)
def test_clopper_pearson_is_scipy_s(n: int, share: float, confidence: float) -> None:
    successes = round(share * n)
    wanted = stats.binomtest(successes, n).proportion_ci(confidence, method="exact")
    low, rate, high = clopper_pearson(successes, n, confidence=confidence)
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert rate == successes / n
    assert 0 <= low <= rate <= high <= 1


@pytest.mark.parametrize(
    ("successes", "by_wilson", "by_clopper_pearson"),
    [
        (0, (0.0, 0.0038), (0.0, 0.0037)),
        (3, (0.0010, 0.0088), (0.0006, 0.0087)),
        (20, (0.0130, 0.0307), (0.0123, 0.0307)),
    ],
)
def test_a_thousand_trials_give_the_known_intervals(
    successes: int, by_wilson: tuple[float, float], by_clopper_pearson: tuple[float, float]
) -> None:
    low, _, high = wilson(successes, 1000)
    assert (low, high) == pytest.approx(by_wilson, abs=5.1e-5)
    low, _, high = clopper_pearson(successes, 1000)
    assert (low, high) == pytest.approx(by_clopper_pearson, abs=5.1e-5)


@given(rate=st.floats(0, 1), n=st.floats(0.5, 1e6))
def test_intervals_at_an_effective_number_hold_the_rate_and_mirror(rate: float, n: float) -> None:
    for take in (score_interval, exact_interval):
        low, value, high = take(rate, n)
        assert 0 <= low <= value <= high <= 1
        mirrored = take(1 - rate, n)
        assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize("take", [wilson, clopper_pearson])
@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_counts_that_cannot_be_are_refused(
    take: Callable[[int, int], Interval], successes: int, n: int
) -> None:
    with pytest.raises(ValueError, match="successes: wanted"):
        take(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_is_no_percentage(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence: wanted"):
        normal_quantile(confidence)
    with pytest.raises(ValueError, match="confidence: wanted"):
        clopper_pearson(1, 2, confidence=confidence)


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


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
    ],
)
def test_newcombe_is_that_of_the_paper(
    first: tuple[int, int], second: tuple[int, int], ends: tuple[float, float]
) -> None:
    # Newcombe 1998, table II, method 10; statsmodels 0.15.0 (method "newcomb") gives the same.
    low, value, high = newcombe(first, second)
    assert (low, high) == pytest.approx(ends, abs=5e-5)
    assert value == first[0] / first[1] - second[0] / second[1]


@given(st.integers(0, 50), st.integers(0, 50))
def test_newcombe_changes_sign_with_the_order(a: int, b: int) -> None:
    low, value, high = newcombe((a, 50), (b, 50))
    back = newcombe((b, 50), (a, 50))
    assert back == pytest.approx((-high, -value, -low))


def test_a_mean_difference_is_not_cut_off_at_zero() -> None:
    differences = [-0.1, 0.0, 0.02, -0.05]
    wanted = stats.t.interval(
        0.95, 3, loc=np.mean(differences), scale=stats.sem(differences, ddof=1)
    )
    low, _, high = mean_interval(differences, lowest=-1.0)
    assert (low, high) == pytest.approx(wanted)
    assert low < 0


def test_one_difference_alone_says_nothing() -> None:
    assert mean_interval([0.25], lowest=-1.0) == Interval(-1.0, 0.25, 1.0)
    with pytest.raises(ValueError, match="two draws"):
        student_half_width([0.25])


@pytest.mark.parametrize(
    ("gained", "lost", "n", "ends"),
    [
        # Fagerland, Lydersen and Laake 2017, table 8.12 and its like, by R's contingencytables.
        (6, 16, 161, (-0.1240, -0.0054)),
        (1, 7, 21, (-0.5172, -0.0260)),
    ],
)
def test_tango_is_that_of_published_examples(
    gained: int, lost: int, n: int, ends: tuple[float, float]
) -> None:
    low, value, high = tango(gained, lost, n)
    assert (low, high) == pytest.approx(ends, abs=5e-5)
    assert value == (gained - lost) / n
    assert tango(lost, gained, n) == pytest.approx((-high, -value, -low))


def score_test(gap: float, gained: int, lost: int, n: int) -> float:
    """Return the statistic of a true difference, its likeliest rates searched for, not solved."""
    lots = np.linspace(max(-gap, 0) + 1e-12, (1 - gap) / 2 - 1e-12, 400_001)
    same = 1 - 2 * lots - gap
    likelihood = np.zeros_like(lots)
    for seen, chance in ((gained, lots + gap), (lost, lots), (n - gained - lost, same)):
        if seen:
            likelihood += seen * np.log(np.maximum(chance, 1e-300))
    rate = float(lots[likelihood.argmax()])
    return (gained - lost - n * gap) / math.sqrt(n * (2 * rate + gap - gap**2))


@pytest.mark.parametrize("seen", [(6, 16, 161), (1, 7, 21), (30, 0, 500), (0, 0, 90), (4, 4, 8)])
def test_tango_ends_where_the_score_test_begins_to_reject(seen: tuple[int, int, int]) -> None:
    z = normal_quantile(0.95)
    low, _, high = tango(*seen)
    assert score_test(low, *seen) == pytest.approx(z, rel=1e-3)
    assert score_test(high, *seen) == pytest.approx(-z, rel=1e-3)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300))
def test_tango_excludes_zero_where_mcnemar_rejects(gained: int, lost: int, same: int) -> None:
    n = gained + lost + same + 1
    low, _, high = tango(gained, lost, n)
    clear = (gained - lost) ** 2 > normal_quantile(0.95) ** 2 * (gained + lost)
    assert (low > 0 or high < 0) == clear
    assert -1 <= low <= (gained - lost) / n <= high <= 1


@pytest.mark.parametrize(
    ("gain", "loss", "n"),
    [(0.05, 0.05, 100), (0.01, 0.005, 500), (0.1, 0.02, 60), (0.3, 0.3, 40), (0.002, 0.002, 1000)],
)
def test_tango_holds_the_truth_as_often_as_promised(gain: float, loss: float, n: int) -> None:
    most = int(n * max(gain, loss) + 6 * (n * max(gain, loss)) ** 0.5 + 5)
    seen = [(a, b) for a in range(most) for b in range(min(most, n + 1 - a))]
    chances = stats.multinomial.pmf(
        [(a, b, n - a - b) for a, b in seen], n, [gain, loss, 1 - gain - loss]
    )
    assert chances.sum() > 0.9999
    kept = [chance > 1e-8 for chance in chances]
    held = sum(
        chance
        for (a, b), chance, take in zip(seen, chances, kept, strict=True)
        if take and tango(a, b, n).low <= gain - loss <= tango(a, b, n).high
    )
    assert 0.93 < held < 0.98  # every outcome, by its chance: no draw


@pytest.mark.parametrize("seen", [(0, 0, 0), (-1, 2, 5), (3, 3, 5)])
def test_pairs_that_cannot_be_are_refused(seen: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="gained, lost: wanted 0 to"):
        tango(*seen)
