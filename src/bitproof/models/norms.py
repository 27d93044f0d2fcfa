"""Whose statistics a batch norm uses and learns in one forward pass."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


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
