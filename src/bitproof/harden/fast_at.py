"""Fast adversarial training: one long step from a random start, and a guard on its known failure.

Model:  x' is one signed step of 1.25 epsilon from a uniform start, projected. Such training can
        over-fit to its one step from one epoch to the next, and lose all robustness to several
        (catastrophic over-fitting). The guard looks at the accuracy under PGD-5 of some training
        images after each epoch; when it has fallen by more than `guard`, training ends with the
        weights of the epoch before.
Source: Wong, Rice and Kolter, "Fast is better than free: revisiting adversarial training", ICLR
        2020; constants from METHODS D.2.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from bitproof.attacks.ascent import LinfPGD
from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Count, Fraction, Positive
from bitproof.data.dataset import Dataset
from bitproof.harden.base import HARDEN, Candidate, TrainingContext
from bitproof.harden.perturbation import perturbed
from bitproof.harden.training_stage import LossStage
from bitproof.models.norms import evaluating
from bitproof.train.batches import Batch
from bitproof.train.optimization import Optimization

GUARD_STEPS = 5
"""Gradient evaluations of the guard's attack."""


@HARDEN.register
class FastAT(LossStage):
    """Train on images that one signed step has moved.

    Example:
        >>> FastAT().relative_step
        1.25
    """

    kind: Literal["fast_at"] = "fast_at"
    optimization: Optimization = Optimization(
        epochs=15, learning_rate=0.2, schedule="cyclic", warmup=0.5
    )
    """How weights move; its `weight_decay` is the remedy of METHODS D."""
    epsilon: Positive = 8 / 255
    """Radius of the L-infinity ball, input units."""
    relative_step: Positive = 1.25
    """Length of the step, in units of `epsilon`."""
    guard: Fraction | None = 0.2
    """Fall of the accuracy under PGD-5 from one epoch to the next, as a fraction, that ends
    training; None: no guard."""
    guard_images: Count = 256
    """Training images that it looks at, the first ones."""

    @model_validator(mode="after")
    def _check_mean(self) -> "FastAT":
        if self.guard is not None and self.optimization.ema is not None:
            raise ValueError("guard: wanted it without optimization.ema, which mixes epochs")
        return self

    @property
    def step_passes(self) -> Passes:
        """Return the gradient of the long step, and one of the loss."""
        return 2 * STEP

    def passes(self, images: int, *, layers: int) -> Passes:
        """Return the training, and the looks of the guard."""
        looks = 0 if self.guard is None else self.optimization.epochs
        attack = LinfPGD(epsilon=self.epsilon, steps=GUARD_STEPS)
        look = min(images, self.guard_images) * (attack.passes + Passes(1))
        return super().passes(images, layers=layers) + looks * look

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with trained float weights."""
        if self.guard is None:
            return super().apply(candidate, context)
        model = deepcopy(candidate.model)
        attack = LinfPGD(epsilon=self.epsilon, steps=GUARD_STEPS)
        images = context.train.first(min(len(context.train), self.guard_images))
        guard = OverfittingGuard(
            model, images, attack, most_fall=self.guard, generator=context.generator("guard")
        )
        history = self.train_(
            model,
            context,
            lambda batch: self.loss(model, batch),
            after_epoch=guard.fails,
            checkpointed={"guard": guard},
        )
        seen = {"robust_acc": guard.seen, "ended_early": guard.ended}
        return replace(candidate, model=model).with_record(self.kind, loss=history, **seen)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of moved images."""
        moved = perturbed(model, batch, epsilon=self.epsilon, relative_step=self.relative_step)
        return batch.error(model(moved))


class OverfittingGuard:
    """Watches robust accuracy from epoch to epoch, and takes back the epoch that loses it."""

    def __init__(
        self,
        model: nn.Module,
        images: Dataset,
        attack: LinfPGD,
        *,
        most_fall: float,
        generator: torch.Generator,
    ) -> None:
        self.model, self.images, self.attack = model, images, attack
        self.most_fall = most_fall
        self.start = generator.get_state()
        """Every look draws the same starts."""
        self.seen: list[float] = []
        """Accuracy under attack after each epoch, as a fraction."""
        self.ended = False
        """Whether it has ended training."""
        self.kept: dict[str, Tensor] = {}
        """The model after the last epoch that was good."""

    def fails(self) -> bool:
        """Look; return whether robustness was lost. Then the model is that of the epoch before."""
        found = self._robust_acc()
        lost = bool(self.seen) and self.seen[-1] - found > self.most_fall
        self.seen.append(found)
        if lost:
            self.model.load_state_dict(self.kept)
            self.ended = True
        else:
            self.kept = {name: value.clone() for name, value in self.model.state_dict().items()}
        return lost

    def state(self) -> tuple[dict[str, Tensor], Any]:
        """Return the model that is kept, and what was seen."""
        return self.kept, {"seen": self.seen, "ended": self.ended}

    def restore(self, tensors: Mapping[str, Tensor], notes: Any) -> None:
        """Take both back."""
        self.kept, self.seen, self.ended = dict(tensors), list(notes["seen"]), notes["ended"]

    def _robust_acc(self) -> float:
        generator, right = torch.Generator(), 0
        generator.set_state(self.start)
        with evaluating(self.model):
            for part in self.images.blocks(128):
                moved = self.attack.run(self.model, part.inputs(), part.labels, generator=generator)
                with torch.no_grad():
                    right += int((self.model(moved).argmax(1) == part.labels).sum())
        return right / len(self.images)
