import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.rng import make_generator
from bitproof.data.split import hold_out

labels_lists = st.lists(st.integers(0, 5), max_size=80)
fractions = st.floats(0.0, 0.99)


@settings(max_examples=100, deadline=None)
@given(labels=labels_lists, fraction=fractions)
def test_each_class_gives_its_share_to_within_one_and_keeps_one(
    labels: list[int], fraction: float
) -> None:
    classes = torch.tensor(labels, dtype=torch.int64)
    held = hold_out(classes, fraction, generator=make_generator(0))
    assert held.shape == classes.shape
    for label in set(labels):
        size = labels.count(label)
        given_away = int(held[classes == label].sum())
        assert abs(given_away - fraction * size) <= 1
        assert given_away < size
        if size >= 2 and fraction * size >= 0.5:
            assert given_away >= 1


@settings(max_examples=50, deadline=None)
@given(tracks=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=80))
def test_no_group_is_torn_apart(tracks: list[tuple[int, int]]) -> None:
    labels = torch.tensor([label for label, _ in tracks])
    groups = torch.tensor([label * 10 + track for label, track in tracks])
    held = hold_out(labels, 0.4, generator=make_generator(1), groups=groups)
    assert not set(groups[held].tolist()) & set(groups[~held].tolist())


@settings(max_examples=30, deadline=None)
@given(labels=labels_lists, seed=st.integers(0, 1000))
def test_nothing_is_held_out_at_fraction_zero(labels: list[int], seed: int) -> None:
    classes = torch.tensor(labels, dtype=torch.int64)
    assert not hold_out(classes, 0.0, generator=make_generator(seed)).any()


def test_the_choice_depends_on_the_generator_alone() -> None:
    labels = torch.arange(200) % 4
    first, again, other = (
        hold_out(labels, 0.25, generator=make_generator(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_shares_below_one_are_carried_from_class_to_class() -> None:
    labels = torch.arange(400) % 100  # four images a class, of which 10 % is 0.4
    assert int(hold_out(labels, 0.1, generator=make_generator(0)).sum()) == 40
