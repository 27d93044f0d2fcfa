"""Swin-Tiny: a transformer whose attention stays within windows, shifted every second layer.

Model:  the published network with patches of 4 pixels and windows of 7 tokens. For images of fewer
        than 64 pixels, patches of 2 and windows of 4: 32x32 images are maps of 16, 8, 4 and 2
        tokens a side. A window never exceeds its map, and is not shifted where it fills it, as in
        the authors' code (torchvision pads the map instead).
Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
        ICCV 2021, section 3; initial weights from the authors' code. Patch and window for small
        images: Lee, Lee, Song, "Vision Transformer for Small-Size Datasets", arXiv:2112.13492 (its
        code, whose Swin is narrower; widths and depths here are Swin-T's). Names and shapes of
        the layers are torchvision's.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from bitproof.core.errors import ModelError
from bitproof.core.types import Index, Probability
from bitproof.models.base import LARGE, MODELS, ImageModelSpec, Normalize
from bitproof.models.blocks import StochasticDepth
from bitproof.models.shapes import Images, Logits, Maps
from bitproof.models.window_attention import WindowAttention

STAGES = ((2, 3), (2, 6), (6, 12), (2, 24))
"""Blocks, an even number, and heads of each stage."""


class Permute(nn.Module):
    """Reorder the axes."""

    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, images: Images) -> Maps:
        """Return the permuted maps."""
        return images.permute(self.dims)


class PatchMerging(nn.Module):
    """Join each 2x2 neighbours to one token of twice the width; `side` is that of the input."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.odd = side % 2
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, images: Maps) -> Maps:
        """Return maps of half the size; behind an odd side, zeros stand in."""
        maps = functional.pad(images, (0, 0, 0, self.odd, 0, self.odd)) if self.odd else images
        corners = [maps[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged: Maps = self.reduction(self.norm(torch.cat(corners, dim=-1)))
        return merged


class SwinBlock(nn.Module):
    """Attention and two linear layers, each normalised before and added to its input."""

    def __init__(
        self, width: int, heads: int, *, side: int, window: int, shift: int, drop: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, side=side, window=window, shift=shift)
        self.stochastic_depth = StochasticDepth(drop)
        self.norm2 = nn.LayerNorm(width)
        # torchvision has a dropout of rate zero in place of the identity.
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width)
        )

    def forward(self, images: Maps) -> Maps:
        """Return the maps of the block."""
        mixed: Maps = self.attn(self.norm1(images))
        maps: Maps = images + self.stochastic_depth(mixed)
        fed: Maps = self.stochastic_depth(self.mlp(self.norm2(maps)))
        return maps + fed


class SwinModule(nn.Module):
    """The network: patches and four stages in `features`, then norm, mean and a linear layer."""

    def __init__(
        self, normalize: Normalize, features: nn.Sequential, *, width: int, n_classes: int
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.features = features
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = self.norm(self.features(self.normalize(images)))
        logits: Logits = self.head(maps.mean((1, 2)))
        return logits


@MODELS.register
class SwinTiny(ImageModelSpec):
    """28,288,354 parameters for colour images of 224x224 and 1000 classes.

    Example:
        >>> SwinTiny(patch=4, window=4).window
        4
    """

    kind: Literal["swin_tiny"] = "swin_tiny"
    patch: Index = 0
    """Side of a patch, in pixels. 0: 4, or 2 for images of fewer than 64 pixels."""
    window: Index = 0
    """Side of a window, in tokens. 0: 7, or 4 for images of fewer than 64 pixels."""
    width: Annotated[int, Field(ge=3, le=768, multiple_of=3, strict=True)] = 96
    """Channels of the first stage, a multiple of 3; each further stage has twice as many."""
    stochastic_depth: Probability = 0.2
    """Drop rate of residual branches in training: 0 for the first block, this for the last."""

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network; patches must tile the image."""
        large = image_size >= LARGE
        patch = self.patch or (4 if large else 2)
        if image_size % patch:
            raise ModelError(
                f"swin_tiny: wanted images whose side is a multiple of the patch ({patch} pixels), "
                f"got {image_size}"
            )
        width, side = self.width, image_size // patch
        window = self.window or (7 if large else 4)
        tokens = nn.Conv2d(in_channels, width, patch, stride=patch)
        layers: list[nn.Module] = [nn.Sequential(tokens, Permute(0, 2, 3, 1), nn.LayerNorm(width))]
        total = sum(n_blocks for n_blocks, _ in STAGES)
        drops = iter([self.stochastic_depth * index / (total - 1) for index in range(total)])
        for stage, (n_blocks, heads) in enumerate(STAGES):
            if stage:
                layers.append(PatchMerging(width, side))
                width, side = 2 * width, -(-side // 2)
            fitting = min(window, side)
            shifts = (0, 0 if fitting == side else fitting // 2)
            blocks = [
                SwinBlock(width, heads, side=side, window=fitting, shift=shift, drop=next(drops))
                for shift in shifts * (n_blocks // 2)
            ]
            layers.append(nn.Sequential(*blocks))
        return SwinModule(
            self.normalize(in_channels), nn.Sequential(*layers), width=width, n_classes=n_classes
        )
