"""What residual networks share: the basic block, its two shortcuts, and stochastic depth.

Model:  in training, stochastic depth drops a branch with probability `drop`, for each image on its
        own; where it stays, it is divided by `1 - drop`, so that its mean is what evaluation
        uses. Draws come from the global generator, as those of dropout do.
Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
        sections 3.3 (shortcut options A and B) and 3.4 (initialisation); Huang, Sun, Liu, Sedra,
        Weinberger, "Deep Networks with Stochastic Depth", ECCV 2016; per image: Tan, Le,
        "EfficientNet", ICML 2019, and Liu et al., "Swin Transformer", ICCV 2021, as their code.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from bitproof.models.shapes import Images, Maps

Shortcut = Callable[[int, int], nn.Module]
"""Builds the shortcut of a block that halves the maps, from its input and output channels."""


class PadShortcut(nn.Module):
    """Option A: every second pixel, zeros for the new channels, half of them on each side.

    Example:
        >>> PadShortcut(16, 32)(torch.ones(1, 16, 8, 8)).sum(dim=(2, 3)).count_nonzero()
        tensor(16)
    """

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.before = (out_width - in_width) // 2
        self.after = out_width - in_width - self.before

    def forward(self, images: Images) -> Maps:
        """Return the maps at half the size, with the new channels zero."""
        return functional.pad(images[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


def project_shortcut(in_width: int, out_width: int) -> nn.Sequential:
    """Return option B: a 1x1 convolution of stride 2 with batch norm."""
    return nn.Sequential(
        nn.Conv2d(in_width, out_width, 1, stride=2, bias=False), nn.BatchNorm2d(out_width)
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to their input or to its shortcut."""

    def __init__(self, in_width: int, out_width: int, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        stride = 1 if shortcut is None else 2
        self.conv1 = nn.Conv2d(in_width, out_width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_width)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_width)
        self.downsample = shortcut

    def forward(self, images: Images) -> Maps:
        """Return relu(shortcut + branch)."""
        branch = functional.relu(self.bn1(self.conv1(images)))
        branch = self.bn2(self.conv2(branch))
        shortcut = images if self.downsample is None else self.downsample(images)
        return functional.relu(branch + shortcut)


def make_stage(
    in_width: int, out_width: int, n_blocks: int, *, shortcut: Shortcut
) -> nn.Sequential:
    """Return `n_blocks` blocks; where the width grows, the first of them halves the maps."""
    halving = shortcut(in_width, out_width) if in_width != out_width else None
    rest = [BasicBlock(out_width, out_width) for _ in range(n_blocks - 1)]
    return nn.Sequential(BasicBlock(in_width, out_width, halving), *rest)


def initialise_he_(network: nn.Module) -> None:
    """Draw every convolution from a normal distribution of variance 2 / fan-in."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


class StochasticDepth(nn.Module):
    """Drop the maps of some images, in training; pass everything in evaluation.

    Example:
        >>> layer = StochasticDepth(0.5).eval()
        >>> layer(torch.ones(1, 1, 1, 2))
        tensor([[[[1., 1.]]]])
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def extra_repr(self) -> str:
        """Return the drop rate."""
        return f"drop={self.drop:g}"

    def forward(self, images: Maps) -> Maps:
        """Return the branch, zero for some images."""
        if not self.training or self.drop == 0:
            return images
        kept = functional.dropout(torch.ones_like(images[:, :1, :1, :1]), self.drop, training=True)
        return images * kept
