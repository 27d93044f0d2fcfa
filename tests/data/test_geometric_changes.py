"""Every map moves the pixels that Pillow moves, on photographs and for any size and amount."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.data.geometric_changes import Matrix, rotate, warp

FILL = (9, 150, 31)


def matrix_of(name: str, share: float, height: int, width: int) -> Matrix:
    """Return a map for -1 .. 1 of twice what AutoAugment asks for."""
    return {
        "shear_x": (1.0, 0.6 * share, 0.0, 0.0, 1.0, 0.0),
        "shear_y": (1.0, 0.0, 0.0, 0.6 * share, 1.0, 0.0),
        "translate_x": (1.0, 0.0, float(round(share * width)), 0.0, 1.0, 0.0),
        "translate_y": (1.0, 0.0, 0.0, 0.0, 1.0, float(round(share * height))),
        "rotate": rotate(60 * share, height=height, width=width),
    }[name]


def moved(pixels: Tensor, matrices: list[Matrix]) -> Tensor:
    fill = torch.tensor(FILL, dtype=torch.uint8)[: pixels.shape[1], None, None]
    return warp(pixels, torch.tensor(matrices, dtype=torch.float64), fill=fill)


def through_pillow(pixels: Tensor, matrices: list[Matrix]) -> Tensor:
    affine, nearest = Image.Transform.AFFINE, Image.Resampling.NEAREST
    results = []
    for image, matrix in zip(pixels.permute(0, 2, 3, 1).numpy(), matrices, strict=True):
        grey = image.shape[2] == 1
        picture = Image.fromarray(image[..., 0] if grey else image)
        fill = FILL[0] if grey else FILL
        result = np.array(picture.transform(picture.size, affine, matrix, nearest, fillcolor=fill))
        results.append(torch.from_numpy(result[None] if grey else result.transpose(2, 0, 1)))
    return torch.stack(results)


NAMES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    share=st.floats(-1.0, 1.0),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_any_image_moves_as_in_pillow(
    name: str, share: float, channels: int, height: int, width: int
) -> None:
    pixels = torch.randint(0, 256, (1, channels, height, width), generator=make_generator(0))
    matrices = [matrix_of(name, share, height, width)]
    pixels = pixels.to(torch.uint8)
    assert torch.equal(moved(pixels, matrices), through_pillow(pixels, matrices))


@pytest.mark.parametrize("name", NAMES)
def test_photographs_move_as_in_pillow_each_its_own_way(name: str) -> None:
    picture = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    pixels = picture[:, :416, :].unfold(1, 32, 104).unfold(2, 32, 60).permute(1, 2, 0, 3, 4)
    pixels = pixels.reshape(-1, 3, 32, 32).contiguous()
    shares = torch.linspace(-1, 1, len(pixels)).tolist()
    matrices = [matrix_of(name, share, 32, 32) for share in shares]
    assert torch.equal(moved(pixels, matrices), through_pillow(pixels, matrices))


@settings(max_examples=50, deadline=None)
@given(degrees=st.floats(-80.0, 80.0), height=st.integers(1, 40), width=st.integers(1, 40))
def test_rotation_is_that_of_pillow(degrees: float, height: int, width: int) -> None:
    pixels = torch.randint(0, 256, (1, 3, height, width), generator=make_generator(1))
    pixels = pixels.to(torch.uint8)
    picture = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    wanted = torch.from_numpy(np.array(picture.rotate(degrees, fillcolor=FILL)).transpose(2, 0, 1))
    ours = moved(pixels, [rotate(degrees, height=height, width=width)])
    assert torch.equal(ours[0], wanted)


def test_an_empty_batch_stays_empty() -> None:
    pixels = torch.zeros(0, 3, 4, 4, dtype=torch.uint8)
    fill = torch.zeros(1, 1, 1, dtype=torch.uint8)
    assert warp(pixels, torch.zeros(0, 6, dtype=torch.float64), fill=fill).shape == pixels.shape
