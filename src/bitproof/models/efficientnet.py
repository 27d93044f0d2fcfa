"""EfficientNet-B0: inverted residual blocks with squeeze-and-excitation and SiLU.

Model:  the published network; for images of fewer than 64 pixels the stem has stride 1, so that
        32x32 images end as maps of 2x2.
Source: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        ICML 2019, table 1. Squeeze-and-excitation: Hu, Shen, Sun, CVPR 2018. Stem of stride 1:
        kuangliu/pytorch-cifar. Names and shapes of the layers are torchvision's.
"""

from typing import ClassVar, Literal

from torch import nn

from bitproof.models.base import MODELS
from bitproof.models.mobile_blocks import (
    HEAD_WIDTH,
    Block,
    MobileSpec,
    Stages,
    convolution,
    initialise_mobile_,
)
from bitproof.models.normalize import Normalize
from bitproof.models.shapes import Images, Logits, Maps
from bitproof.models.stochastic_depth import StochasticDepth

SQUEEZE = 4
"""Channels that enter a block, over those in the middle of its squeeze-and-excitation."""


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
        widen = [] if block.expansion == 1 else [_unit(convolution(block.in_width, inner))]
        depthwise = convolution(inner, inner, kernel, stride=block.stride, groups=inner)
        self.block = nn.Sequential(
            *widen,
            _unit(depthwise),
            SqueezeExcitation(inner, block.in_width // SQUEEZE),
            nn.Sequential(convolution(inner, block.out_width), nn.BatchNorm2d(block.out_width)),
        )
        self.stochastic_depth = StochasticDepth(block.drop)
        self.is_residual = block.is_residual

    def forward(self, images: Images) -> Maps:
        """Return the maps of the block."""
        branch: Maps = self.block(images)
        return images + self.stochastic_depth(branch) if self.is_residual else branch


class EfficientNetModule(nn.Module):
    """The network: stem, seven stages, head, all in `features`."""

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
        self.features = nn.Sequential(
            _unit(stem),
            *(nn.Sequential(*(MobileBlock(block) for block in stage)) for stage in stages),
            _unit(convolution(stages[-1][-1].out_width, HEAD_WIDTH)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(HEAD_WIDTH, n_classes))
        initialise_mobile_(self)

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = self.features(self.normalize(images))
        logits: Logits = self.classifier(self.avgpool(maps).flatten(1))
        return logits


def _unit(layer: nn.Conv2d) -> nn.Sequential:
    """Return a convolution with its batch norm and activation."""
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.SiLU())


@MODELS.register
class EfficientNetB0(MobileSpec):
    """5,288,548 parameters for colour images and 1000 classes.

    Example:
        >>> EfficientNetB0(stochastic_depth=0.0).dropout
        0.2
    """

    kind: Literal["efficientnet_b0"] = "efficientnet_b0"
    network: ClassVar[type[nn.Module]] = EfficientNetModule
