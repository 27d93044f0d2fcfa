"""Normalisation as a layer, so that attacks and data work on images in [0, 1]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bitproof.models.shapes import Images

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of each colour over ImageNet, in input units; the pretrained CIFAR ResNets use it too."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of each colour over ImageNet, in input units."""


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
