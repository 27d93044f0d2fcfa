"""Convolutions in a row, pooling, then linear layers: what AlexNet, VGG and EfficientNet share.

Model:  where maps are averaged to a size that does not divide theirs, window i of n over m pixels
        covers those from floor(i m / n) to below ceil((i + 1) m / n), as in torch's adaptive
        pooling; windows overlap, and repeat where the maps are enlarged. Integers can follow.
"""

import torch
from torch import nn

from bitproof.models.base import Normalize
from bitproof.models.shapes import Images, Logits, Maps


class StackedModule(nn.Module):
    """The network; `avgpool` brings the maps to the size that `classifier` wants.

    Example:
        >>> network = StackedModule(
        ...     Normalize((0.5,), (0.5,)),
        ...     nn.Sequential(nn.Conv2d(1, 4, 3)),
        ...     nn.AdaptiveAvgPool2d(1),
        ...     nn.Linear(4, 2),
        ... )
        >>> network(torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 2])
    """

    def __init__(
        self, normalize: Normalize, features: nn.Sequential, avgpool: nn.Module, head: nn.Module
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.features = features
        self.avgpool = avgpool
        self.classifier = head

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = self.avgpool(self.features(self.normalize(images)))
        logits: Logits = self.classifier(maps.flatten(1))
        return logits


def average_to(size: int, *, side: int) -> nn.Module:
    """Return the layer that averages maps of height and width `side` to `size`.

    Example:
        >>> average_to(7, side=14)
        AdaptiveAvgPool2d(output_size=7)
        >>> average_to(7, side=2)
        UnevenAvgPool2d()
    """
    return UnevenAvgPool2d(size, side) if side % size else nn.AdaptiveAvgPool2d(size)


class UnevenAvgPool2d(nn.Module):
    """Adaptive average pooling from maps of `side` to maps of `size`, as slices and means.

    Example:
        >>> UnevenAvgPool2d(2, 3)(torch.arange(9.0).reshape(1, 1, 3, 3)).flatten()
        tensor([2., 3., 5., 6.])
    """

    def __init__(self, size: int, side: int) -> None:
        super().__init__()
        self.windows = [(i * side // size, -(-(i + 1) * side // size)) for i in range(size)]

    def forward(self, images: Images) -> Maps:
        """Return the averaged maps."""
        rows = [images[:, :, a:b].mean(2, keepdim=True) for a, b in self.windows]
        maps = torch.cat(rows, 2)
        columns = [maps[:, :, :, a:b].mean(3, keepdim=True) for a, b in self.windows]
        return torch.cat(columns, 3)
