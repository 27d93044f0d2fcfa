"""VGG-11 and VGG-16 with batch norm: 3x3 convolutions between five halvings of the maps.

Model:  each convolution keeps its bias and is followed by batch norm and ReLU. Images of 32 to 63
        pixels end in one pixel of 512 channels and one linear layer; from 64 pixels on, the maps
        are averaged to 7x7 and enter linear layers of 4096, 4096 and `n_classes`, with dropout.
Source: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
        ICLR 2015, table 1, columns A and D; the form for small images is the one of
        github.com/kuangliu/pytorch-cifar. Layer names are those of torchvision's `vgg11_bn` and
        `vgg16_bn`, whose weights load as they are. Sizes of both forms: Sun et al., "NeuralFuse",
        arXiv 2306.16869, table 7.
"""

from typing import ClassVar, Literal

from torch import nn

from bitproof.models.base import LARGE, MODELS, ImageModelSpec, Width
from bitproof.models.blocks import initialise_he_
from bitproof.models.stacked import StackedModule, average_to

Stage = tuple[int, int]
"""Convolutions between two halvings, and the channels of each."""


class VGG(ImageModelSpec):
    """What the two depths share."""

    width: Width = 64
    """Channels of the first stage; 64 in the source, 16 for a narrow one."""
    stages: ClassVar[tuple[Stage, ...]]

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network; something of the image must be left after five halvings."""
        self.check_side(image_size, least=32)
        normalize = self.normalize(in_channels)
        stages = tuple((n, channels * self.width // 64) for n, channels in self.stages)
        features, last = make_features(in_channels, stages), stages[-1][1]
        if image_size < LARGE:
            network = StackedModule(normalize, features, nn.Identity(), nn.Linear(last, n_classes))
        else:
            classifier = nn.Sequential(
                *[nn.Linear(last * 7 * 7, 4096), nn.ReLU(), nn.Dropout()],
                *[nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()],
                nn.Linear(4096, n_classes),
            )
            pool = average_to(7, side=image_size // 32)
            network = StackedModule(normalize, features, pool, classifier)
        initialise_(network)
        return network


def make_features(in_channels: int, stages: tuple[Stage, ...]) -> nn.Sequential:
    """Return the convolutions, each with batch norm and ReLU, and the halvings between."""
    layers: list[nn.Module] = []
    width = in_channels
    for n_convolutions, out_width in stages:
        for _ in range(n_convolutions):
            convolution = nn.Conv2d(width, out_width, 3, padding=1)
            layers += [convolution, nn.BatchNorm2d(out_width), nn.ReLU()]
            width = out_width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def initialise_(network: nn.Module) -> None:
    """Draw convolutions as He et al. do, linear layers with deviation 0.01; biases are zero."""
    initialise_he_(network)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


@MODELS.register
class VGG11(VGG):
    """11 layers; for colour images and 10 classes 9,231,114 parameters at 32x32 pixels.

    Example:
        >>> [width for _, width in VGG11.stages]
        [64, 128, 256, 512, 512]
    """

    kind: Literal["vgg11"] = "vgg11"
    stages: ClassVar[tuple[Stage, ...]] = ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512))


@MODELS.register
class VGG16(VGG):
    """16 layers; for colour images and 10 classes 14,728,266 parameters at 32x32 pixels.

    Example:
        >>> sum(n_convolutions for n_convolutions, _ in VGG16.stages)
        13
    """

    kind: Literal["vgg16"] = "vgg16"
    stages: ClassVar[tuple[Stage, ...]] = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
