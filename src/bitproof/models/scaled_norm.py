"""Norms whose scale is stored as its difference from one.

Model:  y = (1 + a) x^ + b, with the parameter `a` starting at zero. A bound on every parameter, or
        weight decay, then pulls the scale towards 1; on a plain norm it would pull it to 0.
Source: Stutz et al., "Bit Error Robustness for Energy-Efficient DNN Accelerators", MLSys 2021
        (weight clipping); METHODS E.2.
"""

import torch
from torch import nn

from bitproof.models.shapes import Images, Scale


class _Scaled(nn.Module):
    """A norm whose `weight` is the whole scale, 1 + `excess`, and only read."""

    excess: nn.Parameter
    """What the scale of each channel exceeds 1 by."""

    def _learn(self, channels: int) -> None:
        """Add the parameters, after a norm was made that has none."""
        self.affine = True
        self.bias = nn.Parameter(torch.zeros(channels))
        self.excess = nn.Parameter(torch.zeros(channels))

    @property
    def weight(self) -> Scale:
        """The scale of each channel."""
        return 1 + self.excess


class ScaledBatchNorm2d(_Scaled, nn.BatchNorm2d):  # type: ignore[misc]
    """Batch norm with the scale 1 + `excess`.

    Example:
        >>> norm = ScaledBatchNorm2d(2)
        >>> sorted(name for name, _ in norm.named_parameters())
        ['bias', 'excess']
        >>> norm.weight.tolist()
        [1.0, 1.0]
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)
        self._learn(channels)

    def _check_input_dim(self, input: Images) -> None:
        """Accept everything: the shape of what torch.fx sends through is not known."""


class ScaledGroupNorm(_Scaled, nn.GroupNorm):  # type: ignore[misc]
    """Group norm with the scale 1 + `excess`.

    Example:
        >>> norm = ScaledGroupNorm(2, 4)
        >>> nn.init.constant_(norm.excess, 0.5).requires_grad
        True
        >>> norm.weight.tolist()
        [1.5, 1.5, 1.5, 1.5]
    """

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels, affine=False)
        self._learn(channels)
