import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from bitproof.explore.knapsack import (
    best_for_cost,
    cheapest_within,
    convex_front,
    undominated_pairs,
)


def tables(seed: int, units: int, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.random((units, blocks)) ** 3, draw.random((units, blocks))


def sums(table: np.ndarray, choice: np.ndarray) -> float:
    return float(table[np.arange(len(choice)), choice].sum())


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 4))
def test_the_front_has_the_best_choice_for_every_price(seed: int, units: int, blocks: int) -> None:
    scores, costs = tables(seed, units, blocks)
    front = convex_front(scores, costs)
    every = [np.array(one) for one in itertools.product(range(blocks), repeat=units)]
    for price in (0.0, 0.01, 0.1, 1.0, 10.0, 1000.0):
        best = min(sums(scores, one) + price * sums(costs, one) for one in every)
        assert (front.scores + price * front.costs).min() == pytest.approx(best)


@given(st.integers(0, 10_000), st.integers(1, 8))
def test_sums_of_the_front_are_those_of_its_choices(seed: int, units: int) -> None:
    scores, costs = tables(seed, units, 5)
    front = convex_front(scores, costs)
    choices = [front.choice(number) for number in range(len(front))]
    np.testing.assert_allclose(front.scores, [sums(scores, one) for one in choices])
    np.testing.assert_allclose(front.costs, [sums(costs, one) for one in choices])
    assert (np.diff(front.scores) >= 0).all()
    assert (np.diff(front.costs) < 0).all()


def exact_optimum(scores: np.ndarray, costs: np.ndarray, bound: float) -> float:
    """Return the least cost with at most this score, by SciPy's integer programming (HiGHS)."""
    units, blocks = scores.shape
    one_each = np.kron(np.eye(units), np.ones(blocks))
    found = milp(
        costs.ravel(),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(scores.ravel(), -np.inf, bound),
        ],
        bounds=Bounds(0, 1),
        integrality=np.ones(units * blocks),
    )
    return float(found.fun)


@pytest.mark.parametrize("seed", range(8))
def test_filled_choices_are_within_half_a_per_cent_of_integer_programming(seed: int) -> None:
    scores, costs = tables(seed, 40, 6)
    front = convex_front(scores, costs)
    bound = float(np.quantile(front.scores, 0.4))
    choice = cheapest_within(scores, costs, bound)
    assert sums(scores, choice) <= bound + 1e-9
    best = exact_optimum(scores, costs, bound)
    assert best - 1e-9 <= sums(costs, choice) <= 1.005 * best


@pytest.mark.parametrize("seed", range(4))
def test_score_and_cost_change_places(seed: int) -> None:
    scores, costs = tables(seed, 12, 4)
    bound = float(costs.mean(1).sum())
    found = best_for_cost(scores, costs, bound)
    assert sums(costs, found) <= bound + 1e-9
    best = exact_optimum(costs, scores, bound)
    assert best - 1e-9 <= sums(scores, found) <= 1.05 * best


def test_only_allowed_blocks_are_taken() -> None:
    scores, costs = tables(0, 6, 4)
    allowed = np.zeros((6, 4), bool)
    allowed[:, [1, 3]] = True
    front = convex_front(scores, costs, allowed)
    for number in range(len(front)):
        assert set(front.choice(number).tolist()) <= {1, 3}
    assert set(cheapest_within(scores, costs, 1.0, allowed).tolist()) <= {1, 3}


def test_where_nothing_is_harmless_enough_the_least_harmful_comes_back() -> None:
    scores, costs = tables(0, 6, 4)
    assert np.array_equal(cheapest_within(scores, costs, -1.0), scores.argmin(1))


def test_dominated_blocks_go_and_of_equals_one_stays() -> None:
    scores = np.array([[0.0, 1.0, 1.0, 2.0, 3.0]])
    costs = np.array([[4.0, 2.0, 2.0, 2.5, 1.0]])
    assert undominated_pairs(scores, costs).tolist() == [[True, True, False, False, True]]


def test_equal_blocks_everywhere_make_one_choice() -> None:
    front = convex_front(np.ones((3, 4)), np.ones((3, 4)))
    assert len(front) == 1
    assert front.choice(0).tolist() == [0, 0, 0]
