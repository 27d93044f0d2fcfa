"""Norms whose scale is stored as its difference from one.

Model:  y = (1 + a) x^ + b, with the parameter `a` starting at zero. A bound on every parameter, or
        weight decay, then pulls the scale towards 1; on a plain norm it would pull it to 0.
Source: Stutz et al., "Bit Error Robustness for Energy-Efficient DNN Accelerators", MLSys 2021
        (weight clipping); METHODS E.2.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bitproof.models.shapes import Images

if TYPE_CHECKING:
    Scale = Tensor
else:
    Scale = Tensor | Proxy
    """One factor per channel; a stand-in while torch.fx traces."""


class ScaledBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the scale 1 + `excess`; `weight` is the whole scale, and only read.

    Example:
        >>> norm = ScaledBatchNorm2d(2)
        >>> sorted(name for name, _ in norm.named_parameters())
        ['bias', 'excess']
        >>> norm.weight.tolist()
        [1.0, 1.0]
    """

    excess: nn.Parameter
    """What the scale of each channel exceeds 1 by."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)
        self.affine = True
        self.bias = nn.Parameter(torch.zeros(channels))
        self.excess = nn.Parameter(torch.zeros(channels))

    @property
    def weight(self) -> Scale:  # type: ignore[override]
        """The scale of each channel."""
        return 1 + self.excess

    def _check_input_dim(self, input: Images) -> None:
        """Accept everything: the shape of what torch.fx sends through is not known."""


class ScaledGroupNorm(nn.GroupNorm):
    """Group norm with the scale 1 + `excess`; `weight` is the whole scale, and only read.

    Example:
        >>> norm = ScaledGroupNorm(2, 4)
        >>> nn.init.constant_(norm.excess, 0.5).requires_grad
        True
        >>> norm.weight.tolist()
        [1.5, 1.5, 1.5, 1.5]
    """

    excess: nn.Parameter
    """What the scale of each channel exceeds 1 by."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels, affine=False)
        self.affine = True
        self.bias = nn.Parameter(torch.zeros(channels))
        self.excess = nn.Parameter(torch.zeros(channels))

    @property
    def weight(self) -> Scale:  # type: ignore[override]
        """The scale of each channel."""
        return 1 + self.excess
