"""Batches of other people's loaders: dicts, pictures, single examples, channels last."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bitproof.core.errors import DataError, InputRangeError
from bitproof.data import Dataset
from bitproof.data.axes import looks_channels_last


@pytest.mark.parametrize("image", ["image", "img", "pixel_values"])
@pytest.mark.parametrize("label", ["label", "labels"])
def test_dicts_of_hugging_face_loaders_are_batches(image: str, label: str) -> None:
    images = torch.rand(3, 1, 4, 4)
    batch = {image: images, label: torch.tensor([2, 0, 1]), "path": ["a"] * 3}
    joined = Dataset.from_loader([batch, batch])
    assert torch.equal(joined.images, torch.cat([images] * 2))
    assert joined.labels.tolist() == [2, 0, 1, 2, 0, 1]


def test_tokens_come_as_numbers() -> None:
    tokens = torch.randint(0, 50, (4, 7))
    batch = {"input_ids": tokens, "attention_mask": torch.ones(4, 7), "labels": [0, 1, 0, 1]}
    joined = Dataset.from_loader([batch])
    assert joined.is_tokens
    assert torch.equal(joined.images, tokens)


def pictures(n: int, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    return [Image.fromarray(rng.integers(0, 256, shape, np.uint8)) for _ in range(n)]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_pictures_become_pixels(mode: str) -> None:
    images = pictures(3, mode)
    joined = Dataset.from_loader([{"image": images, "label": [0, 1, 2]}])
    assert joined.images.shape == (3, 1 if mode == "L" else 3, 4, 6)
    assert joined.images.dtype == torch.uint8
    wanted = np.asarray(images[1]).reshape(4, 6, len(mode))[:, :, : min(3, len(mode))]
    assert np.array_equal(joined.images[1].permute(1, 2, 0).numpy(), wanted)


def test_single_examples_are_batches_of_one() -> None:
    rows = [{"image": image, "label": row} for row, image in enumerate(pictures(3))]
    assert len(Dataset.from_loader(rows)) == 3
    several = [(torch.rand(2, 4, 4), torch.tensor([0, 1, 1]))] * 3

    class Examples(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            return several[number]  # never an IndexError below 3

    joined = Dataset.from_loader(Examples())
    assert (joined.images.shape, joined.labels.shape) == ((3, 2, 4, 4), (3, 3))


def test_pictures_of_several_sizes_are_refused() -> None:
    mixed = [*pictures(1), *pictures(1, size=(5, 5))]
    with pytest.raises(DataError, match="wanted pictures of one size and mode, got 6 x 4, 5 x 5"):
        Dataset.from_loader([{"image": mixed, "label": [0, 1]}])


def test_other_keys_are_named() -> None:
    with pytest.raises(DataError, match=r"wanted labels under one of label, .*keys 'image, klass'"):
        Dataset.from_loader([{"image": torch.rand(1, 1, 2, 2), "klass": [0]}])


def test_channels_last_are_refused_with_the_cure() -> None:
    images = torch.rand(2, 8, 9, 3)
    with pytest.raises(DataError, match=r"images\.permute\(0, 3, 1, 2\)"):
        Dataset.from_loader([(images, [0, 1])])
    assert Dataset.from_loader([(images.permute(0, 3, 1, 2), [0, 1])]).images.shape[1] == 3
    with pytest.raises(DataError, match=r"permute\(0, 4, 1, 2, 3\)"):
        Dataset.from_arrays(torch.rand(2, 8, 9, 10, 3), [0, 1])


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((9, 32, 32, 3), True),
        ((9, 28, 28, 1), True),
        ((9, 20, 30, 4), True),
        ((9, 3, 32, 32), False),
        ((9, 1, 28, 28), False),
        ((9, 3, 32, 3), False),
        ((9, 16, 3, 3), False),
        ((9, 6, 128, 1), False),
        ((9, 5, 5), False),
        ((9, 8, 8, 8, 1), True),
        ((9, 1, 8, 8, 8), False),
    ],
)
def test_only_what_can_be_nothing_else_is_channels_last(shape: tuple[int, ...], last: bool) -> None:
    assert looks_channels_last(shape) is last


@pytest.mark.parametrize(
    ("images", "cure"),
    [
        (torch.randn(4, 3, 8, 8), "move normalisation into the model"),
        (torch.rand(4, 3, 8, 8) * 255, "divide by 255"),
        (torch.rand(4, 3, 8, 8) * 900, "move normalisation into the model"),
    ],
)
def test_values_outside_the_range_tell_what_to_do(images: torch.Tensor, cure: str) -> None:
    with pytest.raises(InputRangeError, match=cure):
        Dataset.from_loader([(images, [0, 1, 2, 3])])
