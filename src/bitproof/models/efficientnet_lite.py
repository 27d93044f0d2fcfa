"""EfficientNet-Lite0: EfficientNet-B0 for integer hardware.

Model:  no squeeze-and-excitation, ReLU6 for SiLU; stem and head are those of B0. Padding is alike
        on all sides (the converted TensorFlow weights, `tf_efficientnet_lite0`, want another one).
        For images of fewer than 64 pixels the stem has stride 1.
Source: Tan, Le, "EfficientNet", ICML 2019, table 1; the changes: tensorflow/tpu,
        `models/official/efficientnet/lite`. Names and shapes of the layers are timm's.
"""

from typing import ClassVar, Literal

from torch import nn
from torch.nn import functional

from bitproof.models.base import MODELS
from bitproof.models.mobile_blocks import (
    HEAD_WIDTH,
    STEM_WIDTH,
    Block,
    MobileSpec,
    Stages,
    convolution,
    initialise_mobile_,
)
from bitproof.models.normalize import Normalize
from bitproof.models.shapes import Images, Logits, Maps
from bitproof.models.stochastic_depth import StochasticDepth


class SeparableBlock(nn.Module):
    """Convolve each channel, narrow; the block without expansion."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        inner = block.inner_width
        self.conv_dw = convolution(inner, inner, block.kernel, stride=block.stride, groups=inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv_pw = convolution(inner, block.out_width)
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
        self.conv_pw = convolution(block.in_width, inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv_dw = convolution(inner, inner, block.kernel, stride=block.stride, groups=inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv_pwl = convolution(inner, block.out_width)
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
        self.blocks = nn.Sequential(
            *(nn.Sequential(*(_layer(block) for block in stage)) for stage in stages)
        )
        self.conv_head = convolution(stages[-1][-1].out_width, HEAD_WIDTH)
        self.bn2 = nn.BatchNorm2d(HEAD_WIDTH)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(HEAD_WIDTH, n_classes)
        initialise_mobile_(self)

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = functional.relu6(self.bn1(self.conv_stem(self.normalize(images))))
        maps = functional.relu6(self.bn2(self.conv_head(self.blocks(maps))))
        logits: Logits = self.classifier(self.dropout(self.global_pool(maps).flatten(1)))
        return logits


def _layer(block: Block) -> nn.Module:
    return SeparableBlock(block) if block.expansion == 1 else InvertedBlock(block)


@MODELS.register
class EfficientNetLite0(MobileSpec):
    """4,652,008 parameters for colour images and 1000 classes.

    Example:
        >>> EfficientNetLite0().stochastic_depth
        0.2
    """

    kind: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    network: ClassVar[type[nn.Module]] = EfficientNetLiteModule
