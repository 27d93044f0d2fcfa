"""How weights move: optimizer, schedule, batches, and what is done to gradients and weights.

Model:  `sam`: the gradient that the optimizer applies at `w` is that at `w + rho g / |g|`, with the
        norm over all weights together. `ema`: `m <- d m + (1 - d) w` after every step, with
        `d = min(decay, (1 + t) / (10 + t))`, so that the start is forgotten soon; buffers of floats
        (norm statistics) are averaged likewise.
Source: Foret et al., "Sharpness-Aware Minimization", ICLR 2021, equation 2 and algorithm 1 (`sam`);
        Polyak and Juditsky, SIAM J. Control 30(4), 1992, with TensorFlow's rising decay (`ema`);
        Szegedy et al., CVPR 2016 (`label_smoothing`).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bitproof.core.errors import shorten
from bitproof.core.spec import Spec
from bitproof.core.types import (
    BatchSize,
    Count,
    LearningRate,
    NonNegative,
    Positive,
    Probability,
    Rounds,
    Share,
)


class Optimization(Spec):
    """One run of stochastic gradient descent."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """`sgd` with momentum, or `adamw`."""
    epochs: Rounds = 20
    """Passes over the training images."""
    batch_size: BatchSize = 128
    """Images per step, over all processes together."""
    learning_rate: LearningRate = 0.01
    """Peak step length."""
    schedule: Literal["cosine", "one_cycle", "cyclic", "multi_step", "constant"] = "cosine"
    """`cosine` falls to 0; `one_cycle` rises over `warmup`, then falls as cosine does; `cyclic`
    rises from 0 over `warmup` and falls to 0 in straight lines;
    `multi_step` is multiplied by `factor` at each of `milestones`."""
    warmup: Probability = 0.2
    """Share of the steps that the rate rises over, for `one_cycle` and `cyclic`."""
    milestones: tuple[Share, ...] = (0.4, 0.6, 0.8)
    """Shares of the steps after which the rate falls, for `multi_step`, rising."""
    factor: Share = 0.1
    """What the rate is multiplied by there."""
    momentum: Probability = 0.9
    """Momentum of `sgd`."""
    nesterov: bool = False
    """Nesterov's form of momentum, for `sgd`."""
    weight_decay: NonNegative = 5e-4
    """L2 penalty (`sgd`), or decoupled decay (`adamw`)."""
    max_norm: Positive | None = None
    """Bound on the norm of the whole gradient; None: no bound."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of each label that is spread over all classes."""
    sam: NonNegative = 0.0
    """Sharpness-aware steps: take the gradient this far uphill (norm, weight units), at twice the
    time; 0: plain steps."""
    ema: Share | None = None
    """Decay per step of a running mean of the weights, which training ends with; None: end with
    the last weights."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of forward and backward passes; weights and their updates stay float32."""
    compiled: bool = False
    """Compile forward and backward passes, for plain training only; costs up to a minute before
    the first step, and needs a C++ compiler on CPU."""
    images_per_epoch: Count | None = None
    """Train each epoch on that many images, drawn anew; None: all."""

    @model_validator(mode="after")
    def _check_momentum(self) -> "Optimization":
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("nesterov: wanted a momentum above 0 with it, got 0")
        if any(late <= early for early, late in pairwise(self.milestones)):
            raise ValueError(
                f"milestones: wanted rising shares, got {shorten(list(self.milestones))}"
            )
        return self

    def trained_images(self, images: int) -> int:
        """Return how often a training image is differentiated, of a set of so many.

        Example:
            >>> Optimization(epochs=3, sam=0.1).trained_images(100)
            600
        """
        each = min(images, self.images_per_epoch or images)
        return self.epochs * each * (2 if self.sam else 1)

    def build(self, weights: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer of `weights`."""
        if self.optimizer == "adamw":
            return torch.optim.AdamW(weights, lr=self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            weights,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )

    def rate(self, done: float) -> float:
        """Return the learning rate when the fraction `done` of the steps lies behind.

        Example:
            >>> Optimization(learning_rate=0.1).rate(0.5)
            0.05
            >>> Optimization(learning_rate=0.5, schedule="multi_step", factor=0.5).rate(0.6)
            0.125
        """
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "multi_step":
            return self.learning_rate * self.factor ** sum(done >= at for at in self.milestones)
        if self.schedule == "cyclic":
            rising = done < self.warmup
            part = done / self.warmup if rising else (1 - done) / max(1 - self.warmup, 1e-12)
            return self.learning_rate * part
        if self.schedule == "one_cycle" and done < self.warmup:
            return self.learning_rate * (0.1 + 0.9 * done / self.warmup)
        start = self.warmup if self.schedule == "one_cycle" else 0.0
        fallen = (done - start) / (1 - start)
        return self.learning_rate * (1 + math.cos(math.pi * fallen)) / 2


@contextmanager
def sam_perturbation(weights: Sequence[Tensor], rho: float) -> Iterator[None]:
    """Move `weights` along their gradients by `rho` for the block, then put them back exactly.

    Example:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> with sam_perturbation([weight], 0.5):
        ...     print(weight.detach())
        tensor([0.3000, 0.4000])
        >>> weight.detach()
        tensor([0., 0.])
    """
    moved = [weight for weight in weights if weight.grad is not None]
    before = [weight.detach().clone() for weight in moved]
    with torch.no_grad():
        gradients = [weight.grad for weight in moved if weight.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm().clamp(min=1e-12)
        for weight, gradient in zip(moved, gradients, strict=True):
            weight.add_(gradient * (rho / norm))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(moved, before, strict=True):
                weight.copy_(value)


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
