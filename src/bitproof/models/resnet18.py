"""ResNet-18, for small images and for large ones.

Model:  basic blocks, projection shortcuts (option B). Images below 64 pixels enter through one 3x3
        convolution of stride 1; larger ones through the 7x7 convolution of stride 2 and the max
        pooling of the ImageNet network.
Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
        The 3x3 stem is the usual change for 32x32 images. Layer names are torchvision's, and
        weights for large images load as they are.
"""

from typing import Literal

from torch import nn
from torch.nn import functional

from bitproof.models.base import LARGE, MODELS, ImageModelSpec
from bitproof.models.blocks import initialise_he_, make_stage, project_shortcut
from bitproof.models.normalize import Normalize
from bitproof.models.shapes import Images, Logits


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
