"""All remedies in one training: faults, attacks, narrow ranges, decay, the deployed multiplier.

Model:  `L = (1 - g) CE(f(x), y) + g CE(f~(x), y) + lam_adv CE(f(x'), y)
        + lam_keep D(phi(x), phi(x'))`. f computes as the deployed integer network will: words of
        weights and activations on their grids, products of its multipliers, or exact ones. f~ also
        reads the weights of all layers from a faulty memory, fresh in each step, at a rate that
        rises over the first part of training; each entry of its gradient is clamped. x' is made by
        projected ascent through f. Before each step the (folded) weights are held inside a share of
        the range that they began with; weight decay is that of `optimization`. Batch norms learn
        from the first term alone; f~ is normalised by what they learned, x' by its own batch.
Source: none; ours. It joins stages 1 and 2 of RESQ (METHODS A.3), RandBET with clipping (E.2 and
        E.3), weight decay (D.2) and training through multipliers (AdaPT, arXiv 2203.04071).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Literal

from torch import Tensor, nn

from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Fraction, NonNegative, Positive, Probability, Rounds
from bitproof.faults import AnyFault, RandomFlips, faulty_codes
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.harden.clip import clip_weights_, folded_ranges
from bitproof.harden.emulation import Emulation
from bitproof.harden.perturbation import FeatureDistance, feature_distance, perturbed
from bitproof.models.features import penultimate, with_features
from bitproof.models.norms import running_statistics, unlearned_statistics
from bitproof.quant.straight_through import fold_factors
from bitproof.train.batches import Batch
from bitproof.train.optimization import Optimization


@HARDEN.register
class Joint(HardeningStage):
    """Fine-tune against faults and attacks at once, on the hardware that an earlier stage chose.

    Example:
        >>> Joint(ber=1e-2, ramp=0.5).ber_at(0.25)
        0.005
    """

    kind: Literal["joint"] = "joint"
    fault: AnyFault = RandomFlips(ber=1e-2)
    """What breaks in the weights of every layer; `ber` sets its level."""
    ber: Probability = 1e-2
    """Level of the fault after the ramp: of random flips the bit error rate, as a fraction."""
    ramp: Probability = 0.5
    """Share of the steps over which the level rises linearly from 0."""
    faulty_share: Probability = 0.5
    """Weight of the faulty term, g."""
    clamp: Positive | None = 0.05
    """Bound on each entry of the faulty term's gradient; None: no bound."""
    clip: Fraction | None = None
    """Hold the (folded) weights of every layer inside this share of the range that they start with;
    None: no bound."""
    lam_adv: NonNegative = 1.0
    """Weight of the cross-entropy on x'."""
    lam_keep: NonNegative = 0.5
    """Weight of the distance between the features of x and x'."""
    distance: FeatureDistance = "relative"
    """Distance of features."""
    epsilon: Positive = 8 / 255
    """Radius of the L-infinity ball around x, input units."""
    relative_step: Positive = 0.75
    """Length of one step of the ascent, in units of `epsilon`."""
    steps: Rounds = 2
    """Gradient evaluations for x'."""
    optimization: Optimization = Optimization(learning_rate=0.01)
    """How weights move; its `weight_decay` is the remedy of METHODS D."""

    @property
    def step_passes(self) -> Passes:
        """Return a gradient for each term of the loss, and those that x' takes."""
        moves = bool(self.lam_adv or self.lam_keep)
        return (1 + (self.faulty_share > 0) + moves * (1 + self.steps)) * STEP

    def integer_passes(self, images: int, *, layers: int) -> Passes:
        """Return a forward pass through multipliers beside each in floats; words cost another."""
        return Passes(2 * self.passes(images, layers=layers).forward)

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with fine-tuned float weights.

        Raises:
            QuantizationError: no layer can be emulated.
            TraceError: the model has no features in front of a last linear layer.
        """
        model = deepcopy(candidate.model)
        emulation = Emulation.of(model, candidate, context.train)
        head = penultimate(model, context.train.inputs(slice(0, 2)))
        layers = [*emulation.nodes] if self.clip else []
        factors = partial(fold_factors, model, emulation.norms)
        ranges = folded_ranges(model, layers, factors(), share=self.clip or 1.0)

        def loss(batch: Batch) -> Iterator[Tensor]:
            clip_weights_(model, ranges, factors())
            logits, features = with_features(model, batch.inputs, head)
            clean = (1 - self.faulty_share) * batch.error(logits)
            if self.lam_adv or self.lam_keep:
                clean = clean + self._kept(model, batch, features, head)
            yield clean
            if self.faulty_share:
                limit = self.clamp and self.clamp * self.faulty_share * batch.share
                with clamped(model.parameters(), limit):
                    yield self.faulty_share * self._faulty(emulation, batch)

        with emulation.running():
            history = self.fine_tune_(
                model,
                context,
                optimization=self.optimization,
                loss=loss,
                label="fine-tune against everything",
            )
        clip_weights_(model, ranges, factors())
        done = replace(candidate, model=model)
        told = {"layers": list(emulation.nodes), "left_float": emulation.left_float}
        return done.with_record(self.kind, loss=history, **told)

    def ber_at(self, done: float) -> float:
        """Return the level of the fault when the fraction `done` of the steps lies behind."""
        return self.ber if done >= self.ramp else self.ber * done / self.ramp

    def _faulty(self, emulation: Emulation, batch: Batch) -> Tensor:
        """Return the cross-entropy with fresh faults in the weights of all layers."""
        fault = self.fault.at(self.ber_at(batch.done))
        with (
            emulation.faulty(lambda codes: faulty_codes(codes, fault, generator=batch.generator)),
            running_statistics(emulation.model),
        ):
            return batch.error(emulation.model(batch.inputs))

    def _kept(self, model: nn.Module, batch: Batch, features: Tensor, head: str) -> Tensor:
        """Return the loss on x': its error, and how far its features are from those of x."""
        moved = perturbed(
            model,
            batch,
            epsilon=self.epsilon,
            relative_step=self.relative_step,
            steps=self.steps,
        )
        with unlearned_statistics(model):
            logits, after = with_features(model, moved, head)
        kept = self.lam_keep * feature_distance(features, after, self.distance)
        return kept + self.lam_adv * batch.error(logits)


@contextmanager
def clamped(parameters: Iterable[nn.Parameter], limit: float | None) -> Iterator[None]:
    """Clamp each entry of the gradients that are computed inside the block, before they add up."""
    hooks = []
    if limit:
        bound = limit
        hooks = [
            parameter.register_hook(lambda gradient: gradient.clamp(-bound, bound))  # type: ignore[no-untyped-call]
            for parameter in parameters
            if parameter.requires_grad
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
