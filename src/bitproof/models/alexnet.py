"""AlexNet: five convolutions, the first with large strides, and linear layers.

Model:  the one-column variant, without response normalisation and without the split over two
        GPUs. From 64 pixels on, the maps are averaged to 6x6 and enter linear layers of 4096, 4096
        and `n_classes`, with dropout. Smaller images enter with 5 zeros around them, are pooled in
        windows of 2x2, and go straight to one linear layer.
Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks",
        arXiv 1404.5997, 2014, with layer names of torchvision's `alexnet`, whose weights load as
        they are. The form for small images is the one of
        github.com/bearpaw/pytorch-classification (2.47 million parameters on CIFAR-10).
"""

from typing import Literal

from torch import nn

from bitproof.models.base import LARGE, MODELS, ImageModelSpec, Width
from bitproof.models.stacked import StackedModule, average_to


@MODELS.register
class AlexNet(ImageModelSpec):
    """2,472,266 parameters for colour images of 32x32 pixels and 10 classes.

    Example:
        >>> AlexNet(mean=(0.5,), std=(0.25,)).normalize(1).std.item()
        0.25
    """

    kind: Literal["alexnet"] = "alexnet"
    width: Width = 64
    """Channels of the first convolution; 64 in the source, 16 for a narrow one."""

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network; of smaller images than 29x29, nothing would be left at its end."""
        normalize = self.normalize(in_channels)
        if image_size >= LARGE:
            return StackedModule(
                normalize,
                make_features(in_channels, padding=2, window=3, width=self.width),
                average_to(6, side=large_side(image_size)),
                nn.Sequential(
                    *[nn.Dropout(), nn.Linear(4 * self.width * 6 * 6, 4096), nn.ReLU()],
                    *[nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()],
                    nn.Linear(4096, n_classes),
                ),
            )
        self.check_side(image_size, least=29)
        side = ((image_size - 1) // 4 + 1) // 8
        return StackedModule(
            normalize,
            make_features(in_channels, padding=5, window=2, width=self.width),
            nn.Identity(),
            nn.Linear(4 * self.width * side * side, n_classes),
        )


def make_features(in_channels: int, *, padding: int, window: int, width: int) -> nn.Sequential:
    """Return the convolutions; `padding` is the first one's, `window` is pooled in steps of 2."""
    return nn.Sequential(
        *[nn.Conv2d(in_channels, width, 11, stride=4, padding=padding), nn.ReLU()],
        nn.MaxPool2d(window, stride=2),
        *[nn.Conv2d(width, 3 * width, 5, padding=2), nn.ReLU()],
        nn.MaxPool2d(window, stride=2),
        *[nn.Conv2d(3 * width, 6 * width, 3, padding=1), nn.ReLU()],
        *[nn.Conv2d(6 * width, 4 * width, 3, padding=1), nn.ReLU()],
        *[nn.Conv2d(4 * width, 4 * width, 3, padding=1), nn.ReLU()],
        nn.MaxPool2d(window, stride=2),
    )


def large_side(image_size: int) -> int:
    """Return the height and width of the maps that a large image becomes.

    Example:
        >>> large_side(64), large_side(224)
        (1, 6)
    """
    side = (image_size - 7) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side
