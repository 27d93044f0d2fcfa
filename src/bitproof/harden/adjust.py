"""Stage 3 of RESQ: quantize the network so that flips cost less; nothing is trained.

Model:  batch-norm statistics are estimated anew on clean and perturbed calibration images. Then,
        layer by layer, the weight range is multiplied by the factor that minimises
        `E|W - Q(W)|^2 + mu p D^2 (4^m - 1) / 3`: rounding and clipping error, plus the expected
        squared error of independent flips of all m bits at rate p. Activations are clamped at a
        percentile, biases absorb the mean error. Each of these changes (the statistics, every
        range, the biases) is kept only if neither clean accuracy nor accuracy under attack on the
        calibration images, measured through the integer network, falls by more than `tolerance`
        below that of the network that came in. METHODS states the rule for ranges and attacks
        alone; without it for the statistics, a network that attacks shift far loses points.
Source: RESQ, arXiv 2603.15413, stage 3; METHODS A.3 (8) and (9), reconstruction.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bitproof.attacks import LinfPGD, signed_ascent
from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Count, Fraction, Index, NonNegative, Positive, Probability, Rounds
from bitproof.data.dataset import Dataset
from bitproof.evaluation import IntegerModel, count
from bitproof.evaluation.adversarial_examples import attack_images
from bitproof.evaluation.threat import BATCH, total
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.models.norms import batch_norms, evaluating
from bitproof.quant.build import quantize_graph
from bitproof.quant.calibrate import measure_ranges
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.quantizer import Quantizer
from bitproof.quant.trace import trace

CALIBRATIONS = 8
"""Passes over the calibration images for ranges, of which networks are made four times."""


@HARDEN.register
class Adjust(HardeningStage):
    """Choose ranges, statistics and biases for an integer network.

    Example:
        >>> Adjust(ber=1e-3).grid_points
        80
    """

    kind: Literal["adjust"] = "adjust"
    mu: NonNegative = 1.0
    """Weight of the expected error of flips against that of quantization."""
    ber: Probability = 5e-4
    """Bit error rate p that ranges are chosen for, as a fraction. The formula holds for independent
    flips; there is none for other fault models."""
    lowest: Fraction = 0.2
    """Smallest factor on a range."""
    grid_points: Rounds = 80
    """Factors tried between `lowest` and 1."""
    calibration_images: Count = 1024
    """Training images for statistics, ranges and biases."""
    attack_images: Index = 256
    """Calibration images on which the acceptance rule measures; 0 accepts every change."""
    epsilon: Positive = 8 / 255
    """Radius of the perturbed calibration images and of the acceptance rule, input units."""
    steps: Rounds = 10
    """Gradient evaluations of that attack."""
    tolerance: Probability = 0.005
    """Accuracy, clean or under attack, that may be lost in all, as a fraction."""
    estimate_norms: bool = True
    """Estimate batch-norm statistics anew."""
    correct_bias: bool = True
    """Let biases absorb the mean error of each channel."""
    percentile: Annotated[float, Field(gt=50.0, le=100.0)] = 99.99
    """Activations are clamped at this percentile, in per cent."""

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return the estimation of statistics, on clean and moved images, and calibrations."""
        seen = min(self.calibration_images, images)
        return seen * (self.steps * STEP + Passes(2 + CALIBRATIONS))

    def integer_passes(self, images: int, *, layers: int) -> Passes:
        """Return the verdicts: on what came in, statistics, the range of each layer, biases."""
        attack = LinfPGD(epsilon=self.epsilon, steps=self.steps)
        judged = min(self.attack_images, self.calibration_images, images)
        return (layers + 3) * judged * (attack.passes + Passes(2))

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with new ranges, statistics and rules for its biases."""
        data = context.train.first(min(self.calibration_images, len(context.train)))
        rule = AcceptanceRule(self, data.first(min(self.attack_images, len(data))), context)
        rule.start(candidate, data)
        scheme = candidate.scheme.model_copy(
            update={
                "calibration": "percentile",
                "percentile": self.percentile,
                "calibration_images": self.calibration_images,
            }
        )
        adjusted = replace(candidate, scheme=scheme, model=deepcopy(candidate.model).eval())
        record: dict[str, Any] = {}
        if self.estimate_norms and batch_norms(candidate.model):
            model = deepcopy(candidate.model).eval()
            self._estimate_norms(model, data, context)
            tried = replace(adjusted, model=model)
            record["norms"] = rule.verdict(tried.quantize(data))
            adjusted = tried if record["norms"]["accepted"] else adjusted
        shrink, record["alpha"] = self._choose_ranges(adjusted, data, rule, context)
        adjusted = replace(adjusted, shrink=shrink)
        if self.correct_bias:
            tried = replace(adjusted, correct_bias=True)
            record["biases"] = rule.verdict(tried.quantize(data))
            adjusted = tried if record["biases"]["accepted"] else adjusted
        return adjusted.with_record(self.kind, **record)

    def _estimate_norms(self, model: nn.Module, data: Dataset, context: TrainingContext) -> None:
        """Replace running statistics by the mean over batches, half clean and half perturbed."""
        generator = context.generator("norms")
        batches = []
        for block in data.blocks(BATCH):
            inputs = block.inputs()
            with evaluating(model):
                moved = signed_ascent(
                    model,
                    inputs,
                    block.labels,
                    epsilon=self.epsilon,
                    step=self.epsilon / 4,
                    steps=self.steps,
                    generator=generator,
                )
            batches.append(torch.cat([inputs, moved]))
        norms = batch_norms(model)
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches that follow
            norm.train()
        with torch.no_grad():
            for batch in batches:
                model(batch)
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.eval()

    def _choose_ranges(
        self, candidate: Candidate, data: Dataset, rule: "AcceptanceRule", context: TrainingContext
    ) -> tuple[dict[str, float], dict[str, Any]]:
        images = data.inputs()
        graph = trace(candidate.model, images)
        scheme = candidate.scheme
        ranges = measure_ranges(graph, images, scheme)
        shrink = dict(candidate.shrink)
        record: dict[str, Any] = {}
        layers = [node.name for node in graph.nodes if node.op in {"conv", "linear"}]
        for layer in context.progress.track(layers, label="choose ranges", total=len(layers)):
            chosen = self.best_factor(graph.tensors[f"{layer}.weight"], scheme.weight)
            tried = {**shrink, layer: chosen}
            network = quantize_graph(graph, images, scheme, shrink=tried, ranges=ranges)
            network = candidate.arithmetic.apply(network, images, data_dir=candidate.data_dir)
            record[layer] = {"chosen": chosen, **rule.verdict(network)}
            shrink = tried if record[layer]["accepted"] else shrink
        return shrink, record

    def best_factor(self, weight: Tensor, quantizer: Quantizer) -> float:
        """Return the factor on the range of `weight` with the least expected squared error."""
        best, least = 1.0, float("inf")
        for factor in torch.linspace(self.lowest, 1.0, self.grid_points).tolist():
            error = self.expected_error(weight, quantizer, factor)
            if error < least:
                best, least = factor, error
        return round(best, 6)

    def expected_error(self, weight: Tensor, quantizer: Quantizer, factor: float) -> float:
        """Return the mean over weights of quantization error and expected flip error, squared."""
        grid = quantizer.fit(weight, shrink=factor)
        coded = quantizer.encode(weight, grid)
        quantization = float((weight - coded.values()).double().square().mean())
        step = float(grid.scale.double().square().mean())
        return quantization + self.mu * self.ber * step * (4.0**grid.bits - 1) / 3


class AcceptanceRule:
    """The acceptance rule: accuracies of the network that came in, and how far they may fall."""

    def __init__(self, stage: Adjust, data: Dataset, context: TrainingContext) -> None:
        self.stage, self.data, self.context = stage, data, context
        self.clean: float | None = None
        self.attacked: float | None = None

    def start(self, candidate: Candidate, calibration: Dataset) -> None:
        """Measure the network that came in, unless every change is to be accepted."""
        if len(self.data):
            self.clean, self.attacked = self.measure(candidate.quantize(calibration))

    def verdict(self, network: IntegerNetwork) -> dict[str, Any]:
        """Tell whether `network` may replace what came in, with the accuracies of both."""
        if self.clean is None or self.attacked is None:
            return {"accepted": True, "acc_before": None, "acc_after": None}
        clean, attacked = self.measure(network)
        lost = max(self.clean - clean, self.attacked - attacked)
        return {
            "accepted": lost <= self.stage.tolerance,
            "acc_before": self.attacked,
            "acc_after": attacked,
            "clean_before": self.clean,
            "clean_after": clean,
        }

    def measure(self, network: IntegerNetwork) -> tuple[float, float]:
        """Return accuracy on clean and on attacked calibration images."""
        attack = LinfPGD(epsilon=self.stage.epsilon, steps=self.stage.steps)
        generator = self.context.generator("accept")
        attacked = total(
            [
                attack_images(attack, IntegerModel(network), block, generator=generator)
                for block in self.data.blocks(BATCH)
            ]
        )
        return count(network, self.data).acc, attacked.acc
