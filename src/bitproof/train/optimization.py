"""How weights move: optimizer, schedule, batches."""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from bitproof.core.spec import Spec
from bitproof.core.types import Count, NonNegative, Positive, Probability


class Optimization(Spec):
    """One run of stochastic gradient descent."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """`sgd` with momentum, or `adamw`."""
    epochs: Count = 20
    """Passes over the training images."""
    batch_size: Count = 128
    """Images per step."""
    learning_rate: Positive = 0.01
    """Peak step length."""
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    """`cosine` falls to 0; `one_cycle` rises over `warmup`, then falls as cosine does."""
    warmup: Probability = 0.2
    """Share of the steps that the rate rises over, for `one_cycle`."""
    momentum: Probability = 0.9
    """Momentum of `sgd`."""
    nesterov: bool = False
    """Nesterov's form of momentum, for `sgd`."""
    weight_decay: NonNegative = 5e-4
    """L2 penalty (`sgd`), or decoupled decay (`adamw`)."""
    max_norm: Positive | None = None
    """Bound on the norm of the whole gradient; None: no bound."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of forward and backward passes; weights and their updates stay float32."""
    images_per_epoch: Count | None = None
    """Train each epoch on that many images, drawn anew; None: all."""

    @model_validator(mode="after")
    def _check_momentum(self) -> "Optimization":
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("nesterov: wanted a momentum above 0 with it, got 0")
        return self

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
        """
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "one_cycle" and done < self.warmup:
            return self.learning_rate * (0.1 + 0.9 * done / self.warmup)
        start = self.warmup if self.schedule == "one_cycle" else 0.0
        fallen = (done - start) / (1 - start)
        return self.learning_rate * (1 + math.cos(math.pi * fallen)) / 2
