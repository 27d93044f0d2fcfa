"""Training on images that an adversary moves at every step, and the same without one beside it.

Model:  `vanilla`: L = CE(f(x), y). `pgd_at`: L = CE(f(x'), y) with x' from projected ascent on the
        cross-entropy. `trades`: L = CE(f(x), y) + beta KL(f(x) | f(x')) with x' from ascent on the
        divergence itself. All train all weights in float32, from random or given weights; the
        attacker sees the network in evaluation mode.
Source: Madry et al., ICLR 2018 (`pgd_at`); Zhang et al., "Theoretically Principled Trade-off
        between Robustness and Accuracy", ICML 2019, equation 5 and algorithm 1 (`trades`; here x'
        starts anywhere in the ball, there next to x). METHODS D.2 for the sweep of weight decay
        that compares them: Fasfous et al., "Mind the Scaling Factors", DATE 2022.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from bitproof.core.passes import STEP, Passes
from bitproof.core.types import NonNegative, Positive, Rounds
from bitproof.harden.base import HARDEN
from bitproof.harden.perturbation import divergence, perturbed, perturbed_off_answers
from bitproof.harden.training_stage import LossStage
from bitproof.train.batches import Batch


@HARDEN.register
class Vanilla(LossStage):
    """Train on clean images: what adversarial training is compared with.

    Example:
        >>> Vanilla().optimization.learning_rate
        0.1
    """

    kind: Literal["vanilla"] = "vanilla"

    @property
    def step_passes(self) -> Passes:
        """Return one gradient."""
        return STEP

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of clean images."""
        return batch.error(model(batch.inputs))


class AscentStage(LossStage):
    """A stage on images that an adversary of several steps moves."""

    epsilon: Positive = 8 / 255
    """Radius of the L-infinity ball, input units."""
    relative_step: Positive = 0.25
    """Length of one step, in units of `epsilon`."""
    steps: Rounds = 7
    """Gradient evaluations for x'."""

    @property
    def step_passes(self) -> Passes:
        """Return the gradients for x', and one of the loss."""
        return (self.steps + 1) * STEP

    def moved(self, climb: Callable[..., Tensor], model: nn.Module, batch: Batch) -> Tensor:
        """Return x' as `perturbed` or `perturbed_off_answers` make it."""
        return climb(
            model,
            batch,
            epsilon=self.epsilon,
            relative_step=self.relative_step,
            steps=self.steps,
        )


@HARDEN.register
class PGDAT(AscentStage):
    """Train on images that projected gradient ascent has moved.

    Example:
        >>> PGDAT(epsilon=2 / 255).steps
        7
    """

    kind: Literal["pgd_at"] = "pgd_at"

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of moved images."""
        return batch.error(model(self.moved(perturbed, model, batch)))


@HARDEN.register
class TRADES(AscentStage):
    """Train on clean images, and hold the answers to moved ones close to those.

    Example:
        >>> TRADES(beta=1.0).steps
        10
    """

    kind: Literal["trades"] = "trades"
    steps: Rounds = 10
    """Gradient evaluations for x'."""
    beta: NonNegative = 6.0
    """Weight of the divergence."""

    @property
    def step_passes(self) -> Passes:
        """Return the gradients for x', the answers that it leaves, and two of the loss."""
        return (self.steps + 2) * STEP + Passes(1)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return cross-entropy and divergence; both halves share one batch, and so batch norms."""
        moved = self.moved(perturbed_off_answers, model, batch)
        clean, faulty = model(torch.cat([batch.inputs, moved])).chunk(2)
        return batch.error(clean) + self.beta * divergence(faulty, clean)
