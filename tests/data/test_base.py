from pathlib import Path
from typing import Literal

import pytest
import torch
from pydantic import ValidationError

from bitproof.core.errors import DataError
from bitproof.data import DATA, Dataset, DataSource
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


@pytest.mark.parametrize("kind", DATA.kinds())
def test_every_source_is_a_value_that_survives_json(kind: str) -> None:
    source = DATA.build({"kind": kind, "train_size": 10})
    assert type(source).model_validate_json(source.model_dump_json()) == source
    assert all(layout.files and layout.folders for layout in source.layouts())


def test_all_sources_are_registered() -> None:
    wanted = ["cifar10", "cifar100", "digits", "fashion_mnist", "gtsrb", "mnist"]
    assert [kind for kind in DATA.kinds() if kind in wanted] == wanted
