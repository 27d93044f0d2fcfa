"""Stages that train all weights of a float network, and what holds its ranges meanwhile.

Model:  against wide ranges, beside weight decay: weights clipped to `w_max` before each step, and
        the penalty `range_decay` times the mean over layers of max|x|**2 of what they read. Against
        the flips themselves: `activation_ber` breaks bits of what each layer reads, as words of 8
        bits with the step max|x| / 127 of the batch, while weights are trained and not while an
        attacker looks; gradients pass the change as if it were not there.
Source: METHODS D.2 (decay) and E.2 (clipping); Stutz et al., MLSys 2021 (RandBET), here on
        activations. The penalty is ours.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bitproof.core.errors import ModelError
from bitproof.core.types import NonNegative, Positive, Probability
from bitproof.faults import RandomFlips
from bitproof.harden.base import Candidate, HardeningStage, TrainingContext
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
    activation_ber: Probability = 0.0
    """Bit error rate in what convolutions and linear layers read, as a fraction."""

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
        if not layers and (self.w_max is not None or self.range_decay or self.activation_ber):
            raise ModelError(
                f"{self.kind}: wanted modules for convolutions or linear layers, which w_max, "
                "range_decay and activation_ber work on; the model has none"
            )
        ranges = Ranges(model, layers) if self.range_decay else None
        flips = ActivationFlips(layers, self.activation_ber) if self.activation_ber else None

        def bounded(batch: Batch) -> Tensor:
            self._clip(layers)
            if flips is not None:
                flips.generator = batch.generator
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
        for hooked in (ranges, flips):
            if hooked is not None:
                hooked.remove()
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


class ActivationFlips:
    """Breaks bits of what layers read, in training mode."""

    def __init__(self, layers: Sequence[nn.Module], ber: float) -> None:
        self.fault = RandomFlips(ber=ber)
        self.generator = torch.Generator()
        """Of the step, on the CPU."""
        self.hooks = [
            layer.register_forward_pre_hook(self._flip, with_kwargs=True) for layer in layers
        ]

    def remove(self) -> None:
        """Break nothing any longer."""
        for hook in self.hooks:
            hook.remove()

    def _flip(
        self, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not layer.training:
            return None
        read = inputs[0] if inputs else named["input"]
        values = read.detach()
        step = values.abs().amax().float().clamp(min=torch.finfo(torch.float32).tiny) / 127
        codes = (values / step).round().clamp(-127, 127).to(torch.int8)
        broken = self.fault.corrupt(codes, bits=8, generator=self.generator)
        change = (broken.float() - codes.float()) * step
        return (read + change.to(values.dtype),), {}
