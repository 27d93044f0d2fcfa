"""LeNet-5: two convolutions of 6 and 16 filters, three linear layers.

Model:  ReLU and max pooling instead of the trained subsampling with tanh, every filter of the
        second convolution sees all six maps, and plain logits instead of radial basis units.
Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
        recognition", Proc. IEEE 86(11), 1998, section II.B.
"""

from typing import Annotated, Literal

from pydantic import Field
from torch import nn
from torch.nn import functional

from bitproof.models.base import MODELS, ImageModelSpec, Normalize
from bitproof.models.shapes import Images, Logits


class LeNet5Module(nn.Module):
    """The network; `side` is the height and width of the maps that enter the linear layers."""

    def __init__(
        self, normalize: Normalize, *, in_channels: int, n_classes: int, padding: int, side: int
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=padding)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, n_classes)

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = self.pool(functional.relu(self.conv1(self.normalize(images))))
        maps = self.pool(functional.relu(self.conv2(maps)))
        features = functional.relu(self.fc1(maps.flatten(1)))
        features = functional.relu(self.fc2(features))
        logits: Logits = self.fc3(features)
        return logits


@MODELS.register
class LeNet5(ImageModelSpec):
    """61,706 parameters for one channel of 28x28 pixels and 10 classes.

    Example:
        >>> LeNet5(mean=(0.5,), std=(0.25,)).normalize(1).std.item()
        0.25
    """

    kind: Literal["lenet5"] = "lenet5"
    padding: Annotated[int, Field(ge=0, le=256, strict=True)] = 2
    """Zeros around the image, in pixels: 2 makes LeCun's 32x32 of 28x28; 0 if it is 32x32."""

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network; something of the image must be left before the linear layers."""
        self.check_side(image_size, least=16 - 2 * self.padding)
        side = ((image_size + 2 * self.padding - 4) // 2 - 4) // 2
        return LeNet5Module(
            self.normalize(in_channels),
            in_channels=in_channels,
            n_classes=n_classes,
            padding=self.padding,
            side=side,
        )
