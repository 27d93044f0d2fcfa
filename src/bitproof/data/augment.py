"""Random changes of training images that keep their class, a whole batch at a time.

Model:  the generator draws a few numbers per image on the CPU; the pixels move on their own
        device, without a loop over images.
Source: He et al., "Deep Residual Learning", CVPR 2016, section 4.2 (pad, crop, flip);
        DeVries and Taylor, "Improved Regularization ... with Cutout", arXiv 1708.04552.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import Count, Probability
from bitproof.data.dataset import Images


class Augmentation(Spec, ABC):
    """A random change of a batch that keeps shape, dtype, device and range."""

    kind: str

    @abstractmethod
    def apply(self, images: Images, *, generator: torch.Generator) -> Images:
        """Return changed images, a new tensor; `generator` is on the CPU."""


AUGMENT: Registry[Augmentation] = Registry("augment")


def augment(images: Images, steps: Iterable[Augmentation], *, generator: torch.Generator) -> Images:
    """Apply all steps, in order.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> images = torch.tensor([[[[0, 1, 2]]]], dtype=torch.uint8)
        >>> augment(images, [Flip(probability=1.0)], generator=make_generator(0)).tolist()
        [[[[2, 1, 0]]]]
    """
    for step in steps:
        images = step.apply(images, generator=generator)
    return images


@AUGMENT.register
class PadCrop(Augmentation):
    """Pad all four edges, then cut out a window of the old size at a random place.

    Example:
        >>> PadCrop(padding=2).fill
        0.0
    """

    kind: Literal["pad_crop"] = "pad_crop"
    padding: Count = 4
    """Width of each added edge, in pixels."""
    fill: Probability = 0.0
    """Value of the added pixels, in input units (1 is white)."""

    def apply(self, images: Images, *, generator: torch.Generator) -> Images:
        """Return the windows; advances `generator` by two draws per image."""
        n, _, height, width = images.shape
        shifts = torch.randint(0, 2 * self.padding + 1, (2, n), generator=generator)
        top, left = shifts.to(images.device)
        value = self.fill if images.is_floating_point() else round(self.fill * 255)
        padded = pad(images, [self.padding] * 4, value=value)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: no copy
        return windows[torch.arange(n, device=images.device), :, top, left]


@AUGMENT.register
class Flip(Augmentation):
    """Mirror images left to right.

    Example:
        >>> Flip().probability
        0.5
    """

    kind: Literal["flip"] = "flip"
    probability: Probability = 0.5
    """Share of the images that are mirrored, as a fraction."""

    def apply(self, images: Images, *, generator: torch.Generator) -> Images:
        """Return the images, some mirrored; advances `generator` by one draw per image."""
        chosen = torch.rand(len(images), generator=generator) < self.probability
        return torch.where(_per_image(chosen, images), images.flip(3), images)


@AUGMENT.register
class Cutout(Augmentation):
    """Blacken a square whose centre is any pixel; what sticks out of the image is lost.

    Example:
        >>> Cutout(size=8).size
        8
    """

    kind: Literal["cutout"] = "cutout"
    size: Count = 16
    """Side of the square, in pixels."""

    def apply(self, images: Images, *, generator: torch.Generator) -> Images:
        """Return the images with a hole; advances `generator` by two draws per image."""
        n, _, height, width = images.shape
        rows = self._covers(torch.randint(0, height, (n,), generator=generator), height)
        columns = self._covers(torch.randint(0, width, (n,), generator=generator), width)
        hole = rows[:, :, None] & columns[:, None, :]
        return images.masked_fill(hole[:, None].to(images.device), 0)

    def _covers(self, centre: Tensor, length: int) -> Tensor:
        """Return whether the square covers each of `length` places, (n, length)."""
        start = centre[:, None] - self.size // 2
        place = torch.arange(length)
        return (place >= start) & (place < start + self.size)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.device)[:, None, None, None]
