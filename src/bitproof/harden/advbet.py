"""Adversarial bit error training: the errors of each step are those that hurt most.

Model:  as RandBET, with the bits that a few steps of projected gradient ascent flip in the place of
        random ones: a number of bits in the whole network, at most one in each word. The attacker
        sees the training batch, as the step does.
Source: Stutz et al., "Random and Adversarial Bit Error Robustness", TPAMI 2022; METHODS E.8.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Count, LearningRate, Rounds
from bitproof.faults import adversarial_codes
from bitproof.harden.base import HARDEN
from bitproof.harden.bit_error_training import BitErrorTraining
from bitproof.harden.quantization_aware import QuantizedTraining, Words
from bitproof.train.batches import Batch


@HARDEN.register
class AdvBET(BitErrorTraining):
    """Train with adversarial bit errors in every stored parameter.

    Example:
        >>> AdvBET(n_flips=160).levels()
        (160.0,)
    """

    kind: Literal["advbet"] = "advbet"
    n_flips: Count = 160
    """Most bits that the attack of each step may flip."""
    iterations: Rounds = 3
    """Gradients that the attack of each step takes; each costs as much as a plain step."""
    learning_rate: LearningRate = 1.0
    """Step of the attack: way of the weight with the largest gradient of its tensor, value
    units."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Momentum of the attack."""

    def levels(self) -> tuple[float, ...]:
        """Return the number of flips."""
        return (float(self.n_flips),)

    @property
    def injection_passes(self) -> Passes:
        """Return the gradients of the attack."""
        return self.iterations * STEP

    def inject(
        self, training: QuantizedTraining, words: Words, batch: Batch, *, level: float
    ) -> dict[str, Tensor]:
        """Return codes with up to `level` flips that raise the loss of the batch."""
        if round(level) < 1:
            return {name: own.codes for name, own in words.codes.items()}

        def gradient(values: dict[str, Tensor]) -> dict[str, Tensor]:
            read = {name: value.detach().requires_grad_() for name, value in values.items()}
            seen = words.stored.read_back(words.values, read, words.factors)
            with training.running():
                loss = batch.error(functional_call(training.model, seen, (batch.inputs,)))
            slopes = torch.autograd.grad(loss, list(read.values()))
            shares = [slope * batch.share for slope in slopes]
            training.group.add_(shares)  # the same flips in every process
            return dict(zip(read, shares, strict=True))

        return adversarial_codes(
            words.codes,
            gradient,
            budget=round(level),
            iterations=self.iterations,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            generator=batch.generator,
        )
