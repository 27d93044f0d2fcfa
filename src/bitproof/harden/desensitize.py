"""Stage 1 of RESQ: make features insensitive to small changes of the input.

Model:  `L = CE(f(x), y) + lam_adv CE(f(x'), y) + lam_f D(phi(x), phi(x'))` with x' from projected
        gradient ascent on the cross-entropy. Variants: `trades` (x' and the distance are the
        Kullback-Leibler divergence of the logits), `noise` (x' is drawn at random), `afd` (a
        critic that tells clean from perturbed features takes the place of the distance; the
        source trains on clean images only, which is `lam_adv = 0`). The attacker sees the model
        in evaluation mode; in training, clean and perturbed images share one batch, so batch
        norms normalise by both and learn from both.
Source: RESQ, arXiv 2603.15413, stage 1; equations reconstructed in METHODS A.3 (1) to (3).
        Zhang et al., TRADES, ICML 2019. Bashivan et al., AFD, NeurIPS 2021.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from bitproof.attacks.balls import draw_linf
from bitproof.core.passes import STEP, Passes
from bitproof.core.types import LearningRate, NonNegative, Positive, Rounds
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.harden.critic import Critic
from bitproof.harden.perturbation import (
    FeatureDistance,
    divergence,
    feature_distance,
    perturbed,
    perturbed_off_answers,
)
from bitproof.models.features import penultimate, with_features
from bitproof.models.norms import evaluating
from bitproof.train.batches import Batch
from bitproof.train.optimization import Optimization


@HARDEN.register
class Desensitize(HardeningStage):
    """Fine-tune on clean and perturbed images together.

    Example:
        >>> Desensitize(epsilon=0.1).steps
        7
    """

    kind: Literal["desensitize"] = "desensitize"
    mode: Literal["consistency", "trades", "noise", "afd"] = "consistency"
    """Where x' comes from and what keeps features together; see the module."""
    epsilon: Positive = 8 / 255
    """Radius of the L-infinity ball, input units."""
    relative_step: Positive = 0.25
    """Length of one step, in units of `epsilon`."""
    steps: Rounds = 7
    """Gradient evaluations for x'."""
    lam_adv: NonNegative = 1.0
    """Weight of the cross-entropy on x' (not used by `trades`)."""
    lam_f: NonNegative = 1.0
    """Weight of the distance between clean and perturbed features (or logits, for `trades`)."""
    distance: FeatureDistance = "relative"
    """Distance of features, for `consistency` and `noise`."""
    stop_gradient: bool = False
    """Take the clean features (or logits, for `trades`) as a fixed target; `afd` has none."""
    critic_learning_rate: LearningRate = 0.1
    """Step length of the critic, for `afd`."""
    optimization: Optimization = Optimization()
    """How weights move."""

    @property
    def step_passes(self) -> Passes:
        """Return a gradient of clean and of moved images, and what moves them."""
        moving = {"noise": Passes(), "trades": Passes(1) + self.steps * STEP}
        return 2 * STEP + moving.get(self.mode, self.steps * STEP)

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with fine-tuned float weights."""
        model = deepcopy(candidate.model)
        head = penultimate(model, context.train.inputs(slice(0, 2)))
        critic = self._critic(model, head, context) if self.mode == "afd" else None

        def loss(batch: Batch) -> Tensor:
            moved = self.perturb(model, batch)
            both = torch.cat([batch.inputs, moved])
            logits, features = with_features(model, both, head)
            clean, faulty = logits.chunk(2)
            total = batch.error(clean)
            if self.mode == "trades":
                target = clean.detach() if self.stop_gradient else clean
                return total + self.lam_f * divergence(faulty, target)
            total = total + self.lam_adv * batch.error(faulty)
            before, after = features.chunk(2)
            before = before.detach() if self.stop_gradient else before
            if critic is not None:
                return total + self.lam_f * critic.fooled(
                    before, after, batch.labels, share=batch.share
                )
            return total + self.lam_f * feature_distance(before, after, self.distance)

        history = self.fine_tune_(
            model,
            context,
            optimization=self.optimization,
            loss=loss,
            label="desensitize features",
            checkpointed={"critic": critic} if critic else {},
        )
        return replace(candidate, model=model).with_record(self.kind, loss=history)

    def perturb(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return x', made with the model in evaluation mode."""
        if self.mode == "noise":
            return draw_linf(batch.inputs, self.epsilon, generator=batch.image_generator)
        move = perturbed_off_answers if self.mode == "trades" else perturbed
        return move(
            model,
            batch,
            epsilon=self.epsilon,
            relative_step=self.relative_step,
            steps=self.steps,
        )

    def _critic(self, model: nn.Module, head: str, context: TrainingContext) -> Critic:
        inputs = context.train.inputs(slice(0, 2))
        with torch.no_grad(), evaluating(model):
            _, features = with_features(model, inputs, head)
        return Critic(
            features.shape[1],
            context.train.n_classes,
            learning_rate=self.critic_learning_rate,
            generator=context.generator("critic"),
            group=context.group,
        ).to(features.device)
