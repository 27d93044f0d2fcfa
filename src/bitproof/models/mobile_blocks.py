"""What the EfficientNets share: parameters, the table of stages, the stem, initialisation.

Model:  seven stages of inverted residual blocks: widen by 1x1, convolve each channel on its own,
        narrow by 1x1; the first block of a stage changes the width and may halve the maps.
Source: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        ICML 2019, table 1 (B0). Initial weights: the authors' code, tensorflow/tpu. For small
        images the stem has stride 1 and all else stays, as in kuangliu/pytorch-cifar.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bitproof.core.types import Probability
from bitproof.models.base import LARGE, ImageModelSpec

STEM_WIDTH = 32
"""Channels of the first convolution."""
HEAD_WIDTH = 1280
"""Channels of the last convolution."""


@dataclass(frozen=True)
class Block:
    """One inverted residual block.

    Example:
        >>> Block(in_width=16, out_width=24, expansion=6, kernel=3, stride=2, drop=0.1).inner_width
        96
    """

    in_width: int
    out_width: int
    expansion: int
    """Channels inside, in multiples of `in_width`."""
    kernel: int
    """Side of the depthwise kernel, in pixels."""
    stride: int
    drop: float
    """Probability that stochastic depth leaves the block out."""

    @property
    def inner_width(self) -> int:
        """Channels of the depthwise convolution."""
        return self.in_width * self.expansion

    @property
    def is_residual(self) -> bool:
        """Whether the input is added to the output, having the same shape."""
        return self.stride == 1 and self.in_width == self.out_width


STAGES = (
    # expansion, kernel, stride, width, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Stages of EfficientNet-B0; EfficientNet-Lite0 has the same."""


Stages = list[list[Block]]


class MobileSpec(ImageModelSpec):
    """The parameters of an EfficientNet; each kind names its `network`."""

    network: ClassVar[type[nn.Module]]
    stochastic_depth: Probability = 0.2
    """Drop rate of residual blocks in training: 0 for the first, towards this for the last."""
    dropout: Probability = 0.2
    """Drop rate of the features before the last layer, in training."""

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network."""
        stride = 2 if image_size >= LARGE else 1
        return self.network(
            self.normalize(in_channels),
            convolution(in_channels, STEM_WIDTH, 3, stride=stride),
            plan_stages(self.stochastic_depth),
            dropout=self.dropout,
            n_classes=n_classes,
        )


def plan_stages(stochastic_depth: float) -> Stages:
    """Return the blocks of each stage.

    Args:
        stochastic_depth: drop rate of a block behind the last one; it grows linearly from 0.

    Example:
        >>> sum(len(stage) for stage in plan_stages(0.2))
        16
    """
    total = sum(stage[-1] for stage in STAGES)
    plan: Stages = []
    width, index = STEM_WIDTH, 0
    for expansion, kernel, stride, out_width, n_blocks in STAGES:
        blocks = []
        for place in range(n_blocks):
            step = stride if place == 0 else 1
            drop = stochastic_depth * index / total
            blocks.append(Block(width, out_width, expansion, kernel, step, drop))
            width, index = out_width, index + 1
        plan.append(blocks)
    return plan


def convolution(
    in_width: int, out_width: int, kernel: int = 1, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution without bias, padded alike on all sides.

    Example:
        >>> convolution(3, 8, 5, stride=2).padding
        (2, 2)
    """
    return nn.Conv2d(
        in_width, out_width, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )


def initialise_mobile_(network: nn.Module) -> None:
    """Draw initial weights as the authors do; norms stay as torch makes them.

    Convolutions are normal, of variance 2 / fan-out, where fan-out counts the kernel's pixels
    times the output channels of one group; linear layers are uniform within 1 / sqrt(fan-out).
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            bound = 1 / math.sqrt(layer.out_features)
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
