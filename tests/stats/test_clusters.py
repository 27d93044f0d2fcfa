import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.stats import (
    Interval,
    clopper_pearson,
    cluster_rate,
    mean_rate,
    stratified_rate,
    wilson,
)
from bitproof.stats.clusters import Method

IMAGES = 64
METHODS: list[Method] = ["wilson", "clopper_pearson"]


def width(interval: Interval) -> float:
    return interval.high - interval.low


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hit", [0, IMAGES])
def test_at_rate_0_and_1_the_faults_are_the_trials(method: Method, hit: int) -> None:
    found = cluster_rate(np.full(100, hit), np.full(100, IMAGES), method=method)
    plain = wilson if method == "wilson" else clopper_pearson
    assert found == pytest.approx(plain(100 * (hit > 0), 100))


def test_one_fault_alone_is_one_trial() -> None:
    assert cluster_rate(np.array([0]), np.array([IMAGES])) == pytest.approx(wilson(0, 1))


def test_images_that_agree_count_once() -> None:
    hits = np.array([IMAGES] * 300 + [0] * 700)
    found = cluster_rate(hits, np.full(1000, IMAGES))
    assert found == pytest.approx(wilson(300, 1000), abs=3e-4)


def test_a_single_stray_image_does_not_shorten_the_interval() -> None:
    # Korn and Graubard's interval would end at 0.0009 here, against 0.036 with no stray image.
    none, one = np.zeros(100, np.int64), np.zeros(100, np.int64)
    one[0] = 1
    high = cluster_rate(one, np.full(100, IMAGES)).high
    assert high == pytest.approx(cluster_rate(none, np.full(100, IMAGES)).high, rel=0.05)


def test_the_interval_approaches_korn_and_graubard_s() -> None:
    # The reference is the delete-one jackknife of the ratio, with sizes and weights that differ.
    random = np.random.default_rng(1)
    totals = random.integers(20, 100, 20_000)
    hits = random.binomial(totals, random.beta(1, 4, 20_000))
    weights = random.uniform(0.5, 2, 20_000)
    over, under = weights * hits, weights * totals
    left_out = (over.sum() - over) / (under.sum() - under)
    error = np.sqrt(((left_out - left_out.mean()) ** 2).sum() * 19_999 / 20_000)
    found = cluster_rate(hits, totals, weights=weights)
    assert found.value == pytest.approx(over.sum() / under.sum())
    assert width(found) == pytest.approx(2 * 1.96 * error, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(
    hits=st.lists(st.integers(0, IMAGES), min_size=1, max_size=50),
    method=st.sampled_from(METHODS),
)
def test_the_interval_holds_its_rate_and_mirrors(hits: list[int], method: Method) -> None:
    count = len(hits)
    found = cluster_rate(np.array(hits), np.full(count, IMAGES), method=method)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.value == pytest.approx(sum(hits) / (count * IMAGES))
    other = cluster_rate(IMAGES - np.array(hits), np.full(count, IMAGES), method=method)
    assert (1 - other.high, 1 - other.low) == pytest.approx((found.low, found.high), abs=1e-9)
    # Never as short as if each image were a trial of its own, and about as long as if faults were.
    plain = wilson if method == "wilson" else clopper_pearson
    assert width(found) >= width(plain(sum(hits), count * IMAGES)) * (1 - 1e-9)


def test_the_order_of_faults_does_not_matter() -> None:
    hits = np.random.default_rng(2).binomial(IMAGES, 0.1, 200)
    forth = cluster_rate(hits, np.full(200, IMAGES))
    assert cluster_rate(hits[::-1], np.full(200, IMAGES)) == pytest.approx(forth)


def test_a_whole_population_leaves_nothing_to_guess() -> None:
    hits = np.array([0, 3, IMAGES, 7])
    widths = [
        width(cluster_rate(hits, np.full(4, IMAGES), population=population))
        for population in (4, 5, 8, 100, 10**9)
    ]
    assert widths[0] == 0
    assert widths == sorted(widths)
    assert widths[-1] == pytest.approx(width(cluster_rate(hits, np.full(4, IMAGES))))


def test_one_stratum_is_no_stratum() -> None:
    values = np.random.default_rng(3).beta(0.2, 1.0, 300)
    one = stratified_rate(values, np.zeros(300, np.int64), [10**12])
    assert one == pytest.approx(mean_rate(values), abs=1e-6)


def test_strata_that_differ_shorten_the_interval() -> None:
    values, where = np.repeat([0.0, 1.0], 100), np.repeat([0, 1], 100)
    together = mean_rate(values)
    apart = stratified_rate(values, where, [10**6, 10**6])
    assert apart.value == together.value
    assert width(apart) < width(together) / 3


def test_a_fully_drawn_stratum_adds_no_error() -> None:
    values, where = np.array([1.0, 0.0, 0.5, 0.5, 0.5]), np.array([0, 0, 1, 1, 1])
    assert width(stratified_rate(values, where, [2, 3])) == 0
    assert stratified_rate(values, where, [2, 3, 0]).value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("hits", "totals", "message"),
    [
        ([], [], "clusters: wanted"),
        ([6], [5], "successes: wanted"),
        ([-1], [5], "successes: wanted"),
        ([0], [0], "successes: wanted"),
    ],
)
def test_counts_that_cannot_be_are_refused(
    hits: list[int], totals: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_rate(np.array(hits, np.int64), np.array(totals, np.int64))


def test_weights_and_populations_that_cannot_be_are_refused() -> None:
    hits, totals = np.array([1, 2]), np.array([5, 5])
    with pytest.raises(ValueError, match="weights: wanted"):
        cluster_rate(hits, totals, weights=np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="population: wanted at least the 2"):
        cluster_rate(hits, totals, population=1)
    with pytest.raises(ValueError, match="confidence: wanted"):
        cluster_rate(hits, totals, confidence=95.0)


@pytest.mark.parametrize(
    ("values", "strata", "sizes", "message"),
    [
        ([], [], [5], "values: wanted"),
        ([1.5], [0], [5], "values: wanted"),
        ([float("nan")], [0], [5], "values: wanted"),
        ([0.5], [1], [5], "strata: wanted"),
        ([0.5], [0], [5, 5], "sizes: wanted"),
        ([0.5, 0.5], [0, 0], [1], "sizes: wanted"),
    ],
)
def test_strata_that_cannot_be_are_refused(
    values: list[float], strata: list[int], sizes: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        stratified_rate(np.array(values, np.float64), np.array(strata, np.int64), sizes)
