"""Random changes of training images that keep their class, a whole batch at a time.

Model:  the generator draws a few numbers per image on the CPU; the pixels move on their own
        device, without a loop over images.
Source: He et al., "Deep Residual Learning", CVPR 2016, section 4.2 (pad, crop, flip);
        DeVries and Taylor, "Improved Regularization ... with Cutout", arXiv 1708.04552.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from jaxtyping import Shaped
from pydantic import Discriminator, Field, Tag
from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import Count, Probability
from bitproof.data.dataset import Images
from bitproof.data.pillow_changes import select


def _form(value: object) -> str:
    return "list" if isinstance(value, (list, tuple)) else "number"


Fill = Annotated[
    Annotated[Probability, Tag("number")]
    | Annotated[tuple[Probability, ...], Field(min_length=1), Tag("list")],
    Discriminator(_form),  # one message for a wrong value, not one for each form
]
"""Value of pixels that no image covers, in input units (1 is white): one, or one per channel."""


class Augmentation(Spec, ABC):
    """A random change of a batch that keeps shape, dtype, device and range."""

    kind: str

    @abstractmethod
    def apply(self, images: Images, *, generator: torch.Generator) -> Images:
        """Return changed images, a new tensor; `generator` is on the CPU.

        Raises:
            DataError: the parameters are not for images of so many channels.
        """


AUGMENT: Registry[Augmentation] = Registry("augment")


def augment(images: Images, steps: Iterable[Augmentation], *, generator: torch.Generator) -> Images:
    """Apply all steps, in order.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> images = torch.tensor([[[[0, 1, 2]]]], dtype=torch.uint8)
        >>> augment(images, [Flip(probability=1.0)], generator=make_generator(0)).tolist()
        [[[[2, 1, 0]]]]

    Raises:
        DataError: there are steps, and inputs are no images.
    """
    for step in steps:
        if images.ndim != 4:
            raise DataError(
                f"augmentation: wanted images of shape (n, c, h, w) for {step.kind}, "
                f"got {tuple(images.shape)}"
            )
        images = step.apply(images, generator=generator)
    return images


def fill_of(fill: Fill, images: Images) -> Shaped[Tensor, "fills 1 1"]:
    """Return `fill` in the dtype and on the device of `images`: one value, or one per channel.

    Raises:
        DataError: there are several values, but not one per channel.

    Example:
        >>> fill_of(0.5, torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).flatten()
        tensor([128], dtype=torch.uint8)
    """
    values = fill if isinstance(fill, tuple) else (fill,)
    channels = images.shape[1]
    if isinstance(fill, tuple) and len(fill) != channels:
        raise DataError(f"fill: wanted one value or {channels}, one per channel; got {len(fill)}")
    if not images.is_floating_point():
        values = tuple(round(255 * value) for value in values)
    colour = torch.tensor(values, dtype=images.dtype).to(images.device, non_blocking=True)
    return colour[:, None, None]


@AUGMENT.register
class PadCrop(Augmentation):
    """Pad all four edges, then cut out a window of the old size at a random place.

    Example:
        >>> PadCrop(padding=2).fill
        0.0
    """

    kind: Literal["pad_crop"] = "pad_crop"
    padding: Annotated[int, Field(ge=1, le=256, strict=True)] = 4
    """Width of each added edge, in pixels."""
    fill: Fill = 0.0
    """Value of the added pixels, in input units (1 is white): one, or one per channel."""

    def apply(self, images: Images, *, generator: torch.Generator) -> Images:
        """Return the windows; advances `generator` by two draws per image."""
        n, channels, height, width = images.shape
        shifts = torch.randint(0, 2 * self.padding + 1, (2, n), generator=generator)
        top, left = shifts.to(images.device, non_blocking=True)
        edge = self.padding
        padded = images.new_empty(n, channels, height + 2 * edge, width + 2 * edge)
        padded[:] = fill_of(self.fill, images)
        padded[:, :, edge : edge + height, edge : edge + width] = images
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
        chosen = chosen.to(images.device, non_blocking=True)[:, None, None, None]
        return select(chosen, images.flip(3), images)


@AUGMENT.register
class Cutout(Augmentation):
    """Blank a square whose centre is any pixel; what sticks out of the image is lost.

    Example:
        >>> Cutout(size=8).size
        8
    """

    kind: Literal["cutout"] = "cutout"
    size: Count = 16
    """Side of the square, in pixels."""
    fill: Fill = 0.0
    """Value of the pixels in the square, in input units (1 is white): one, or one per channel."""

    def apply(self, images: Images, *, generator: torch.Generator) -> Images:
        """Return the images with a hole; advances `generator` by two draws per image."""
        n, _, height, width = images.shape
        rows = self._covers(torch.randint(0, height, (n,), generator=generator), height)
        columns = self._covers(torch.randint(0, width, (n,), generator=generator), width)
        rows, columns = (side.to(images.device, non_blocking=True) for side in (rows, columns))
        hole = rows[:, None, :, None] & columns[:, None, None, :]
        return select(hole, fill_of(self.fill, images), images)

    def _covers(self, centre: Tensor, length: int) -> Tensor:
        """Return whether the square covers each of `length` places, (n, length)."""
        start = centre[:, None] - self.size // 2
        place = torch.arange(length)
        return (place >= start) & (place < start + self.size)
