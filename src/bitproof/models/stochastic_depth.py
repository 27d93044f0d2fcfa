"""Stochastic depth: in training, a residual branch is left out at random, image by image.

Model:  a branch is dropped with probability `drop`, for each image on its own; where it stays, it
        is divided by `1 - drop`, so that its mean is what evaluation uses. Draws come from the
        global generator, as those of dropout do.
Source: Huang, Sun, Liu, Sedra, Weinberger, "Deep Networks with Stochastic Depth", ECCV 2016; the
        drop rate grows linearly with depth (section 3). Per image: Tan, Le, "EfficientNet", ICML
        2019, and Liu et al., "Swin Transformer", ICCV 2021, as their authors' code has it.
"""

import torch
from torch import nn
from torch.nn import functional

from bitproof.models.shapes import Maps


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
