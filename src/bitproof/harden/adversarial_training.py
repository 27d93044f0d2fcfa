"""Training on images that an adversary moves at every step, and the same without one beside it.

Model:  `vanilla`: L = CE(f(x), y). `pgd_at`: L = CE(f(x'), y) with x' from projected ascent on the
        cross-entropy. `trades`: L = CE(f(x), y) + beta KL(f(x) | f(x')) with x' from ascent on the
        divergence itself. All train all weights in float32, from random or given weights, and see
        the network through the attacker's eyes in evaluation mode.
Source: Madry et al., ICLR 2018 (`pgd_at`); Zhang et al., "Theoretically Principled Trade-off
        between Robustness and Accuracy", ICML 2019, equation 5 and algorithm 1 (`trades`; here x'
        starts anywhere in the ball, there next to x). METHODS D.2 for the sweep of weight decay
        that compares them: Fasfous et al., "Mind the Scaling Factors", DATE 2022.
"""

from abc import abstractmethod
from copy import deepcopy
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from bitproof.core.types import Count, NonNegative, Positive
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.harden.perturbation import divergence, perturbed, perturbed_off_answers
from bitproof.train.batches import Batch
from bitproof.train.optimization import Optimization

FROM_SCRATCH = Optimization(
    epochs=30, learning_rate=0.1, schedule="multi_step", milestones=(0.5, 0.75)
)
"""How weights move, if nothing is said."""


class TrainingStage(HardeningStage):
    """A stage that trains all weights on one loss; a subclass says on which."""

    trains_from_scratch: ClassVar[bool] = True

    optimization: Optimization = FROM_SCRATCH
    """How weights move; its `weight_decay` is the remedy of METHODS D."""

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with trained float weights."""
        model = deepcopy(candidate.model)
        history = self.fine_tune_(
            model,
            context,
            optimization=self.optimization,
            loss=lambda batch: self.loss(model, batch),
            label=self.kind.replace("_", " "),
        )
        return replace(candidate, model=model).with_record(self.kind, loss=history)

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of one step."""


@HARDEN.register
class Vanilla(TrainingStage):
    """Train on clean images: what adversarial training is compared with.

    Example:
        >>> Vanilla().optimization.learning_rate
        0.1
    """

    kind: Literal["vanilla"] = "vanilla"

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of clean images."""
        return batch.error(model(batch.inputs))


@HARDEN.register
class PGDAT(TrainingStage):
    """Train on images that projected gradient ascent has moved.

    Example:
        >>> PGDAT(epsilon=2 / 255).steps
        7
    """

    kind: Literal["pgd_at"] = "pgd_at"
    epsilon: Positive = 8 / 255
    """Radius of the L-infinity ball, input units."""
    relative_step: Positive = 0.25
    """Length of one step, in units of `epsilon`."""
    steps: Count = 7
    """Gradient evaluations for x'."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of moved images."""
        moved = perturbed(
            model,
            batch,
            epsilon=self.epsilon,
            relative_step=self.relative_step,
            steps=self.steps,
        )
        return batch.error(model(moved))


@HARDEN.register
class TRADES(TrainingStage):
    """Train on clean images, and hold the answers to moved ones close to those.

    Example:
        >>> TRADES(beta=1.0).steps
        10
    """

    kind: Literal["trades"] = "trades"
    epsilon: Positive = 8 / 255
    """Radius of the L-infinity ball, input units."""
    relative_step: Positive = 0.25
    """Length of one step, in units of `epsilon`."""
    steps: Count = 10
    """Gradient evaluations for x'."""
    beta: NonNegative = 6.0
    """Weight of the divergence."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return cross-entropy and divergence; both halves share one batch, and so batch norms."""
        moved = perturbed_off_answers(
            model,
            batch,
            epsilon=self.epsilon,
            relative_step=self.relative_step,
            steps=self.steps,
        )
        clean, faulty = model(torch.cat([batch.inputs, moved])).chunk(2)
        return batch.error(clean) + self.beta * divergence(faulty, clean)
