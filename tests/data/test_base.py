from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bitproof.core.errors import DataError
from bitproof.core.rng import make_generator
from bitproof.data import DATA, Dataset, DataSource
from bitproof.data.base import hold_out
from bitproof.data.dataset import Published
from bitproof.data.layout import Layout


class Counted(DataSource):
    """Forty images whose first pixel is their number."""

    kind: Literal["counted"] = "counted"

    def layouts(self) -> tuple[Layout, ...]:
        return ()

    def read(self, data_dir: Path | None) -> Published:  # noqa: ARG002
        numbers = torch.arange(40)
        data = Dataset(
            name="counted",
            images=numbers.to(torch.uint8).reshape(40, 1, 1, 1),
            labels=numbers % 4,
            n_classes=4,
        )
        return Published(train=data, test=data.first(10), groups=numbers // 8 * 4 + numbers % 4)


def numbers(data: Dataset) -> list[int]:
    pixels: list[int] = data.images.flatten().tolist()
    return pixels


def test_train_and_validation_share_out_the_training_images() -> None:
    splits = Counted(validation_fraction=0.25).load()
    assert sorted(numbers(splits.train) + numbers(splits.validation)) == list(range(40))
    assert numbers(splits.train) == sorted(numbers(splits.train))
    assert numbers(splits.test) == list(range(10))


def test_the_split_keeps_groups_whole() -> None:
    splits = Counted(validation_fraction=0.25).load()
    held = {number // 8 * 4 + number % 4 for number in numbers(splits.validation)}
    kept = {number // 8 * 4 + number % 4 for number in numbers(splits.train)}
    assert held
    assert not held & kept


def test_the_split_depends_on_its_seed_alone() -> None:
    first, again, other = (numbers(Counted(split_seed=s).load().validation) for s in (0, 0, 1))
    assert first == again != other


def test_sizes_take_the_first_images() -> None:
    splits = Counted(train_size=24, test_size=3).load()
    assert sorted(numbers(splits.train) + numbers(splits.validation)) == list(range(24))
    assert numbers(splits.test) == [0, 1, 2]


def test_no_validation_is_an_empty_set() -> None:
    splits = Counted(validation_fraction=0.0).load()
    assert (len(splits.train), len(splits.validation)) == (40, 0)
    assert splits.validation.images.shape == (0, 1, 1, 1)
    assert splits.validation.n_classes == 4


def test_more_images_than_there_are_is_an_error() -> None:
    with pytest.raises(DataError, match=r"counted\.train_size: wanted 41 images, counted holds 40"):
        Counted(train_size=41).load()
    with pytest.raises(DataError, match=r"counted\.test_size: wanted 11"):
        Counted(test_size=11).load()


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_fraction_outside_the_half_open_interval_is_refused(fraction: float) -> None:
    with pytest.raises(ValidationError):
        Counted(validation_fraction=fraction)


OWN = {"folder": {"path": "x"}, "npz": {"path": "x"}, "parquet": {"path": "x"}}
NEEDED = {**OWN, "factory": {"factory": "x:y"}}
"""Fields that sources of a user's own must have."""


@pytest.mark.parametrize("kind", DATA.kinds())
def test_every_source_is_a_value_that_survives_json(kind: str) -> None:
    source = DATA.build({"kind": kind, "train_size": 10, **NEEDED.get(kind, {})})
    assert type(source).model_validate_json(source.model_dump_json()) == source
    assert all(layout.files and layout.folders for layout in source.layouts())


def test_all_sources_are_registered() -> None:
    wanted = ["cifar10", "cifar100", "digits", "fashion_mnist", "gtsrb", "mnist"]
    assert [kind for kind in DATA.kinds() if kind in wanted] == wanted


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
