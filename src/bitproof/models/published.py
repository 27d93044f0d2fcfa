"""Sizes that others have published, to hold ours against.

None of these numbers was counted here; `parameters` are those that training moves.
"""

from dataclasses import dataclass

from bitproof.models.alexnet import AlexNet
from bitproof.models.base import ModelSpec
from bitproof.models.efficientnet import EfficientNetB0, EfficientNetLite0
from bitproof.models.lenet5 import LeNet5
from bitproof.models.mobilenet import MobileNetV2
from bitproof.models.resnet import ResNet18, ResNet20, ResNet32, ResNet44, ResNet56
from bitproof.models.simplenet import SimpleNet
from bitproof.models.swin import SwinTiny
from bitproof.models.vgg import VGG11, VGG16

TORCHVISION = "torchvision 0.28, table of weights"
NEURALFUSE = "Sun et al., arXiv 2306.16869, table 7"
AKAMASTER = "github.com/akamaster/pytorch_resnet_cifar10, README"
METHODS = "METHODS E.3, counted from the authors' code"


@dataclass(frozen=True)
class Size:
    """The published size of one architecture, for one kind of images."""

    spec: ModelSpec
    in_channels: int
    image_size: int
    n_classes: int
    parameters: int
    """Published number, to `digits` digits."""
    source: str
    digits: int = 12
    """Leading digits that the source gives."""

    def agrees(self, parameters: int) -> bool:
        """Return whether a count is the published one, as far as its digits go.

        Example:
            >>> Size(ResNet20(), 3, 32, 10, 270_000, AKAMASTER, digits=2).agrees(269_722)
            True
        """
        unit = int(10 ** max(len(str(self.parameters)) - self.digits, 0))
        return abs(parameters - self.parameters) < unit


SIZES: tuple[Size, ...] = (
    Size(AlexNet(), 3, 32, 10, 2_470_000, "github.com/bearpaw/pytorch-classification, README", 3),
    Size(AlexNet(), 3, 224, 1000, 61_100_840, TORCHVISION),
    Size(EfficientNetB0(), 3, 224, 1000, 5_288_548, TORCHVISION),
    Size(EfficientNetLite0(), 3, 224, 1000, 4_652_008, "timm, efficientnet_lite0"),
    Size(LeNet5(), 1, 28, 10, 61_706, "the usual count of LeNet-5 with plain linear outputs"),
    Size(MobileNetV2(), 3, 224, 1000, 3_504_872, TORCHVISION),
    Size(ResNet18(), 3, 32, 10, 11_173_962, NEURALFUSE),
    Size(ResNet18(), 3, 224, 1000, 11_689_512, TORCHVISION),
    Size(ResNet20(), 3, 32, 10, 270_000, AKAMASTER, 2),
    Size(ResNet32(), 3, 32, 10, 460_000, AKAMASTER, 2),
    Size(ResNet44(), 3, 32, 10, 660_000, AKAMASTER, 2),
    Size(ResNet56(), 3, 32, 10, 850_000, AKAMASTER, 2),
    Size(SimpleNet(), 3, 32, 10, 5_498_378, METHODS),
    Size(SimpleNet(), 3, 32, 100, 5_521_508, METHODS),
    Size(SimpleNet(width=32), 1, 28, 10, 1_082_826, METHODS),
    Size(SwinTiny(), 3, 224, 1000, 28_288_354, TORCHVISION),
    Size(VGG11(), 3, 32, 10, 9_231_114, NEURALFUSE),
    Size(VGG11(), 3, 224, 1000, 132_868_840, TORCHVISION),
    Size(VGG16(), 3, 32, 10, 14_728_266, NEURALFUSE),
    Size(VGG16(), 3, 224, 1000, 138_365_992, TORCHVISION),
)
"""By kind, then by image size."""
