"""MobileNetV2.

Model:  seven stages of inverted residual blocks: widen by 1x1, convolve each channel on its own,
        narrow by 1x1 without an activation; ReLU6 elsewhere. For images of fewer than 64 pixels
        the stem has stride 1 and all else stays, as in our EfficientNets, so that 32x32 images end
        as maps of 2x2.
Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
        table 2. Names, shapes and initial weights are torchvision's.
"""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from bitproof.core.types import Probability
from bitproof.models.base import LARGE, MODELS, ImageModelSpec
from bitproof.models.shapes import Images, Maps
from bitproof.models.stacked import StackedModule

STEM_WIDTH = 32
"""Channels of the first convolution, before `width`."""
HEAD_WIDTH = 1280
"""Channels of the last convolution; more where `width` is above 1, never fewer."""
STAGES = (
    # expansion, width, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def round_width(channels: float) -> int:
    """Return the multiple of 8 nearest to `channels`, no less than nine tenths of them.

    Example:
        >>> round_width(32 * 0.35), round_width(24 * 0.5), round_width(18.0)
        (16, 16, 24)
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _unit(
    in_width: int, out_width: int, kernel: int = 1, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return a convolution with its batch norm and activation."""
    return nn.Sequential(
        nn.Conv2d(in_width, out_width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_width),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Widen, convolve each channel, narrow; add the input where it fits."""

    def __init__(self, in_width: int, out_width: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        inner = in_width * expansion
        self.conv = nn.Sequential(
            *([] if expansion == 1 else [_unit(in_width, inner)]),
            _unit(inner, inner, 3, stride=stride, groups=inner),
            nn.Conv2d(inner, out_width, 1, bias=False),
            nn.BatchNorm2d(out_width),
        )
        self.is_residual = stride == 1 and in_width == out_width

    def forward(self, images: Images) -> Maps:
        """Return the maps of the block."""
        branch: Maps = self.conv(images)
        return images + branch if self.is_residual else branch


@MODELS.register
class MobileNetV2(ImageModelSpec):
    """3,504,872 parameters for colour images and 1000 classes.

    Example:
        >>> MobileNetV2(width=0.5).dropout
        0.2
    """

    kind: Literal["mobilenet_v2"] = "mobilenet_v2"
    width: Annotated[float, Field(ge=0.01, le=16.0, strict=True)] = 1.0
    """Factor on all numbers of channels, which are then rounded to multiples of 8."""
    dropout: Probability = 0.2
    """Drop rate of the features before the last layer, in training."""

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network: stem, blocks and head, all in `features`."""
        width = round_width(STEM_WIDTH * self.width)
        layers: list[nn.Module] = [
            _unit(in_channels, width, 3, stride=2 if image_size >= LARGE else 1)
        ]
        for expansion, channels, blocks, stride in STAGES:
            out_width = round_width(channels * self.width)
            for place in range(blocks):
                step = stride if place == 0 else 1
                layers.append(InvertedResidual(width, out_width, expansion=expansion, stride=step))
                width = out_width
        head = round_width(HEAD_WIDTH * max(1.0, self.width))
        features = nn.Sequential(*layers, _unit(width, head))
        classifier = nn.Sequential(nn.Dropout(self.dropout), nn.Linear(head, n_classes))
        network = StackedModule(
            self.normalize(in_channels), features, nn.AdaptiveAvgPool2d(1), classifier
        )
        _initialise_(network)
        return network


def _initialise_(network: nn.Module) -> None:
    """Draw convolutions of variance 2 / fan-out, linear layers of deviation 0.01."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = math.prod(layer.kernel_size) * layer.out_channels
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
