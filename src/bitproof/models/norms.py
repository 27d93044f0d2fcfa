"""Whose statistics a batch norm uses and learns in one forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms of `model`."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def running_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by the running statistics inside the block, and leave them alone."""
    norms = [(norm, norm.training) for norm in batch_norms(model)]
    for norm, _ in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm, training in norms:
            norm.train(training)


@contextmanager
def unlearned_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by the batch's own statistics inside the block, without learning them."""
    norms = [(norm, norm.track_running_stats) for norm in batch_norms(model)]
    for norm, _ in norms:
        norm.track_running_stats = False  # a momentum of 0 would still count the batch
    try:
        yield
    finally:
        for norm, tracks in norms:
            norm.track_running_stats = tracks


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the whole model into evaluation mode inside the block."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
