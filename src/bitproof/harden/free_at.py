"""Free adversarial training: one backward pass moves both the weights and the images.

Model:  each batch comes m times in a row. A step takes the loss at `clip(x + d)`, moves the weights
        down its gradient and `d` up the sign of its gradient by epsilon, inside the ball. `d` goes
        on from batch to batch.
Source: Shafahi et al., "Adversarial Training for Free!", NeurIPS 2019, algorithm 1.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Positive, Rounds
from bitproof.harden.base import HARDEN, Candidate, TrainingContext
from bitproof.harden.training_stage import FROM_SCRATCH, TrainingStage
from bitproof.train.optimization import Optimization


@HARDEN.register
class FreeAT(TrainingStage):
    """Train on images that move with every backward pass.

    Example:
        >>> FreeAT().replays
        8
    """

    kind: Literal["free_at"] = "free_at"
    optimization: Optimization = FROM_SCRATCH.model_copy(update={"epochs": 10})
    """How weights move; an epoch has `replays` steps a batch."""
    epsilon: Positive = 8 / 255
    """Radius of the L-infinity ball, and length of a step, input units."""
    replays: Rounds = 8
    """Steps in a row on each batch."""

    @model_validator(mode="after")
    def _check_sam(self) -> "FreeAT":
        if self.optimization.sam:
            raise ValueError("optimization.sam: wanted 0 with free_at, which shares one gradient")
        return self

    @property
    def step_passes(self) -> Passes:
        """Return a gradient for each replay."""
        return self.replays * STEP

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with trained float weights."""
        model = deepcopy(candidate.model)
        moved = _Perturbation(self.epsilon)
        history = self.train_(
            model,
            context,
            lambda batch: batch.error(model(moved.added_to(batch.inputs))),
            after_backward=lambda _batch: moved.climb(),
            replays=self.replays,
            checkpointed={"perturbation": moved},
        )
        return replace(candidate, model=model).with_record(self.kind, loss=history)


class _Perturbation:
    """What is added to the images of a batch; it is saved and restored with the training."""

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon
        self.value = torch.empty(0)
        """As large as the largest batch so far."""
        self._used: Tensor | None = None

    def added_to(self, inputs: Tensor) -> Tensor:
        """Return moved images, with gradients to the perturbation."""
        missing = len(inputs) - len(self.value)
        if missing > 0:
            new = torch.zeros_like(inputs[:missing])
            self.value = torch.cat([self.value.to(inputs.device), new]) if len(self.value) else new
        self._used = self.value[: len(inputs)].to(inputs.device).clone().requires_grad_()
        return (inputs + self._used).clamp(0, 1)

    def climb(self) -> None:
        """Move up the gradient of the last loss."""
        used = self._used
        if used is None or used.grad is None:
            return
        with torch.no_grad():
            moved = used + self.epsilon * used.grad.sign()
            self.value = self.value.to(moved.device)
            self.value[: len(moved)] = moved.clamp_(-self.epsilon, self.epsilon)

    def state(self) -> tuple[dict[str, Tensor], Any]:
        """Return the perturbation."""
        return {"value": self.value}, None

    def restore(self, tensors: Mapping[str, Tensor], notes: Any) -> None:  # noqa: ARG002
        """Take it back."""
        self.value = tensors["value"]
