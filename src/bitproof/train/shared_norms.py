"""Batch norms that see the whole batch when several processes share it.

torch's own `SyncBatchNorm` does the same, but on GPUs only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from bitproof.models.norms import batch_norms
from bitproof.train.process_group import ProcessGroup, SumOverGroup


@contextmanager
def shared_statistics(model: nn.Module, group: ProcessGroup) -> Iterator[None]:
    """Let the batch norms of `model` share statistics inside the block."""
    norms = batch_norms(model) if group.size > 1 else []
    for norm in norms:
        norm.forward = partial(_normalise, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalise(norm: _BatchNorm, inputs: Tensor) -> Tensor:
    if not norm.training:
        return batch_norm(
            inputs,
            norm.running_mean,
            norm.running_var,
            norm.weight,
            norm.bias,
            training=False,
            eps=norm.eps,
        )
    axes = [0, *range(2, inputs.ndim)]
    shape = [1, -1] + [1] * (inputs.ndim - 2)
    values = inputs.float()
    n = torch.tensor([float(inputs.numel() // inputs.shape[1])], device=inputs.device)
    sums: Tensor = SumOverGroup.apply(torch.cat([values.sum(axes), n]))  # type: ignore[no-untyped-call]
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centered = values - mean.reshape(shape)
    squares: Tensor = SumOverGroup.apply(centered.square().sum(axes))  # type: ignore[no-untyped-call]
    variance = squares / count
    _learn(norm, mean.detach(), variance.detach() * count / (count - 1))
    normal = centered * torch.rsqrt(variance + norm.eps).reshape(shape)
    if norm.affine:
        normal = normal * norm.weight.reshape(shape) + norm.bias.reshape(shape)
    return normal.to(inputs.dtype)


def _learn(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Take statistics into the running ones, as torch does."""
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance, share)
