"""Residual networks for CIFAR: 6n+2 layers in three stages of 16, 32 and 64 channels.

Model:  basic blocks, parameter-free shortcuts (option A), convolutions without bias, global
        average pooling, one linear layer. Any image size works; published for 32x32.
Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
        section 4.2. Layer names are those of the pretrained weights of
        github.com/akamaster/pytorch_resnet_cifar10, which therefore load as they are.
"""

from typing import ClassVar, Literal

from torch import nn
from torch.nn import functional

from bitproof.models.base import MODELS, ImageModelSpec
from bitproof.models.blocks import PadShortcut, initialise_he_, make_stage
from bitproof.models.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from bitproof.models.shapes import Images, Logits


class CifarResNetModule(nn.Module):
    """The network: `n_blocks` blocks in each of three stages."""

    def __init__(
        self, normalize: Normalize, *, in_channels: int, n_classes: int, n_blocks: int
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = make_stage(16, 16, n_blocks, shortcut=PadShortcut)
        self.layer2 = make_stage(16, 32, n_blocks, shortcut=PadShortcut)
        self.layer3 = make_stage(32, 64, n_blocks, shortcut=PadShortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, n_classes)
        initialise_he_(self)

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = functional.relu(self.bn1(self.conv1(self.normalize(images))))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        logits: Logits = self.linear(self.pool(maps).flatten(1))
        return logits


class CifarResNet(ImageModelSpec):
    """What the four depths share."""

    n_blocks: ClassVar[int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Mean of each input channel, in input units; empty takes 0.5."""
    std: tuple[float, ...] = IMAGENET_STD
    """Standard deviation of each input channel, in input units; empty takes 0.5."""

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:  # noqa: ARG002
        """Return the network."""
        return CifarResNetModule(
            self.normalize(in_channels),
            in_channels=in_channels,
            n_classes=n_classes,
            n_blocks=self.n_blocks,
        )


@MODELS.register
class ResNet20(CifarResNet):
    """20 layers, 269,722 parameters for 10 classes; pretrained 91.73 % on CIFAR-10.

    Example:
        >>> 6 * ResNet20.n_blocks + 2
        20
    """

    kind: Literal["resnet20"] = "resnet20"
    n_blocks: ClassVar[int] = 3


@MODELS.register
class ResNet32(CifarResNet):
    """32 layers, 464,154 parameters for 10 classes; pretrained 92.63 % on CIFAR-10."""

    kind: Literal["resnet32"] = "resnet32"
    n_blocks: ClassVar[int] = 5


@MODELS.register
class ResNet44(CifarResNet):
    """44 layers, 658,586 parameters for 10 classes; pretrained 93.10 % on CIFAR-10."""

    kind: Literal["resnet44"] = "resnet44"
    n_blocks: ClassVar[int] = 7


@MODELS.register
class ResNet56(CifarResNet):
    """56 layers, 853,018 parameters for 10 classes; pretrained 93.39 % on CIFAR-10."""

    kind: Literal["resnet56"] = "resnet56"
    n_blocks: ClassVar[int] = 9
