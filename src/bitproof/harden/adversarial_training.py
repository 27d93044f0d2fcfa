"""Training on images that an adversary moves at every step, and the same without one beside it.

Model:  `vanilla`: L = CE(f(x), y). `pgd_at`: L = CE(f(x'), y) with x' from projected ascent on the
        cross-entropy. `trades`: L = CE(f(x), y) + beta KL(f(x) | f(x')) with x' from ascent on the
        divergence itself. All train all weights in float32, from random or given weights, and see
        the network through the attacker's eyes in evaluation mode. Against wide ranges, beside
        weight decay: weights clipped to `w_max` before each step, and the penalty `range_decay`
        times the mean over layers of max|x|**2 of what they read.
Source: Madry et al., ICLR 2018 (`pgd_at`); Zhang et al., "Theoretically Principled Trade-off
        between Robustness and Accuracy", ICML 2019, equation 5 and algorithm 1 (`trades`; here x'
        starts anywhere in the ball, there next to x). METHODS D.2 for the sweep of weight decay
        that compares them: Fasfous et al., "Mind the Scaling Factors", DATE 2022.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bitproof.core.errors import ModelError
from bitproof.core.types import Count, NonNegative, Positive
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.harden.perturbation import divergence, perturbed, perturbed_off_answers
from bitproof.train.batches import Batch
from bitproof.train.optimization import Optimization

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
"""Modules whose weights and inputs are bounded."""
FROM_SCRATCH = Optimization(
    epochs=30, learning_rate=0.1, schedule="multi_step", milestones=(0.5, 0.75)
)
"""How weights move, if nothing is said."""


class TrainingStage(HardeningStage):
    """A stage that trains all weights from random ones or from those that came."""

    trains_from_scratch: ClassVar[bool] = True

    optimization: Optimization = FROM_SCRATCH
    """How weights move; its `weight_decay` is the remedy of METHODS D."""
    w_max: Positive | None = None
    """Bound on every weight of convolutions and linear layers, value units; None: no clipping."""
    range_decay: NonNegative = 0.0
    """Weight of the mean over convolutions and linear layers of the squared largest value that each
    reads: what activation steps are made of."""

    def train_(
        self,
        model: nn.Module,
        context: TrainingContext,
        loss: Callable[[Batch], Tensor],
        **more: Any,
    ) -> list[float]:
        """Train `model` in place on a loss, inside the bounds; return the mean loss of each epoch.

        `more` goes to `fine_tune_`.

        Raises:
            ModelError: there is nothing that the bounds could hold.
        """
        layers = [each for each in model.modules() if isinstance(each, LAYERS)]
        if not layers and (self.w_max is not None or self.range_decay):
            raise ModelError(
                f"{self.kind}: wanted modules for convolutions or linear layers, which w_max and "
                "range_decay hold; the model has none"
            )
        ranges = Ranges(model, layers) if self.range_decay else None

        def bounded(batch: Batch) -> Tensor:
            self._clip(layers)
            value = loss(batch)
            return value if ranges is None else value + self.range_decay * ranges.mean_square()

        history = self.fine_tune_(
            model,
            context,
            optimization=self.optimization,
            loss=bounded,
            label=self.kind.replace("_", " "),
            **more,
        )
        self._clip(layers)
        if ranges is not None:
            ranges.remove()
        return history

    @torch.no_grad()
    def _clip(self, layers: Sequence[nn.Module]) -> None:
        if self.w_max is not None:
            for layer in layers:
                assert isinstance(layer.weight, Tensor)
                layer.weight.clamp_(-self.w_max, self.w_max)


class LossStage(TrainingStage):
    """A stage whose steps have a loss of their own each; a subclass says which."""

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with trained float weights."""
        model = deepcopy(candidate.model)
        history = self.train_(model, context, lambda batch: self.loss(model, batch))
        return replace(candidate, model=model).with_record(self.kind, loss=history)

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of one step."""


class Ranges:
    """The largest values that layers read in the last forward pass."""

    def __init__(self, model: nn.Module, layers: Sequence[nn.Module]) -> None:
        self.seen: list[Tensor] = []
        hooks = [layer.register_forward_pre_hook(self._see, with_kwargs=True) for layer in layers]
        self.hooks = [model.register_forward_pre_hook(self._begin), *hooks]

    def mean_square(self) -> Tensor:
        """Return the mean of their squares."""
        return torch.stack([largest.square() for largest in self.seen]).mean()

    def remove(self) -> None:
        """Look no longer."""
        for hook in self.hooks:
            hook.remove()

    def _begin(self, _model: nn.Module, _inputs: tuple[Any, ...]) -> None:
        self.seen.clear()

    def _see(self, _layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.seen.append((inputs[0] if inputs else named["input"]).abs().amax())


@HARDEN.register
class Vanilla(LossStage):
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
class PGDAT(LossStage):
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
class TRADES(LossStage):
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
