"""A small residual network for 8x8 digits: everything that a big one has, in a second.

Model:  one convolution with batch norm, one of stride 2 that doubles the width, one residual
        block, global average pooling, one linear layer.
Source: bitproof's own, made for demonstrations and tests; the block is that of He et al., 2016.
"""

from typing import Literal

from torch import nn
from torch.nn import functional

from bitproof.models.base import MODELS, ImageModelSpec, Normalize, Width
from bitproof.models.blocks import BasicBlock, initialise_he_
from bitproof.models.shapes import Images, Logits


class DigitsCNNModule(nn.Module):
    """The network."""

    def __init__(
        self, normalize: Normalize, *, in_channels: int, n_classes: int, width: int
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.block = BasicBlock(2 * width, 2 * width)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(2 * width, n_classes)
        initialise_he_(self)

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = functional.relu(self.bn1(self.conv1(self.normalize(images))))
        maps = functional.relu(self.bn2(self.conv2(maps)))
        logits: Logits = self.linear(self.pool(self.block(maps)).flatten(1))
        return logits


@MODELS.register
class DigitsCNN(ImageModelSpec):
    """23,738 parameters at the default width, for one channel and 10 classes.

    Example:
        >>> DigitsCNN(width=8, mean=(0.5,), std=(0.25,)).normalize(1).std.item()
        0.25
    """

    kind: Literal["digits_cnn"] = "digits_cnn"
    width: Width = 16
    """Channels of the first convolution; the others have twice as many."""

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:  # noqa: ARG002
        """Return the network."""
        return DigitsCNNModule(
            self.normalize(in_channels),
            in_channels=in_channels,
            n_classes=n_classes,
            width=self.width,
        )
