"""Stage 2 of RESQ: fine-tune with bit flips in the layers that matter most.

Model:  `L = (1 - g) CE(f(x; W), y) + g CE(f(x; W~), y) + lam_keep D(phi(x), phi(x'))`, where W~ is
        read back from a faulty memory in the critical layers, with a fresh mask each step, and x'
        is one signed gradient step away. Gradients of the faulty branch pass quantization and
        faults and are clamped. Batch norms learn from the clean branch alone; the faulty branch
        is normalised by what they learned, as the deployed network is; x' is normalised by its
        own batch. Bits flip in the codes of the weight with its batch norm folded in.
Source: RESQ, arXiv 2603.15413, stage 2; METHODS A.3 (4) to (7). Clamp, curriculum and clean
        statistics: Stutz et al., RandBET, MLSys 2021, METHODS E.3.
"""

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Count, Fraction, NonNegative, Positive, Probability
from bitproof.faults import AnyFault, RandomFlips, faulty_codes
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.harden.clip import clip_weights_, folded_ranges
from bitproof.harden.critical_layers import CriticalLayers, Weighting
from bitproof.harden.deferred_scalar import DeferredScalar
from bitproof.harden.perturbation import FeatureDistance, feature_distance, perturbed
from bitproof.models.features import penultimate, with_features
from bitproof.models.norms import batch_norms, running_statistics, unlearned_statistics
from bitproof.quant.straight_through import call_with, faulty_weights, fold_factors, norm_after
from bitproof.train.batches import Batch
from bitproof.train.optimization import Optimization


@HARDEN.register
class FaultAware(HardeningStage):
    """Fine-tune clean and faulty network together.

    Example:
        >>> FaultAware(top=3).ber_at(0.25)
        0.000505
    """

    kind: Literal["fault_aware"] = "fault_aware"
    top: Count = 10
    """How many layers are critical; all, if the network has fewer."""
    beta: Probability = 0.9
    """Memory of the running mean of gradient norms."""
    weighting: Weighting = "plain"
    """Norm as it is, divided by the root of the weight count, or times the weight's norm."""
    static: bool = False
    """Rank once, after the warm-up, instead of before every epoch."""
    warmup_steps: Annotated[int, Field(ge=0, le=10**6, strict=True)] = 200
    """Batches on which gradient norms are measured before anything moves."""
    faulty_share: Probability = 0.5
    """Weight of the faulty branch, g."""
    fault: AnyFault = RandomFlips(ber=1e-3)
    """What breaks in the weights of the critical layers, which lie in one memory, with a fresh draw
    each step; its level is what `ber_start` and `ber_end` set."""
    ber_start: Probability = 1e-5
    """Level of the fault at the first step: of random flips the bit error rate, as a fraction."""
    ber_end: Probability = 1e-3
    """Level of the fault after the ramp."""
    ramp: Probability = 0.5
    """Share of the steps over which the level rises linearly."""
    codes: Literal["folded", "stored"] = "folded"
    """Flip bits of the weight as it will be deployed, batch norm folded in, or as it is trained."""
    clamp: Positive | None = 0.05
    """Bound on each entry of the faulty branch's gradient; None: no bound."""
    clip: Fraction | None = None
    """Hold the (folded) weights of every layer, frozen or not, inside this share of the range that
    they start with; None: no bound."""
    inject_below: Positive | None = 1.75
    """Inject faults only where the clean loss of the step before was below this; None: always."""
    lam_keep: NonNegative = 0.5
    """Weight of the feature distance between x and x'."""
    lam_adv: NonNegative = 0.0
    """Weight of the cross-entropy on x', which keeps attack resilience that is there already; ours,
    not in METHODS. x' costs nothing where both weights are 0."""
    epsilon: Positive = 8 / 255
    """Radius of x', input units."""
    distance: FeatureDistance = "relative"
    """Distance of features."""
    trainable: Literal["critical", "all"] = "critical"
    """Move only the critical layers and the norms, or everything."""
    optimization: Optimization = Optimization(learning_rate=0.005)
    """How weights move."""

    @property
    def step_passes(self) -> Passes:
        """Return a gradient, one with faults, and two for x', where the loss has them."""
        terms = [True, self.faulty_share > 0, *2 * [bool(self.lam_keep or self.lam_adv)]]
        return sum(terms) * STEP

    def passes(self, images: int, *, layers: int) -> Passes:
        """Return the warm-up and the training."""
        warm_up = max(self.warmup_steps, 1) * self.optimization.batch_size
        return warm_up * STEP + super().passes(images, layers=layers)

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with fine-tuned float weights and the record of the ranking."""
        model = deepcopy(candidate.model)
        example = context.train.inputs(slice(0, 2))
        head = penultimate(model, example)
        norms = norm_after(model, example) if self.codes == "folded" else {}
        ranking = CriticalLayers(model, k=self.top, beta=self.beta, weighting=self.weighting)
        self._warm_up(model, ranking, context)
        state = _Course(ranking.rank())
        factors = fold_factors(model, norms)
        clipped = ranking.layers if self.clip else []
        ranges = folded_ranges(model, clipped, factors, share=self.clip or 1.0)

        def loss(batch: Batch) -> Iterator[Tensor]:
            if ranges:
                clip_weights_(model, ranges, fold_factors(model, norms))
            if batch.epoch > state.epoch and not self.static:
                state.critical = ranking.rank()
            state.epoch = batch.epoch
            logits, features = with_features(model, batch.inputs, head)
            clean = batch.error(logits)
            keeps = self.lam_keep or self.lam_adv
            # Waits for the loss of the step before only if it must.
            injects = self.faulty_share > 0 and (
                self.inject_below is None or state.clean.value < self.inject_below
            )
            total = (1 - self.faulty_share) * clean if injects else clean
            state.clean.send(context.group.mean(clean.detach(), weight=batch.share))
            if not keeps:
                yield total
            if injects:
                seen = self._read_back(model, batch, state.critical, candidate, norms)
                limit = self.clamp and self.clamp * self.faulty_share * batch.share
                with running_statistics(model):
                    broken = call_with(model, batch.inputs, seen, limit=limit)
                faulty = self.faulty_share * batch.error(broken)
                if not keeps:
                    yield faulty
                total = total + faulty
            if keeps:
                yield total + self._keep(model, batch, features, head)

        def after_backward(_batch: Batch) -> None:
            ranking.observe()
            if self.trainable == "critical":
                hold_still(model, set(state.critical))

        history = self.fine_tune_(
            model,
            context,
            optimization=self.optimization,
            loss=loss,
            label="fine-tune with faults",
            after_backward=after_backward,
            checkpointed={"ranking": ranking, "course": state},
        )
        clip_weights_(model, ranges, fold_factors(model, norms))
        done = replace(candidate, model=model)
        return done.with_record(self.kind, loss=history, critical=ranking.record())

    def ber_at(self, done: float) -> float:
        """Return the level of the fault when the fraction `done` of the steps lies behind."""
        risen = 1.0 if done >= self.ramp else done / self.ramp
        return self.ber_start + (self.ber_end - self.ber_start) * risen

    def _read_back(
        self,
        model: nn.Module,
        batch: Batch,
        layers: list[str],
        candidate: Candidate,
        norms: Mapping[str, str],
    ) -> dict[str, Tensor]:
        """Return the weights of `layers` with fresh faults in their codes."""
        fault = self.fault.at(self.ber_at(batch.done))
        return faulty_weights(
            model,
            layers,
            candidate.scheme,
            inject=lambda codes: faulty_codes(codes, fault, generator=batch.generator),
            factors=fold_factors(model, norms),
            shrink=candidate.shrink,
        )

    def _keep(self, model: nn.Module, batch: Batch, features: Tensor, head: str) -> Tensor:
        """Return the loss on a one-step perturbation: distance of its features, and its error."""
        moved = perturbed(model, batch, epsilon=self.epsilon)
        with unlearned_statistics(model):
            logits, after = with_features(model, moved, head)
        kept = self.lam_keep * feature_distance(features, after, self.distance)
        return kept + self.lam_adv * batch.error(logits)

    def _warm_up(self, model: nn.Module, ranking: CriticalLayers, context: TrainingContext) -> None:
        """Measure gradient norms; nothing moves."""
        size = self.optimization.batch_size
        generator = context.generator("warm-up")
        model.eval()
        for _ in range(max(self.warmup_steps, 1)):
            index = torch.randint(len(context.train), (size,), generator=generator)
            index = index.to(context.train.labels.device)
            model.zero_grad(set_to_none=True)
            logits = model(context.train.inputs(index))
            cross_entropy(logits, context.train.labels[index]).backward()  # type: ignore[no-untyped-call]
            ranking.observe()
        model.zero_grad(set_to_none=True)


class _Course:
    """Where the stage stands: critical layers, epoch, and the clean loss of the last step."""

    def __init__(self, critical: list[str]) -> None:
        self.critical, self.epoch = critical, 0
        self.clean = DeferredScalar()

    def state(self) -> tuple[dict[str, Tensor], Any]:
        """Return all of it."""
        clean = None if math.isinf(self.clean.value) else self.clean.value
        return {}, {"critical": self.critical, "epoch": self.epoch, "clean": clean}

    def restore(self, tensors: Mapping[str, Tensor], notes: Any) -> None:  # noqa: ARG002
        """Take it back."""
        self.critical, self.epoch = notes["critical"], notes["epoch"]
        if notes["clean"] is not None:
            self.clean.send(torch.tensor(notes["clean"], dtype=torch.float64))


def hold_still(model: nn.Module, layers: set[str]) -> None:
    """Drop the gradients of everything but `layers` and the norms, so that it stays as it is."""
    norms = nn.LayerNorm | nn.GroupNorm
    kept = {id(norm) for norm in batch_norms(model)}
    for path, module in model.named_modules():
        if path in layers or id(module) in kept or isinstance(module, norms):
            continue
        for weight in module.parameters(recurse=False):
            weight.grad = None
