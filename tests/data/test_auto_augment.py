import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image
from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.core.rng import make_generator
from bitproof.data.auto_augment import CIFAR10, RANGES, AutoAugment, Change, magnitude

FILL = (125, 123, 114)
MEAN = tuple(level / 255 for level in FILL)


def photographs(n: int) -> Tensor:
    picture = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)
    pieces = picture.unfold(1, 32, 12).unfold(2, 32, 12).permute(1, 2, 0, 3, 4)
    return pieces.reshape(-1, 3, 32, 32)[:n].contiguous()


def change_in_pillow(image: Image.Image, change: Change, sign: int) -> Image.Image:
    """Do what the paper says, by the formulas of its text."""
    share = change.level / 9
    shift = sign * 150 / 331 * 32 * share
    matrices = {
        "shear_y": (1, 0, 0, sign * 0.3 * share, 1, 0),
        "translate_x": (1, 0, shift, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, shift),
    }
    if change.name in matrices:
        affine = Image.Transform.AFFINE
        return image.transform(image.size, affine, matrices[change.name], fillcolor=FILL)
    if change.name == "rotate":
        return image.rotate(sign * 30 * share, fillcolor=FILL)
    changed: Image.Image
    if change.name in {"brightness", "color", "contrast", "sharpness"}:
        changed = getattr(ImageEnhance, change.name.capitalize())(image).enhance(0.1 + 1.8 * share)
    else:
        amounts = {"solarize": (256 - 256 * share,), "posterize": (round(8 - 4 * share),)}
        changed = getattr(ImageOps, change.name)(image, *amounts.get(change.name, ()))
    return changed


def test_a_batch_equals_one_image_at_a_time_in_pillow() -> None:
    images = photographs(800)
    generator = make_generator(3)
    pairs = torch.randint(0, 25, (len(images),), generator=generator).tolist()
    chances = torch.rand(2, len(images), generator=generator).T.tolist()
    signs = (2 * torch.randint(0, 2, (2, len(images)), generator=generator) - 1).T.tolist()
    wanted = []
    for pixels, pair, chance, sign in zip(images, pairs, chances, signs, strict=True):
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        for half, change in enumerate(CIFAR10[pair]):
            if chance[half] < np.float32(change.probability):
                image = change_in_pillow(image, change, sign[half])
        wanted.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    changed = AutoAugment(fill=MEAN).apply(images, generator=make_generator(3))
    assert torch.equal(changed, torch.stack(wanted))


def test_the_policy_has_the_published_size_and_levels() -> None:
    assert len(CIFAR10) == 25
    assert {change.name for pair in CIFAR10 for change in pair} == set(RANGES) - {"shear_x"}
    assert all(0 <= change.level <= 9 for pair in CIFAR10 for change in pair)
    changes = sum(change.probability for pair in CIFAR10 for change in pair)
    assert changes == pytest.approx(26.5)  # the printed table, summed by hand


@pytest.mark.parametrize(
    ("name", "level", "amount"),
    [
        ("shear_x", 9, 0.3),
        ("translate_y", 9, 150 / 331),
        ("rotate", 2, 60 / 9),
        ("solarize", 0, 256.0),
        ("posterize", 9, 4.0),
        ("brightness", 0, 0.1),
        ("color", 9, 1.9),
    ],
)
def test_levels_span_the_published_ranges(name: str, level: int, amount: float) -> None:
    assert magnitude(name, level) == pytest.approx(amount)


def test_the_share_of_changed_images_is_that_of_the_table() -> None:
    images = photographs(1).expand(2_000, -1, -1, -1)
    changed = AutoAugment().apply(images, generator=make_generator(4))
    share = float((changed != images).flatten(1).any(1).double().mean())
    # A change that happens may change nothing (a threshold no level reaches): an upper bound.
    happens = [1 - (1 - a.probability) * (1 - b.probability) for a, b in CIFAR10]
    assert share <= sum(happens) / 25 + 5 * 0.5 / 2_000**0.5
    assert share >= 0.6


def test_floats_are_rounded_to_255ths() -> None:
    pixels = photographs(200)
    floats = (pixels.float() + 0.3) / 255.4
    changed = AutoAugment(fill=MEAN).apply(floats, generator=make_generator(5))
    rounded = (floats * 255).round().to(torch.uint8)
    wanted = AutoAugment(fill=MEAN).apply(rounded, generator=make_generator(5))
    assert torch.equal(changed, wanted.float() / 255)


def test_grey_images_change_as_colour_images_of_three_equal_channels() -> None:
    grey = photographs(200)[:, :1]
    changed = AutoAugment(fill=0.5).apply(grey, generator=make_generator(6))
    colour = AutoAugment(fill=0.5).apply(grey.expand(-1, 3, -1, -1), generator=make_generator(6))
    assert torch.equal(changed.expand(-1, 3, -1, -1), colour)


@pytest.mark.parametrize("channels", [2, 4])
def test_other_images_are_refused(channels: int) -> None:
    images = torch.zeros(2, channels, 8, 8, dtype=torch.uint8)
    with pytest.raises(DataError, match=f"wanted images of 1 or 3 channels, got {channels}"):
        AutoAugment().apply(images, generator=make_generator(0))


def test_a_fill_for_other_channels_is_refused() -> None:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(DataError, match="fill: wanted one value or 1, one per channel; got 3"):
        AutoAugment(fill=MEAN).apply(images, generator=make_generator(0))
