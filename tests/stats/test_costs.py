from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.stats import pareto_front
from bitproof.stats.costs import undominated

POINTS = st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), max_size=9)


@settings(max_examples=100, deadline=None)
@given(points=POINTS)
def test_the_front_beats_all_others_and_nobody_on_it(points: list[tuple[float, float]]) -> None:
    chosen = pareto_front(points)

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one != other and one[0] <= other[0] and one[1] >= other[1]

    for i, point in enumerate(points):
        beaten_by = [j for j in chosen if beats(points[j], point)]
        assert bool(beaten_by) is (i not in chosen)


def test_equal_points_stay_both() -> None:
    assert pareto_front([(1.0, 0.5), (1.0, 0.5), (2.0, 0.5)]) == [0, 1]


TRIPLES = st.lists(
    st.tuples(*(st.integers(0, 3).map(float) for _ in range(3))), min_size=0, max_size=8
)


@settings(max_examples=100, deadline=None)
@given(points=TRIPLES)
def test_what_is_undominated_is_beaten_by_nothing(points: list[tuple[float, ...]]) -> None:
    chosen = undominated(points)
    for i, own in enumerate(points):
        better = [
            other
            for other in points
            if other != own and all(a >= b for a, b in zip(other, own, strict=True))
        ]
        assert (i in chosen) is (not better)


def test_two_ways_are_the_front_of_cost_and_value() -> None:
    points = [(0.4, 0.96), (0.2, 0.95), (0.3, 0.94), (0.2, 0.95)]
    assert undominated([(-cost, value) for cost, value in points]) == pareto_front(points)
