"""Residual networks: those for CIFAR, and ResNet-18 for small images and for large ones.

Model:  for CIFAR, 6n+2 layers in three stages of 16, 32 and 64 channels: basic blocks,
        parameter-free shortcuts (option A), convolutions without bias, global average pooling,
        one linear layer. Any image size works; published for 32x32.
        ResNet-18 has projection shortcuts (option B). Images below 64 pixels enter through one 3x3
        convolution of stride 1, the usual change for 32x32; larger ones through the 7x7
        convolution of stride 2 and the max pooling of the ImageNet network.
Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2
        and table 1. Layer names are those of github.com/akamaster/pytorch_resnet_cifar10 and, of
        ResNet-18, torchvision's: the pretrained weights load as they are.
"""

from typing import ClassVar, Literal

from torch import nn
from torch.nn import functional

from bitproof.core.types import Finite, Positive
from bitproof.models.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LARGE,
    MODELS,
    ImageModelSpec,
    Normalize,
)
from bitproof.models.blocks import PadShortcut, initialise_he_, make_stage, project_shortcut
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
    mean: tuple[Finite, ...] = IMAGENET_MEAN
    """Mean of each input channel, in input units; empty takes 0.5."""
    std: tuple[Positive, ...] = IMAGENET_STD
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


class ResNet18Module(nn.Module):
    """The network: `conv1` and `maxpool` are the stem, then two blocks in each of four stages."""

    def __init__(
        self, normalize: Normalize, conv1: nn.Conv2d, maxpool: nn.Module, *, n_classes: int
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.conv1 = conv1
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = maxpool
        self.layer1 = make_stage(64, 64, 2, shortcut=project_shortcut)
        self.layer2 = make_stage(64, 128, 2, shortcut=project_shortcut)
        self.layer3 = make_stage(128, 256, 2, shortcut=project_shortcut)
        self.layer4 = make_stage(256, 512, 2, shortcut=project_shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, n_classes)
        initialise_he_(self)

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = self.maxpool(functional.relu(self.bn1(self.conv1(self.normalize(images)))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        logits: Logits = self.fc(self.pool(maps).flatten(1))
        return logits


@MODELS.register
class ResNet18(ImageModelSpec):
    """18 layers, 11,173,962 parameters for colour images of 32x32 pixels and 10 classes.

    Example:
        >>> ResNet18(mean=(0.5,), std=(0.25,)).normalize(1).std.item()
        0.25
    """

    kind: Literal["resnet18"] = "resnet18"

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network."""
        normalize = self.normalize(in_channels)
        if image_size >= LARGE:
            conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
            maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            return ResNet18Module(normalize, conv1, maxpool, n_classes=n_classes)
        conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        return ResNet18Module(normalize, conv1, nn.Identity(), n_classes=n_classes)
