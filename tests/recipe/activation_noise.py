"""A threat as a stranger would write it, from docs/architecture.md alone: this file and no other.

Model:  Gaussian noise is added to every stored activation, in units of its grid's step.
"""

from typing import Literal

import torch
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.core.types import Count
from bitproof.data import Dataset
from bitproof.evaluation import THREATS, EvaluatedModel, IntegerModel, Threat, count
from bitproof.evaluation.threat import Levels
from bitproof.metrics import Tally
from bitproof.quant import run_integers
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.stats.threats import ThreatLabel


@THREATS.register
class ActivationNoise(Threat):
    """Add noise to activations; a float model has no stored ones."""

    kind: Literal["activation_noise"] = "activation_noise"
    levels: Levels = (1.0, 8.0)
    """Standard deviations, in steps."""
    draws: Count = 3
    """Draws of noise at each level."""
    images: Count = 20
    """Test images, the first ones."""

    @property
    def label(self) -> ThreatLabel:
        return ThreatLabel("compute_fault", "Noise on activations", "σ")

    def tasks(self, data: Dataset) -> list[tuple[float, int]]:  # noqa: ARG002
        return [(level, draw) for level in self.levels for draw in range(self.draws)]

    def measure(
        self, model: EvaluatedModel, data: Dataset, *, level: float, trial: int, seed: int
    ) -> Tally:
        images = data.first(min(self.images, len(data)))
        if not isinstance(model, IntegerModel):
            return count(model.predict, images)
        generator = make_generator(seed, "noise", trial)

        def add_noise(_node: Node, codes: Tensor, grid: Grid) -> Tensor:
            noise = level * torch.randn(codes.shape, generator=generator)
            return (codes + noise.to(codes.device)).round().clamp(grid.low, grid.high).to(codes)

        network = model.network
        return count(lambda inputs: run_integers(network, inputs, corrupt=add_noise), images)
