"""Outcomes of hand-made logits, as defined."""

import math
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitproof.metrics.outcomes import OUTCOMES, outcomes

TEN = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]


def names(logits: Iterable[float], golden: Iterable[float]) -> set[str]:
    """Return the outcomes of one image."""
    found = outcomes(torch.tensor([list(logits)]), torch.tensor([list(golden)]))
    assert found.shape == (1, len(OUTCOMES))
    return {name for name, holds in zip(OUTCOMES, found[0].tolist(), strict=True) if holds}


def swapped(values: list[float], i: int, j: int) -> list[float]:
    values = list(values)
    values[i], values[j] = values[j], values[i]
    return values


def test_equal_logits_are_masked_and_nothing_else() -> None:
    assert names(TEN, TEN) == {"masked"}
    assert names([-0.0, 1.0], [0.0, 1.0]) == {"masked"}


def test_a_change_that_is_hardly_visible_is_neither_masked_nor_silent() -> None:
    assert names([*TEN[:-1], math.nextafter(0.0, 1.0) + 1e-30], TEN) == set()


@pytest.mark.parametrize("place", range(1, 10))
def test_sdc5_counts_from_the_sixth_class_on(place: int) -> None:
    found = names(swapped(TEN, 0, place), TEN)
    assert "sdc1" in found
    assert ("sdc5" in found) == (place >= 5)


def two_classes(probability: float) -> list[float]:
    return [math.log(probability / (1 - probability)), 0.0]


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        (0.8 * 1.05, set()),
        (0.8 * 1.099, set()),
        (0.8 * 1.101, {"sdc10"}),
        (0.8 * 1.199, {"sdc10"}),
        (0.8 * 1.201, {"sdc10", "sdc20"}),
        (0.8 * 0.901, set()),
        (0.8 * 0.899, {"sdc10"}),
        (0.8 * 0.801, {"sdc10"}),
        (0.8 * 0.799, {"sdc10", "sdc20"}),
    ],
)
def test_probabilities_may_move_by_a_tenth_or_a_fifth_of_what_they_were(
    after: float, wanted: set[str]
) -> None:
    assert names(two_classes(after), two_classes(0.8)) == wanted


def test_the_probability_that_counts_is_of_the_class_that_was_first() -> None:
    # The two others change places; the first class keeps its probability.
    assert names([2.0, 0.0, 1.0], [2.0, 1.0, 0.0]) == set()
    # Another class is first by a hair, the probability hardly moves.
    assert names([1.0, 1.001, 0.0], [1.001, 1.0, 0.0]) == {"sdc1"}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 3, 9])
def test_logits_that_are_not_finite_are_detected_and_never_silent(bad: float, place: int) -> None:
    logits = list(TEN)
    logits[place] = bad
    assert names(logits, TEN) == {"due"}
    assert names(logits, swapped(TEN, 0, 9)) == {"due"}


def test_one_image_that_fails_leaves_the_others_alone() -> None:
    golden = torch.tensor([TEN, TEN, TEN])
    logits = torch.tensor([TEN, [math.nan] * 10, swapped(TEN, 0, 1)])
    assert outcomes(logits, golden)[:, [0, 1, 5]].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_five_classes_or_fewer_know_no_sdc5(classes: int) -> None:
    golden = TEN[:classes]
    for place in range(1, classes):
        found = names(swapped(golden, 0, place), golden)
        assert "sdc1" in found
        assert "sdc5" not in found


@pytest.mark.parametrize("classes", [2, 5, 6, 7, 10, 100])
def test_of_equal_logits_the_first_class_counts(classes: int) -> None:
    golden = [0.0] * classes
    nudged = [1e-6, *golden[1:]]
    assert names(nudged, golden) == set()
    for place in range(1, classes):
        found = names([0.0] * place + [1e-6] + [0.0] * (classes - place - 1), golden)
        assert found - {"sdc5"} == {"sdc1"}
        assert ("sdc5" in found) == (place >= 5)


small = st.integers(-3, 3).map(float)


@given(
    st.integers(2, 9).flatmap(lambda k: st.tuples(*[st.lists(small, min_size=k, max_size=k)] * 2))
)
def test_outcomes_imply_each_other(pair: tuple[list[float], list[float]]) -> None:
    logits, golden = pair
    found = names(logits, golden)
    assert "due" not in found
    assert ("masked" in found) == (logits == golden)
    assert "masked" not in found or found == {"masked"}
    assert "sdc5" not in found or "sdc1" in found
    assert "sdc20" not in found or "sdc10" in found
    top, was = (values.index(max(values)) for values in (logits, golden))
    assert ("sdc1" in found) == (top != was)


def test_arguments_are_left_as_they_were() -> None:
    logits, golden = torch.tensor([[math.nan, 1.0]]), torch.tensor([[0.0, 1.0]])
    outcomes(logits, golden)
    assert bool(logits[0, 0].isnan())
    assert golden.tolist() == [[0.0, 1.0]]


def test_no_images_have_no_outcomes() -> None:
    assert outcomes(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0, len(OUTCOMES))
