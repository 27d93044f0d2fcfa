import itertools

import numpy as np
import pytest

from bitproof.core.errors import SpecError
from bitproof.data import Dataset
from bitproof.explore import JointScore, MultiplierSet, ObservedScore, take_profile, units_of
from bitproof.explore.interactions import Interactions, check_size
from bitproof.explore.knapsack import convex_front
from bitproof.quant import IntegerNetwork


def drawn(seed: int, units: int = 6, blocks: int = 3) -> tuple[np.ndarray, Interactions]:
    draw = np.random.default_rng(seed)
    effects = draw.normal(0.2, 1.0, (40, units, blocks)).astype(np.float32)
    effects[:, :, 0] = 0.0
    return effects, Interactions.of(effects)


def by_hand(effects: np.ndarray, choice: np.ndarray) -> float:
    total = sum(effects[:, unit, block] for unit, block in enumerate(choice))
    return float((np.asarray(total, np.float64) ** 2).mean())


@pytest.mark.parametrize("seed", range(4))
def test_harm_is_the_mean_squared_sum_of_effects(seed: int) -> None:
    effects, both = drawn(seed)
    for choice in np.random.default_rng(seed).integers(0, 3, (20, 6)):
        assert both.harm(choice) == pytest.approx(by_hand(effects, choice), rel=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_improved_choices_have_no_better_neighbour(seed: int) -> None:
    effects, both = drawn(seed)
    draw = np.random.default_rng(seed)
    costs = np.sort(draw.random((6, 3)), 1)[:, ::-1].copy()
    allowed = np.ones((6, 3), bool)
    found = both.improved(draw.integers(0, 3, 6), costs, 2.0, allowed)

    def worth(choice: np.ndarray) -> float:
        return by_hand(effects, choice) + 2.0 * float(costs[np.arange(6), choice].sum())

    for unit, block in itertools.product(range(6), range(3)):
        other = found.copy()
        other[unit] = block
        assert worth(other) >= worth(found) - 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_filled_choices_are_cheap_and_within_the_bound(seed: int) -> None:
    effects, both = drawn(seed)
    costs = np.sort(np.random.default_rng(seed).random((6, 3)), 1)[:, ::-1].copy()
    allowed = np.ones((6, 3), bool)
    front = convex_front(both.alone, costs, allowed)
    bound = 1.5

    def cost(choice: np.ndarray) -> float:
        return float(costs[np.arange(6), choice].sum())

    able = [
        both.filled(choice, costs, bound, allowed)
        for choice in both.choices(front, costs, allowed)
        if both.harm(choice) <= bound
    ]
    every = [np.array(one) for one in itertools.product(range(3), repeat=6)]
    best = min(cost(one) for one in every if by_hand(effects, one) <= bound)
    assert all(by_hand(effects, one) <= bound + 1e-6 for one in able)
    assert min(map(cost, able)) <= 1.1 * best


def test_groups_do_what_their_units_do_together() -> None:
    _, both = drawn(2)
    groups = np.array([0, 1, 0, 2, 2, 1])
    found = both.grouped(groups)
    for choice in np.random.default_rng(0).integers(0, 3, (10, 3)):
        assert found.harm(choice) == pytest.approx(both.harm(choice[groups]))
    assert both.grouped(np.arange(6)) is both


def test_factors_scale_the_harm_alone() -> None:
    effects, both = drawn(1)
    factors = np.full((6, 3), 4.0)
    assert both.scaled(factors).harm(np.ones(6, int)) == pytest.approx(
        4 * by_hand(effects, np.ones(6, int)), rel=1e-5
    )


def test_alone_units_do_what_the_observed_score_says(
    network: IntegerNetwork, blocks: MultiplierSet, images: Dataset
) -> None:
    units = units_of(network, images.inputs(slice(0, 1)), granularity="layer")
    profile = take_profile(network, images, units, signed=True)
    both = JointScore().interactions(profile, blocks)
    assert np.allclose(both.alone[:, 0], 0.0)
    by_filter = ObservedScore().score(profile, blocks)
    last = units.layers[-1]
    # Effects of filters of a layer are summed before they are squared.
    assert both.alone[-1, 2] != pytest.approx(by_filter[-last.filters :, 2].sum())
    own = units_of(network, images.inputs(slice(0, 1)), granularity="filter")
    fine = JointScore().interactions(take_profile(network, images, own, signed=True), blocks)
    np.testing.assert_allclose(fine.alone, own.summed(by_filter), rtol=1e-3, atol=1e-9)


def test_too_many_units_are_refused() -> None:
    with pytest.raises(SpecError, match="joint: wanted at most 12000 pairs of unit and multiplier"):
        check_size(10_000, 2)
