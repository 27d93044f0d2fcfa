import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.stats import allocate, sample_size

RESNET18_BITS = 89_314_816


@pytest.mark.parametrize(
    ("margin", "confidence", "published"),
    [
        (0.05, 0.95, 384),
        (0.01, 0.95, 9_603),
        (0.01, 0.99, 16_584),
        (0.005, 0.99, 66_300),
        (0.001, 0.99, 1_628_481),
    ],
)
def test_published_sample_sizes_come_back(margin: float, confidence: float, published: int) -> None:
    # Published numbers are rounded to the nearest, ours are rounded up.
    found = sample_size(RESNET18_BITS, margin=margin, confidence=confidence)
    assert found in {published, published + 1}


def test_an_endless_population_needs_9604() -> None:
    assert sample_size(10**15, margin=0.01) == 9604


def test_a_rare_outcome_needs_fewer() -> None:
    assert sample_size(10**9, margin=0.005, rate=0.01) < sample_size(10**9, margin=0.005)


@given(population=st.integers(1, 10**10), margin=st.floats(1e-4, 0.5))
def test_the_sample_keeps_the_margin_and_one_less_would_not(population: int, margin: float) -> None:
    def half_width(n: int) -> float:
        unseen = (population - n) / (population - 1)
        return 1.959963984540054 * math.sqrt(0.25 / n * unseen)

    n = sample_size(population, margin=margin)
    assert 1 <= n <= population
    if population > 1:
        assert half_width(n) <= margin * (1 + 1e-9)
        assert n == 1 or half_width(n - 1) > margin * (1 - 1e-9)


@pytest.mark.parametrize(
    ("population", "margin", "rate"), [(0, 0.1, 0.5), (9, 0, 0.5), (9, 1, 0.5), (9, 0.1, 1)]
)
def test_sizes_of_nothing_are_refused(population: int, margin: float, rate: float) -> None:
    with pytest.raises(ValueError, match="wanted"):
        sample_size(population, margin=float(margin), rate=float(rate))


SIZES = st.lists(st.integers(0, 10**6), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), sizes=SIZES, n=st.integers(0, 10**6), floor=st.integers(0, 5))
@pytest.mark.parametrize("how", ["proportional", "equal", "neyman"])
def test_draws_sum_up_and_fit_their_strata(
    how: str, data: st.DataObject, sizes: list[int], n: int, floor: int
) -> None:
    spreads = st.lists(st.just(0.0) | st.floats(0, 0.5), min_size=len(sizes), max_size=len(sizes))
    spread = data.draw(spreads) if how == "neyman" else None
    draws = allocate(sizes, n, how=how, spread=spread, floor=floor)  # type: ignore[arg-type]
    assert sum(draws) == min(n, sum(sizes))
    assert all(0 <= drawn <= size for drawn, size in zip(draws, sizes, strict=True))
    least = [min(size, floor) for size in sizes]
    if sum(least) <= n:
        assert all(drawn >= one for drawn, one in zip(draws, least, strict=True))


@given(sizes=SIZES, n=st.integers(0, 10**6))
def test_proportional_draws_are_off_by_less_than_one(sizes: list[int], n: int) -> None:
    draws = allocate(sizes, n, floor=0)
    share = min(n, sum(sizes)) / max(sum(sizes), 1)
    for drawn, size in zip(draws, sizes, strict=True):
        assert abs(drawn - share * size) < 1 + 1e-6


@given(sizes=SIZES, n=st.integers(0, 10**6))
def test_equal_draws_differ_by_one_but_in_full_strata(sizes: list[int], n: int) -> None:
    draws = allocate(sizes, n, how="equal", floor=0)
    free = [drawn for drawn, size in zip(draws, sizes, strict=True) if drawn < size]
    if free:
        assert max(draws) <= min(free) + 1


def test_neyman_minimises_the_variance() -> None:
    sizes, spread, n = [40, 25, 60], [0.5, 0.1, 0.3], 30

    def variance(draws: list[int]) -> float:
        return sum((N * s) ** 2 / k for N, s, k in zip(sizes, spread, draws, strict=True))

    best = min(([a, b, n - a - b] for a in range(1, 29) for b in range(1, n - a)), key=variance)
    found = allocate(sizes, n, how="neyman", spread=spread)
    assert max(abs(a - b) for a, b in zip(found, best, strict=True)) <= 1
    assert variance(found) <= variance(best) * 1.005


def test_strata_without_spread_fill_up_last() -> None:
    assert allocate([10, 10, 10], 8, how="neyman", spread=[0.0, 0.5, 0.5]) == [1, 4, 3]
    assert allocate([10, 10, 10], 25, how="neyman", spread=[0.0, 0.5, 0.5]) == [5, 10, 10]


def test_one_draw_each_where_there_are_enough() -> None:
    assert allocate([10**6, 1, 0, 5], 10) == [8, 1, 0, 1]
    assert allocate([10**6, 1, 0, 5], 2) == [2, 0, 0, 0]


def test_nothing_can_be_split() -> None:
    assert allocate([], 5) == []
    assert allocate([0, 0], 5) == [0, 0]


@pytest.mark.parametrize(
    ("how", "spread"),
    [
        ("neyman", None),
        ("equal", [0.1, 0.1]),
        ("neyman", [0.1]),
        ("neyman", [0.1, -0.1]),
        ("neyman", [0.1, math.nan]),
    ],
)
def test_a_spread_that_does_not_fit_is_refused(how: str, spread: list[float] | None) -> None:
    with pytest.raises(ValueError, match="spread: wanted"):
        allocate([5, 5], 4, how=how, spread=spread)  # type: ignore[arg-type]


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="no negative"):
        allocate([5, -1], 2)
    with pytest.raises(ValueError, match="no negative"):
        allocate([5], -2)
