"""Every change of tone and colour equals Pillow's, to the bit, on photographs and on noise."""

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
from bitproof.data import color_changes as ours

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
