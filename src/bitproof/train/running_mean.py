"""A running mean of a network's weights, which generalises better than the last of them.

Model:  `m <- d m + (1 - d) w` after every step, with `d = min(decay, (1 + t) / (10 + t))`, so that
        the start is forgotten soon. Buffers of floats (norm statistics) are averaged likewise.
Source: Polyak and Juditsky, SIAM J. Control 30(4), 1992; the rising decay is TensorFlow's.
"""

import torch
from torch import Tensor, nn


class RunningMean:
    """The mean, beside the network that moves.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> mean = RunningMean(model, decay=0.5)
        >>> _ = model.weight.data.fill_(3.0)
        >>> for step in range(100):
        ...     mean.follow(model, step)
        >>> mean.install_(model)
        >>> round(model.weight.item(), 3)
        3.0
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.means = [value.clone() for value in _values(model)]

    @torch.no_grad()
    def follow(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step number `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.means, _values(model), 1 - decay)

    @torch.no_grad()
    def install_(self, model: nn.Module) -> None:
        """Give the mean to `model`, in place."""
        for value, mean in zip(_values(model), self.means, strict=True):
            value.copy_(mean)


def _values(model: nn.Module) -> list[Tensor]:
    values = [*model.parameters(), *model.buffers()]
    return [value.detach() for value in values if value.is_floating_point()]
