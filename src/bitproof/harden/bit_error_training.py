"""Training in two branches: the stored network as it is, and with bit errors in its words.

Model:  `g = (1 - s) dCE(f(x; w_q)) + s clamp(dCE(f(x; w~_q)))`, with `w_q` the stored parameters
        read back, `w~_q` the same with bit errors, and each entry of the second gradient clamped;
        several levels share s evenly. Errors are injected in a step if in the one before the clean
        loss was below 1.15 T and the mean of both losses, the faulty one 0 where none were
        injected, at most T. Batch norms learn from the clean branch alone; the faulty one is
        normalised by the statistics that its words were made with.
Source: Stutz et al., MLSys 2021; METHODS E.3.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Positive, Probability
from bitproof.harden.quantization_aware import QuantizedStage, QuantizedTraining, Words
from bitproof.models.norms import earlier_statistics, norm_statistics
from bitproof.train.batches import Batch

SLACK = 1.15
"""How far above the threshold the clean loss may lie."""
RAMP_STAGES = 20
"""Stages in which levels rise."""


class BitErrorTraining(QuantizedStage):
    """Trains with bit errors; a subclass says which."""

    ramp: Probability = 0.0
    """Share of the steps over which levels rise, in 20 stages; 0: all of it at once."""
    branches: Literal["average", "alternating", "faulty_only"] = "average"
    """Both gradients in every step, one after the other in turn, or the faulty one alone."""
    faulty_share: Probability = 0.5
    """Weight of the faulty branch, s, for `average`."""
    clamp: Positive | None = 0.05
    """Bound on each entry of the faulty branch's gradient; None: no bound."""
    activate_below: Positive | None = 1.75
    """Loss T below which errors are injected; None: always."""

    @model_validator(mode="after")
    def _check_turns(self) -> "BitErrorTraining":
        if self.branches == "alternating" and self.optimization.sam:
            raise ValueError("branches: wanted no 'sam' with 'alternating', which counts steps")
        return self

    @abstractmethod
    def levels(self) -> tuple[float, ...]:
        """Return how much breaks, once for each faulty term of a step."""

    @property
    def injection_passes(self) -> Passes:
        """Return what finding the errors of one level takes, for one image; here, nothing."""
        return Passes()

    @property
    def step_passes(self) -> Passes:
        """Return the gradients of both branches, as if errors were injected in every step."""
        faulty = len(self.levels()) * (STEP + self.injection_passes)
        return faulty + (Passes(1) if self.branches == "faulty_only" else STEP)

    @abstractmethod
    def inject(
        self, training: QuantizedTraining, words: Words, batch: Batch, *, level: float
    ) -> dict[str, Tensor]:
        """Return the codes that are read in the faulty branch."""

    def levels_at(self, done: float) -> tuple[float, ...]:
        """Return the levels when the fraction `done` of the steps lies behind."""
        if done >= self.ramp:
            return self.levels()
        stage = math.floor(RAMP_STAGES * done / self.ramp)
        return tuple(level * stage / RAMP_STAGES for level in self.levels())

    def is_active(self, *, clean: float, faulty: float) -> bool:
        """Return whether a step injects errors, by the losses of the one before.

        Infinite means that there was none.
        """
        limit = self.activate_below
        if limit is None:
            return True
        mean = (clean + (0.0 if math.isinf(faulty) else faulty)) / 2
        return clean < SLACK * limit and mean <= limit

    def terms(self, training: QuantizedTraining, batch: Batch) -> Iterator[Tensor]:
        """Yield the clean term and one for each level."""
        words, losses = training.words(batch), training.losses
        turn = losses.steps % 2
        losses.steps += 1
        share = {"average": self.faulty_share, "alternating": float(turn), "faulty_only": 1.0}[
            self.branches
        ]
        # Waits for the losses of the step before only if it must.
        if self.activate_below is not None and not self.is_active(
            clean=losses["clean"].value, faulty=losses["faulty"].value
        ):
            share = 0.0
        norms = training.stored.norms.values() if share else ()
        statistics = norm_statistics(training.model, norms)  # the clean branch learns others
        with torch.set_grad_enabled(share < 1):
            clean = training.error(words.read_back(), batch)
        training.remember("clean", clean, batch)
        if share < 1:
            yield (1 - share) * clean
        levels = self.levels_at(batch.done) if share else ()
        total = torch.zeros_like(clean.detach())
        for level in levels:
            with earlier_statistics(training.model, statistics):
                faulty = self._faulty_loss(training, words, batch, level=level, share=share)
            total += faulty.detach() / len(levels)
            yield share / len(levels) * faulty
        training.remember("faulty", total, batch)

    def _faulty_loss(
        self, training: QuantizedTraining, words: Words, batch: Batch, *, level: float, share: float
    ) -> Tensor:
        """Return the loss with errors, its gradient clamped as the weight of the term asks."""
        seen = words.read_back(self.inject(training, words, batch, level=level))
        weight = share / len(self.levels()) * batch.share
        return training.error(seen, batch, limit=self.clamp and self.clamp * weight)
