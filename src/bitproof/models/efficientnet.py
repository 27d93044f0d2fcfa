"""EfficientNet-B0, and EfficientNet-Lite0, which is B0 for integer hardware.

Model:  seven stages of inverted residual blocks: widen by 1x1, convolve each channel on its own,
        narrow by 1x1; the first block of a stage changes the width and may halve the maps. B0 has
        squeeze-and-excitation and SiLU; Lite0 has neither, and ReLU6. For images of fewer than 64
        pixels the stem has stride 1 and all else stays, so that 32x32 images end as maps of 2x2.
        Padding is alike on all sides (weights converted from TensorFlow want another one).
Source: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        ICML 2019, table 1. Squeeze-and-excitation: Hu, Shen, Sun, CVPR 2018. Initial weights, and
        the changes of Lite0: the authors' code, tensorflow/tpu. Stem of stride 1:
        kuangliu/pytorch-cifar. Names and shapes are torchvision's for B0, timm's for Lite0.
"""

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn import functional

from bitproof.core.types import Probability
from bitproof.models.base import LARGE, MODELS, ImageModelSpec, Normalize
from bitproof.models.blocks import StochasticDepth
from bitproof.models.shapes import Images, Logits, Maps
from bitproof.models.stacked import StackedModule

STEM_WIDTH = 32
"""Channels of the first convolution."""
HEAD_WIDTH = 1280
"""Channels of the last convolution."""
SQUEEZE = 4
"""Channels that enter a block, over those in the middle of its squeeze-and-excitation."""


@dataclass(frozen=True)
class Block:
    """One inverted residual block."""

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
"""Stages of both networks."""
Stages = list[list[Block]]


class EfficientNet(ImageModelSpec):
    """The parameters of an EfficientNet."""

    stochastic_depth: Probability = 0.2
    """Drop rate of residual blocks in training: 0 for the first, towards this for the last."""
    dropout: Probability = 0.2
    """Drop rate of the features before the last layer, in training."""


def _make_stem(in_channels: int, image_size: int) -> nn.Conv2d:
    """Return the first convolution, of stride 2 for large images."""
    return _convolution(in_channels, STEM_WIDTH, 3, stride=2 if image_size >= LARGE else 1)


def plan_stages(stochastic_depth: float) -> Stages:
    """Return the blocks of each stage; drop rates grow linearly from 0.

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


def _convolution(
    in_width: int, out_width: int, kernel: int = 1, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution without bias, padded alike on all sides."""
    return nn.Conv2d(
        in_width, out_width, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )


def _initialise_(network: nn.Module) -> None:
    """Draw convolutions of variance 2 / fan-out, linear layers within 1 / sqrt(fan-out)."""
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


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number in (0, 1), computed from the means of all channels."""

    def __init__(self, width: int, squeezed_width: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(width, squeezed_width, 1)
        self.fc2 = nn.Conv2d(squeezed_width, width, 1)
        self.activation = nn.SiLU()
        self.scale_activation = nn.Sigmoid()

    def forward(self, images: Images) -> Maps:
        """Return the scaled maps."""
        scale = self.fc2(self.activation(self.fc1(self.avgpool(images))))
        scaled: Maps = self.scale_activation(scale) * images
        return scaled


class MobileBlock(nn.Module):
    """Widen, convolve each channel, squeeze and excite, narrow; add the input where it fits."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        inner, kernel = block.inner_width, block.kernel
        widen = [] if block.expansion == 1 else [_unit(_convolution(block.in_width, inner))]
        depthwise = _convolution(inner, inner, kernel, stride=block.stride, groups=inner)
        self.block = nn.Sequential(
            *widen,
            _unit(depthwise),
            SqueezeExcitation(inner, block.in_width // SQUEEZE),
            nn.Sequential(_convolution(inner, block.out_width), nn.BatchNorm2d(block.out_width)),
        )
        self.stochastic_depth = StochasticDepth(block.drop)
        self.is_residual = block.is_residual

    def forward(self, images: Images) -> Maps:
        """Return the maps of the block."""
        branch: Maps = self.block(images)
        return images + self.stochastic_depth(branch) if self.is_residual else branch


def _unit(layer: nn.Conv2d) -> nn.Sequential:
    """Return a convolution with its batch norm and activation."""
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.SiLU())


@MODELS.register
class EfficientNetB0(EfficientNet):
    """5,288,548 parameters for colour images and 1000 classes.

    Example:
        >>> EfficientNetB0(stochastic_depth=0.0).dropout
        0.2
    """

    kind: Literal["efficientnet_b0"] = "efficientnet_b0"

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network: stem, seven stages and head, all in `features`."""
        stages = plan_stages(self.stochastic_depth)
        normalize = self.normalize(in_channels)
        features = nn.Sequential(
            _unit(_make_stem(in_channels, image_size)),
            *(nn.Sequential(*map(MobileBlock, stage)) for stage in stages),
            _unit(_convolution(stages[-1][-1].out_width, HEAD_WIDTH)),
        )
        classifier = nn.Sequential(nn.Dropout(self.dropout), nn.Linear(HEAD_WIDTH, n_classes))
        network = StackedModule(normalize, features, nn.AdaptiveAvgPool2d(1), classifier)
        _initialise_(network)
        return network


class SeparableBlock(nn.Module):
    """Convolve each channel, narrow; the block without expansion."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        inner = block.inner_width
        self.conv_dw = _convolution(inner, inner, block.kernel, stride=block.stride, groups=inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv_pw = _convolution(inner, block.out_width)
        self.bn2 = nn.BatchNorm2d(block.out_width)
        self.drop_path = StochasticDepth(block.drop)
        self.is_residual = block.is_residual

    def forward(self, images: Images) -> Maps:
        """Return the maps of the block."""
        maps = functional.relu6(self.bn1(self.conv_dw(images)))
        branch: Maps = self.bn2(self.conv_pw(maps))
        return images + self.drop_path(branch) if self.is_residual else branch


class InvertedBlock(nn.Module):
    """Widen, convolve each channel, narrow; add the input where it fits."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        inner = block.inner_width
        self.conv_pw = _convolution(block.in_width, inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv_dw = _convolution(inner, inner, block.kernel, stride=block.stride, groups=inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv_pwl = _convolution(inner, block.out_width)
        self.bn3 = nn.BatchNorm2d(block.out_width)
        self.drop_path = StochasticDepth(block.drop)
        self.is_residual = block.is_residual

    def forward(self, images: Images) -> Maps:
        """Return the maps of the block."""
        maps = functional.relu6(self.bn1(self.conv_pw(images)))
        maps = functional.relu6(self.bn2(self.conv_dw(maps)))
        branch: Maps = self.bn3(self.conv_pwl(maps))
        return images + self.drop_path(branch) if self.is_residual else branch


class EfficientNetLiteModule(nn.Module):
    """The network: stem, seven stages in `blocks`, head."""

    def __init__(
        self,
        normalize: Normalize,
        stem: nn.Conv2d,
        stages: Stages,
        *,
        dropout: float,
        n_classes: int,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.conv_stem = stem
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.blocks = nn.Sequential(*(nn.Sequential(*map(_lite_block, stage)) for stage in stages))
        self.conv_head = _convolution(stages[-1][-1].out_width, HEAD_WIDTH)
        self.bn2 = nn.BatchNorm2d(HEAD_WIDTH)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(HEAD_WIDTH, n_classes)
        _initialise_(self)

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = functional.relu6(self.bn1(self.conv_stem(self.normalize(images))))
        maps = functional.relu6(self.bn2(self.conv_head(self.blocks(maps))))
        logits: Logits = self.classifier(self.dropout(self.global_pool(maps).flatten(1)))
        return logits


def _lite_block(block: Block) -> nn.Module:
    return SeparableBlock(block) if block.expansion == 1 else InvertedBlock(block)


@MODELS.register
class EfficientNetLite0(EfficientNet):
    """4,652,008 parameters for colour images and 1000 classes.

    Example:
        >>> EfficientNetLite0().stochastic_depth
        0.2
    """

    kind: Literal["efficientnet_lite0"] = "efficientnet_lite0"

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network."""
        return EfficientNetLiteModule(
            self.normalize(in_channels),
            _make_stem(in_channels, image_size),
            plan_stages(self.stochastic_depth),
            dropout=self.dropout,
            n_classes=n_classes,
        )
