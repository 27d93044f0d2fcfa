"""ResNet-18 for small images.

Model:  basic blocks, projection shortcuts (option B); the 7x7 stem of stride 2 and the max
        pooling of the ImageNet network are replaced by one 3x3 convolution of stride 1.
Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
        The 3x3 stem is the usual change for 32x32 images. Layer names are torchvision's.
"""

from typing import Literal

from torch import nn
from torch.nn import functional

from bitproof.models.base import MODELS, ImageModelSpec
from bitproof.models.blocks import initialise_he_, make_stage, project_shortcut
from bitproof.models.normalize import Normalize
from bitproof.models.shapes import Images, Logits


class ResNet18Module(nn.Module):
    """The network: two blocks in each of four stages."""

    def __init__(self, normalize: Normalize, *, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.normalize = normalize
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = make_stage(64, 64, 2, shortcut=project_shortcut)
        self.layer2 = make_stage(64, 128, 2, shortcut=project_shortcut)
        self.layer3 = make_stage(128, 256, 2, shortcut=project_shortcut)
        self.layer4 = make_stage(256, 512, 2, shortcut=project_shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, n_classes)
        initialise_he_(self)

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = functional.relu(self.bn1(self.conv1(self.normalize(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        logits: Logits = self.fc(self.pool(maps).flatten(1))
        return logits


@MODELS.register
class ResNet18(ImageModelSpec):
    """18 layers, 11,173,962 parameters for colour images and 10 classes.

    Example:
        >>> ResNet18(mean=(0.5,), std=(0.25,)).normalize(1).std.item()
        0.25
    """

    kind: Literal["resnet18"] = "resnet18"

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:  # noqa: ARG002
        """Return the network."""
        return ResNet18Module(
            self.normalize(in_channels), in_channels=in_channels, n_classes=n_classes
        )
