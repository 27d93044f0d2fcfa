"""SimpleNet: thirteen convolutions, each with a norm, and one linear layer.

Model:  with C the width, and | for a halving by 2x2 maxima:
        C, 2C, 2C, 2C | 2C, 2C, 4C | 4C, 4C | 8C | 1x1 32C, 1x1 4C | 4C, the maximum over what is
        left, linear. Images below 32 pixels drop 4C, 4C and the halving after them. Convolutions
        are 3x3 unless noted. The scale of a norm is 1 + a. Below width 32 some norms have fewer
        groups than in the source, see `count_groups`.
Source: Hasanpour et al., "Lets keep it simple, Using simple architectures to outperform deeper
        and more complex architectures", arXiv 1608.06037, as changed by Stutz et al., MLSys 2021;
        METHODS E.3.
"""

from typing import Literal

from torch import nn

from bitproof.core.errors import ModelError
from bitproof.models.base import MODELS, ImageModelSpec, Normalize, Width
from bitproof.models.norms import ScaledBatchNorm2d, ScaledGroupNorm
from bitproof.models.shapes import Images, Logits

Stage = tuple[tuple[int, int], ...]
"""Convolutions between two halvings: kernel, and channels in units of the width."""
Norm = Literal["group", "batch"]

STAGES: tuple[Stage, ...] = (
    ((3, 1), (3, 2), (3, 2), (3, 2)),
    ((3, 2), (3, 2), (3, 4)),
    ((3, 4), (3, 4)),  # images below 32 pixels are too small for this one
    ((3, 8),),
    ((1, 32), (1, 4)),
    ((3, 4),),
)


class SimpleNetModule(nn.Module):
    """The network; weights are drawn from normal distributions of variance 2 / fan-in."""

    def __init__(self, normalize: Normalize, features: nn.Sequential, logits: nn.Linear) -> None:
        super().__init__()
        self.normalize = normalize
        self.features = features
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.logits = logits
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, images: Images) -> Logits:
        """Return one logit per class."""
        maps = self.pool(self.features(self.normalize(images)))
        logits: Logits = self.logits(maps.flatten(1))
        return logits


@MODELS.register
class SimpleNet(ImageModelSpec):
    """5,498,378 parameters for colour images of 32x32 pixels and 10 classes.

    Example:
        >>> SimpleNet(width=8).norm
        'group'
    """

    kind: Literal["simplenet"] = "simplenet"
    width: Width = 64
    """Channels of the first convolution; 32 in the source for MNIST, 8 or 16 for a narrow one."""
    norm: Norm = "group"
    """Norm after each convolution: over groups of channels, or over the batch."""

    def assemble(self, *, in_channels: int, image_size: int, n_classes: int) -> nn.Module:
        """Return the network; something of the image must be left after four halvings."""
        self.check_side(image_size, least=16)
        stages = STAGES if image_size >= 32 else (*STAGES[:2], *STAGES[3:])
        layers: list[nn.Module] = []
        width = in_channels
        for index, stage in enumerate(stages):
            if index:
                layers.append(nn.MaxPool2d(2))
            for kernel, factor in stage:
                out_width = factor * self.width
                convolution = nn.Conv2d(width, out_width, kernel, padding=kernel // 2)
                layers += [convolution, self._norm_of(out_width, image_size >> index), nn.ReLU()]
                width = out_width
        return SimpleNetModule(
            self.normalize(in_channels), nn.Sequential(*layers), nn.Linear(width, n_classes)
        )

    def _norm_of(self, channels: int, side: int) -> nn.Module:
        if self.norm == "batch":
            return ScaledBatchNorm2d(channels)
        return ScaledGroupNorm(count_groups(channels, side**2), channels)


def count_groups(channels: int, pixels: int) -> int:
    """Return the first of 32, 24, 16, 8, at most half the channels, that divides them.

    Groups hold at least four values of an image: two would always become -1 and 1, so that no
    gradient could pass. No width from 32 on is changed by that.

    Raises:
        ModelError: there is none.

    Example:
        >>> [count_groups(channels, 64) for channels in (64, 48, 32, 8)]
        [32, 24, 16, 4]
        >>> count_groups(256, 1), count_groups(32, 1)
        (32, 8)
    """
    for wanted in (32, 24, 16, 8):
        groups = min(wanted, channels // 2, channels * pixels // 4)
        if groups and channels % groups == 0:
            return groups
    raise ModelError(
        f"simplenet: wanted a width whose {channels} channels can be grouped by 32, 24, 16, 8 or "
        f"in pairs; use another width or norm = 'batch'"
    )
