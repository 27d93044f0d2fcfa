"""Processes that train one network together, each on a part of every batch.

Model:  every process holds all weights and all data, takes every n-th image of the same augmented
        batch, and adds up gradients; batch norms see the statistics of the whole batch. The
        result is that of one process with the same batch, up to the order of float additions. In
        stages, each process draws the noise on its own images, and a clamp of the faulty branch's
        gradient acts on each part of it; faults in weights are the same for all.
Source: Goyal et al., "Accurate, Large Minibatch SGD", arXiv 1706.02677, section 3.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitproof.models.norms import batch_norms

PATIENCE = timedelta(days=7)
"""How long a process waits for another: as long as one of them may measure or write alone."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes, as one of them sees them.

    Example:
        >>> ProcessGroup().is_main
        True
    """

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """How many there are."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def wait(self) -> None:
        """Return once every process has come here."""
        if self.size > 1:
            dist.barrier()

    def agree(self, answer: bool) -> bool:
        """Return the leader's answer, in every process."""
        if self.size == 1:
            return answer
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        shared = torch.tensor([float(answer)], device=device)
        dist.broadcast(shared, src=0)
        return bool(shared.item())

    def mean(self, value: Tensor, *, weight: float) -> Tensor:
        """Return the weighted sum of a scalar over all processes, whose weights sum to 1."""
        if self.size == 1:
            return value
        total = value * weight
        self.add_([total])
        return total

    def add_(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors, as many of the same shapes in every process, by their sums, in place."""
        parts = list(tensors)
        if self.size == 1 or not parts:
            return
        flat = torch.cat([part.detach().flatten() for part in parts])
        dist.all_reduce(flat)
        sizes = [part.numel() for part in parts]
        for part, summed in zip(parts, torch.split(flat, sizes), strict=True):
            part.detach().copy_(summed.view(part.shape))


SINGLE_PROCESS = ProcessGroup()


def is_main_process() -> bool:
    """Return whether `torchrun`, if it started this process, started it as the leader."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined_group(device: str = "auto") -> Iterator[ProcessGroup]:
    """Join the processes that `torchrun` started, for as long as the block runs.

    Without `torchrun` this process is alone. With it, GPUs are dealt out by `LOCAL_RANK`.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield SINGLE_PROCESS
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield ProcessGroup(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


@contextmanager
def shared_statistics(model: nn.Module, group: ProcessGroup) -> Iterator[None]:
    """Let the batch norms of `model` share statistics inside the block.

    torch's own `SyncBatchNorm` does the same, but on GPUs only.
    """
    norms = batch_norms(model) if group.size > 1 else []
    for norm in norms:
        norm.forward = partial(_normalise, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


class _SumOverGroup(torch.autograd.Function):
    """The sum of a tensor over all processes, whose gradient is summed over them as well."""

    @staticmethod
    def forward(_context: object, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return _SumOverGroup.forward(context, gradient)


def _normalise(norm: _BatchNorm, inputs: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, inputs)
    axes = [0, *range(2, inputs.ndim)]
    shape = [1, -1] + [1] * (inputs.ndim - 2)
    values = inputs.float()
    n = torch.tensor([float(inputs.numel() // inputs.shape[1])], device=inputs.device)
    sums: Tensor = _SumOverGroup.apply(torch.cat([values.sum(axes), n]))  # type: ignore[no-untyped-call]
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centered = values - mean.reshape(shape)
    squares: Tensor = _SumOverGroup.apply(centered.square().sum(axes))  # type: ignore[no-untyped-call]
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
