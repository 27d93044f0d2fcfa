"""Learned pairs of image changes, one pair drawn for each image.

Model:  an image gets one of 25 pairs, all equally likely. Each change of the pair happens with
        its own probability, at its own level 0 .. 9 of the range of that change; shears, shifts
        and rotations go either way. Changes are those of Pillow, to the bit.
Source: Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019, tables
        of the appendix. Shifts are published in pixels of images 331 wide; here they are that
        share of a side, 14 pixels of 32 at most. Codes that followed, that of RandBET among them,
        blend (contrast, color, brightness, sharpness) by 1 +- level / 10 instead of the published
        0.1 to 1.9, and shear with bicubic filters.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.data.augment import AUGMENT, Augmentation, Fill, fill_of
from bitproof.data.dataset import Images
from bitproof.data.pillow_changes import (
    Amounts,
    Matrix,
    Pixels,
    autocontrast,
    brightness,
    color,
    contrast,
    equalize,
    invert,
    posterize,
    rotate,
    sharpness,
    solarize,
    warp,
)

LEVELS = 9
"""The highest level."""
RANGES = {
    **dict.fromkeys(("shear_x", "shear_y"), (0.0, 0.3)),
    **dict.fromkeys(("translate_x", "translate_y"), (0.0, 150 / 331)),
    "rotate": (0.0, 30.0),
    **dict.fromkeys(("autocontrast", "invert", "equalize"), (0.0, 0.0)),
    "solarize": (256.0, 0.0),
    "posterize": (8.0, 4.0),
    **dict.fromkeys(("contrast", "color", "brightness", "sharpness"), (0.1, 1.9)),
}
"""What the lowest and the highest level of a change mean: slopes, shares of a side, degrees,
thresholds, bits, factors."""


class Change(NamedTuple):
    """One half of a pair: what to do, how often, how much."""

    name: str
    probability: float
    level: int


CIFAR10 = (
    (Change("invert", 0.1, 7), Change("contrast", 0.2, 6)),
    (Change("rotate", 0.7, 2), Change("translate_x", 0.3, 9)),
    (Change("sharpness", 0.8, 1), Change("sharpness", 0.9, 3)),
    (Change("shear_y", 0.5, 8), Change("translate_y", 0.7, 9)),
    (Change("autocontrast", 0.5, 8), Change("equalize", 0.9, 2)),
    (Change("shear_y", 0.2, 7), Change("posterize", 0.3, 7)),
    (Change("color", 0.4, 3), Change("brightness", 0.6, 7)),
    (Change("sharpness", 0.3, 9), Change("brightness", 0.7, 9)),
    (Change("equalize", 0.6, 5), Change("equalize", 0.5, 1)),
    (Change("contrast", 0.6, 7), Change("sharpness", 0.6, 5)),
    (Change("color", 0.7, 7), Change("translate_x", 0.5, 8)),
    (Change("equalize", 0.3, 7), Change("autocontrast", 0.4, 8)),
    (Change("translate_y", 0.4, 3), Change("sharpness", 0.2, 6)),
    (Change("brightness", 0.9, 6), Change("color", 0.2, 8)),
    (Change("solarize", 0.5, 2), Change("invert", 0.0, 3)),
    (Change("equalize", 0.2, 0), Change("autocontrast", 0.6, 0)),
    (Change("equalize", 0.2, 8), Change("equalize", 0.6, 4)),
    (Change("color", 0.9, 9), Change("equalize", 0.6, 6)),
    (Change("autocontrast", 0.8, 4), Change("solarize", 0.2, 8)),
    (Change("brightness", 0.1, 3), Change("color", 0.7, 0)),
    (Change("solarize", 0.4, 5), Change("autocontrast", 0.9, 3)),
    (Change("translate_y", 0.9, 9), Change("translate_y", 0.7, 9)),
    (Change("autocontrast", 0.9, 2), Change("solarize", 0.8, 3)),
    (Change("equalize", 0.8, 8), Change("invert", 0.1, 3)),
    (Change("translate_y", 0.7, 9), Change("autocontrast", 0.9, 1)),
)
"""The published pairs for CIFAR-10."""
PROBABILITIES = torch.tensor([[change.probability for change in pair] for pair in CIFAR10])

TONES: dict[str, Callable[[Pixels, Amounts], Pixels]] = {
    "autocontrast": lambda pixels, _: autocontrast(pixels),
    "brightness": brightness,
    "color": color,
    "contrast": contrast,
    "equalize": lambda pixels, _: equalize(pixels),
    "invert": lambda pixels, _: invert(pixels),
    "posterize": lambda pixels, amounts: posterize(pixels, amounts.round().to(torch.int64)),
    "sharpness": sharpness,
    "solarize": solarize,
}
"""Changes of tone and colour by name; each takes one amount per image."""
GROUPS = ("warp", *TONES)
"""What is done to many images in one go: all geometric changes together, each other by itself."""
GROUP_OF = torch.tensor(
    [
        [GROUPS.index(change.name if change.name in TONES else "warp") for change in pair]
        for pair in CIFAR10
    ]
)


@AUGMENT.register
class AutoAugment(Augmentation):
    """Change tone, colour or place by a pair of changes that was learned on CIFAR-10.

    It works on 8-bit levels: float images are rounded to 255ths. For CIFAR, it belongs after
    `PadCrop` and `Flip` and before `Cutout`.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> images = torch.full((2, 3, 32, 32), 100, dtype=torch.uint8)
        >>> step = AutoAugment(fill=(0.49, 0.48, 0.45))
        >>> changed = step.apply(images, generator=make_generator(0))
        >>> changed.shape, changed.dtype
        (torch.Size([2, 3, 32, 32]), torch.uint8)
    """

    kind: Literal["auto_augment"] = "auto_augment"
    policy: Literal["cifar10"] = "cifar10"
    """Which published list of pairs to draw from."""
    fill: Fill = 0.0
    """Value of pixels from outside of the image, in input units (1 is white): one, or one per
    channel."""

    def apply(self, images: Images, *, generator: torch.Generator) -> Images:
        """Return the images, most of them changed; advances `generator` by five draws per image."""
        n, channels, height, width = images.shape
        if channels not in {1, 3}:
            raise DataError(f"auto_augment: wanted images of 1 or 3 channels, got {channels}")
        pixels = images.clone()
        if images.is_floating_point():
            pixels = (images * 255).round().to(torch.uint8)
        fill = fill_of(self.fill, pixels)
        jobs, rows = _draw_jobs(n, _amounts(height, width), generator)
        rows = rows.to(images.device, non_blocking=True)
        indices = rows[:, 0].to(torch.int64)
        for group, part in jobs:
            index, amounts = indices[part], rows[part, 1:]
            chosen = pixels.index_select(0, index)
            if group == "warp":
                changed = warp(chosen, amounts, fill=fill)
            else:
                changed = TONES[group](chosen, amounts[:, 0])
            pixels.index_copy_(0, index, changed)
        return pixels.to(images.dtype) / 255 if images.is_floating_point() else pixels


def magnitude(name: str, level: int) -> float:
    """Return what a level of a change means, in the units of `RANGES`.

    Example:
        >>> magnitude("rotate", 9), magnitude("rotate", 0), magnitude("solarize", 9)
        (30.0, 0.0, 0.0)
    """
    low, high = RANGES[name]
    return low + (high - low) * level / LEVELS


def _draw_jobs(
    n: int, amounts: Float64[Tensor, "pairs 2 2 6"], generator: torch.Generator
) -> tuple[list[tuple[str, slice]], Float64[Tensor, "rows 7"]]:
    """Return what to do with which rows, in order; a row is an image's index and six amounts."""
    pair = torch.randint(0, len(CIFAR10), (n,), generator=generator)
    chance = torch.rand(2, n, generator=generator)
    sign = torch.randint(0, 2, (2, n), generator=generator)
    jobs: list[tuple[str, slice]] = []
    rows = [torch.empty(0, 7, dtype=torch.float64)]
    start = 0
    for half in range(2):
        happens = (chance[half] < PROBABILITIES[pair, half]).nonzero()[:, 0]
        group, order = GROUP_OF[pair[happens], half].sort(stable=True)
        index = happens[order]
        settings = amounts[pair[index], half, sign[half, index]]
        rows.append(torch.cat([index.to(torch.float64)[:, None], settings], dim=1))
        for name, count in zip(GROUPS, group.bincount(minlength=len(GROUPS)).tolist(), strict=True):
            if count:
                jobs.append((name, slice(start, start + count)))
                start += count
    return jobs, torch.cat(rows)


@lru_cache(maxsize=16)
def _amounts(height: int, width: int) -> Float64[Tensor, "pairs 2 2 6"]:
    """Return the six numbers of each change in both directions: a map, or an amount and zeros."""
    numbers = [
        [[_numbers(change, sign, height, width) for sign in (-1, 1)] for change in pair]
        for pair in CIFAR10
    ]
    return torch.tensor(numbers, dtype=torch.float64)


def _numbers(change: Change, sign: int, height: int, width: int) -> Matrix:
    amount = magnitude(change.name, change.level)
    maps: dict[str, Matrix] = {
        "shear_x": (1.0, sign * amount, 0.0, 0.0, 1.0, 0.0),
        "shear_y": (1.0, 0.0, 0.0, sign * amount, 1.0, 0.0),
        "translate_x": (1.0, 0.0, float(sign * round(amount * width)), 0.0, 1.0, 0.0),
        "translate_y": (1.0, 0.0, 0.0, 0.0, 1.0, float(sign * round(amount * height))),
        "rotate": rotate(sign * amount, height=height, width=width),
    }
    return maps.get(change.name, (amount, 0.0, 0.0, 0.0, 0.0, 0.0))
