"""Whose statistics a batch norm uses and learns; norms that store their scale less one.

Model:  a scaled norm is y = (1 + a) x^ + b, with the parameter `a` starting at zero. A bound on
        every parameter, or weight decay, then pulls the scale towards 1; on a plain norm it would
        pull it to 0.
Source: Stutz et al., "Bit Error Robustness for Energy-Efficient DNN Accelerators", MLSys 2021
        (weight clipping); METHODS E.2.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitproof.models.shapes import Images, Scale


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms of `model`."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def running_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by the running statistics inside the block, and leave them alone."""
    norms = batch_norms(model)
    with _restoring("training", norms):
        for norm in norms:
            norm.eval()
        yield


def norm_statistics(model: nn.Module, norms: Iterable[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return a copy of the running mean and variance of batch norms, by path."""
    found = {}
    for path in norms:
        norm = model.get_submodule(path)
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        found[path] = (norm.running_mean.clone(), norm.running_var.clone())
    return found


@contextmanager
def earlier_statistics(
    model: nn.Module, statistics: Mapping[str, tuple[Tensor, Tensor]]
) -> Iterator[None]:
    """Normalise by running statistics inside the block, those of the norms named as they were."""
    with running_statistics(model):
        norms: list[tuple[Any, Tensor, Tensor]] = []
        for path, (mean, variance) in statistics.items():
            norm: Any = model.get_submodule(path)
            norms.append((norm, norm.running_mean, norm.running_var))
            norm.running_mean, norm.running_var = mean, variance
        try:
            yield
        finally:
            for norm, mean, variance in norms:
                norm.running_mean, norm.running_var = mean, variance


@contextmanager
def unlearned_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by the batch's own statistics inside the block, without learning them."""
    norms = batch_norms(model)
    with _restoring("track_running_stats", norms):
        for norm in norms:
            norm.track_running_stats = False  # a momentum of 0 would still count the batch
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the whole model into evaluation mode inside the block."""
    with _restoring("training", model.modules()):
        model.eval()
        yield


@contextmanager
def _restoring(name: str, modules: Iterable[nn.Module]) -> Iterator[None]:
    """Give the attribute `name` of every module back the value that it has now."""
    values = [(module, getattr(module, name)) for module in modules]
    try:
        yield
    finally:
        for module, value in values:
            setattr(module, name, value)


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
