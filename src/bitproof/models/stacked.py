"""Convolutions in a row, then linear layers: the shape that AlexNet and VGG share."""

from torch import nn

from bitproof.models.normalize import Normalize
from bitproof.models.shapes import Images, Logits


class StackedModule(nn.Module):
    """The network; `avgpool` brings the maps to the size that `classifier` wants.

    Example:
        >>> import torch
        >>> network = StackedModule(
        ...     Normalize((0.5,), (0.5,)),
        ...     nn.Sequential(nn.Conv2d(1, 4, 3)),
        ...     nn.Linear(4, 2),
        ...     avgpool=nn.AdaptiveAvgPool2d(1),
        ... )
        >>> network(torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        normalize: Normalize,
        features: nn.Sequential,
        classifier: nn.Module,
        *,
        avgpool: nn.Module,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.features = features
        self.avgpool = avgpool
        self.classifier = classifier

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = self.avgpool(self.features(self.normalize(images)))
        logits: Logits = self.classifier(maps.flatten(1))
        return logits
