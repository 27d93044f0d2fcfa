"""Every change equals that of Pillow, to the bit, on photographs and on noise."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.data import pillow_changes as ours
from bitproof.data.pillow_changes import Matrix, rotate, select, warp

BLENDS = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}
PLAIN: dict[str, Callable[[Image.Image], Image.Image]] = {
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "invert": ImageOps.invert,
}
LEVELS = torch.linspace(0.1, 1.9, 10, dtype=torch.float64)


@lru_cache
def photographs() -> Tensor:
    """Return 64 pieces, 32 x 32, of two photographs."""
    pictures = [load_sample_image(name)[:416, :640] for name in ("china.jpg", "flower.jpg")]
    pieces = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    pieces = pieces.unfold(2, 32, 32).unfold(3, 32, 32).permute(0, 2, 3, 1, 4, 5)
    return pieces.reshape(-1, 3, 32, 32)[::8][:64].contiguous()


def noise(shape: tuple[int, int, int, int], *, seed: int, spread: int) -> Tensor:
    """Return images of a few neighbouring levels: `spread` 1 is flat, 256 is everything."""
    generator = make_generator(seed)
    start = torch.randint(0, 257 - spread, (*shape[:2], 1, 1), generator=generator)
    levels = torch.randint(0, spread, shape, generator=generator)
    return (start + levels).to(torch.uint8)


def through_pillow(
    pixels: Tensor, changes: Sequence[Callable[[Image.Image], Image.Image]]
) -> Tensor:
    results = []
    for image, change in zip(pixels.permute(0, 2, 3, 1).numpy(), changes, strict=True):
        grey = image.shape[2] == 1
        picture = Image.fromarray(image[..., 0] if grey else image)
        changed = np.array(change(picture))
        results.append(torch.from_numpy(changed[None] if grey else changed.transpose(2, 0, 1)))
    return torch.stack(results)


def blend(image: Image.Image, *, name: str, factor: float) -> Image.Image:
    return BLENDS[name](image).enhance(factor)


def check(name: str, pixels: Tensor, factors: Tensor) -> None:
    before = pixels.clone()
    if name in PLAIN:
        changed = getattr(ours, name)(pixels)
        wanted = through_pillow(pixels, [PLAIN[name]] * len(pixels))
    else:
        changed = getattr(ours, name)(pixels, factors)
        blends = [partial(blend, name=name, factor=factor) for factor in factors.tolist()]
        wanted = through_pillow(pixels, blends)
    assert torch.equal(changed, wanted)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("name", sorted({**PLAIN, **BLENDS}))
@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_change_as_in_pillow(name: str, channels: int) -> None:
    pixels = photographs()[:, :channels]
    check(name, pixels, LEVELS.repeat(7)[: len(pixels)])


@pytest.mark.parametrize("name", sorted({**PLAIN, **BLENDS}))
@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.just(2), st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([1, 2, 3, 20, 256]),
    factor=st.floats(0.0, 3.0),
)
def test_any_image_changes_as_in_pillow(
    name: str, shape: tuple[int, int, int, int], seed: int, spread: int, factor: float
) -> None:
    pixels = noise(shape, seed=seed, spread=spread)
    check(name, pixels, torch.tensor([factor, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("threshold", [0, 1, 85, 128, 255, 256])
def test_solarize_equals_pillow(threshold: int) -> None:
    pixels = photographs()
    wanted = through_pillow(pixels, [lambda image: ImageOps.solarize(image, threshold)] * 64)
    assert torch.equal(ours.solarize(pixels, torch.full((64,), float(threshold))), wanted)


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_equals_pillow(bits: int) -> None:
    pixels = photographs()
    wanted = through_pillow(pixels, [lambda image: ImageOps.posterize(image, bits)] * 64)
    assert torch.equal(ours.posterize(pixels, torch.full((64,), bits)), wanted)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), spread=st.integers(1, 256))
def test_inverting_twice_changes_nothing(seed: int, spread: int) -> None:
    pixels = noise((2, 3, 5, 7), seed=seed, spread=spread)
    assert torch.equal(ours.invert(ours.invert(pixels)), pixels)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), spread=st.integers(1, 256))
def test_stretching_keeps_the_order_of_levels(seed: int, spread: int) -> None:
    pixels = noise((1, 1, 20, 30), seed=seed, spread=spread)
    order = pixels.flatten().argsort()
    for changed in (ours.autocontrast(pixels), ours.equalize(pixels)):
        assert bool((changed.flatten()[order].int().diff() >= 0).all())


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


def moved_by_pillow(pixels: Tensor, matrices: list[Matrix]) -> Tensor:
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
    assert torch.equal(moved(pixels, matrices), moved_by_pillow(pixels, matrices))


@pytest.mark.parametrize("name", NAMES)
def test_photographs_move_as_in_pillow_each_its_own_way(name: str) -> None:
    picture = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    pixels = picture[:, :416, :].unfold(1, 32, 104).unfold(2, 32, 60).permute(1, 2, 0, 3, 4)
    pixels = pixels.reshape(-1, 3, 32, 32).contiguous()
    shares = torch.linspace(-1, 1, len(pixels)).tolist()
    matrices = [matrix_of(name, share, 32, 32) for share in shares]
    assert torch.equal(moved(pixels, matrices), moved_by_pillow(pixels, matrices))


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


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(0, 4), channels=st.integers(1, 3))
def test_bytes_are_chosen_as_where_chooses(seed: int, n: int, channels: int) -> None:
    generator = make_generator(seed)
    that = torch.randint(0, 256, (n, channels, 3, 5), generator=generator).to(torch.uint8)
    this = torch.randint(0, 256, (channels, 1, 1), generator=generator).to(torch.uint8)
    chosen = torch.rand(n, 1, 3, 5, generator=generator) < 0.5
    assert torch.equal(select(chosen, this, that), torch.where(chosen, this, that))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_arguments_stay_as_they_are(dtype: torch.dtype) -> None:
    chosen, this, that = torch.tensor([True, False]), torch.ones(2), torch.zeros(2)
    this, that = this.to(dtype), that.to(dtype)
    assert select(chosen, this, that).tolist() == [1, 0]
    assert (this.tolist(), that.tolist()) == ([1, 1], [0, 0])
