"""What every architecture is: parameters that build a network, the same from the same generator."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bitproof.core.errors import ModelError
from bitproof.core.registry import Registry
from bitproof.core.rng import draw_seed, global_draws
from bitproof.core.spec import Spec
from bitproof.core.types import Finite, Positive
from bitproof.models.shapes import Images

LARGE = 64
"""Height and width from which a network takes the form made for ImageNet, in pixels."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of each colour over ImageNet, in input units; the pretrained CIFAR ResNets use it too."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of each colour over ImageNet, in input units."""


Width = Annotated[int, Field(ge=1, le=512, strict=True)]
"""Channels of the first layers; at 512, the widest network has some 10^9 weights."""


class ModelSpec(Spec):
    """An architecture. The network takes images in [0, 1] and returns one logit per class.

    `build` is final because it keeps a promise: the weights come from `generator` alone, and the
    global random state stays as it was. Components implement `assemble`.
    """

    brings_weights: ClassVar[bool] = False
    """Whether it may make a network that is trained already."""

    kind: str

    @final
    def build(
        self, *, in_channels: int, image_size: int, n_classes: int, generator: torch.Generator
    ) -> nn.Module:
        """Return a freshly initialised network, on the CPU, in training mode.

        `image_size` is the height and width of an image, in pixels. `generator` is advanced by one
        draw.

        Raises:
            ModelError: the architecture does not fit images of this shape, or the user's own code
                failed.
            AdapterError: the architecture is from a package that is not installed.
        """
        sizes = {"in_channels": in_channels, "image_size": image_size, "n_classes": n_classes}
        for name, size in sizes.items():
            if size < 1:
                raise ModelError(f"{self.kind}: wanted {name} of at least 1, got {size}")
        with global_draws(draw_seed(generator)):
            return self.assemble(**sizes)

    @abstractmethod
    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network, drawing its weights from the global CPU generator."""


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, per channel.

    The buffers are held as `c 1 1`, ready to broadcast: a view made in `forward` would be frozen
    by `torch.fx` as an anonymous constant, and hung on the traced model.

    Example:
        >>> layer = Normalize(mean=(0.5,), std=(0.25,))
        >>> layer(torch.tensor([[[[0.0, 1.0]]]]))
        tensor([[[[-2.,  2.]]]])
        >>> layer.mean.shape
        torch.Size([1, 1, 1])
    """

    mean: Tensor
    """Mean per channel, input units."""
    std: Tensor
    """Standard deviation per channel, input units."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, images: Images) -> Images:
        """Return the normalised images."""
        return (images - self.mean) / self.std


class ImageModelSpec(ModelSpec):
    """An architecture that starts with a `Normalize` layer called `normalize`.

    One step deeper than usual, because a user's own factory is a `ModelSpec` without these fields.
    """

    mean: tuple[Finite, ...] = ()
    """Mean of each input channel, in input units; empty takes 0.5."""
    std: tuple[Positive, ...] = ()
    """Standard deviation of each input channel, in input units; empty takes 0.5."""

    @model_validator(mode="after")
    def _check_pair(self) -> "ImageModelSpec":
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"wanted as many values in mean as in std, got {len(self.mean)} and {len(self.std)}"
            )
        return self

    def normalize(self, in_channels: int) -> Normalize:
        """Return the first layer.

        Raises:
            ModelError: `mean` and `std` are for another number of channels.
        """
        if not self.mean:
            return Normalize([0.5] * in_channels, [0.5] * in_channels)
        if len(self.mean) != in_channels:
            raise ModelError(
                f"{self.kind}: wanted one mean and std per channel ({in_channels}), "
                f"got {len(self.mean)}; mean = [] and std = [] take 0.5"
            )
        return Normalize(self.mean, self.std)

    def check_side(self, image_size: int, least: int) -> None:
        """Raise a `ModelError` where images are smaller than `least`, in pixels."""
        if image_size < least:
            raise ModelError(
                f"{self.kind}: wanted images of at least {least} pixels, got {image_size}"
            )


MODELS: Registry[ModelSpec] = Registry("models")
"""Every architecture, by kind."""
