"""Measurements as work for an executor: what each process needs, and what it does with a task."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import EvaluatedModel
from bitproof.evaluation.threat import Task, Threat
from bitproof.metrics import Tally

Models = Callable[[str], EvaluatedModel]
"""Returns the network of a name; it can be sent to another process."""


@dataclass(frozen=True)
class Measuring:
    """Measurements of an evaluation on networks that are named."""

    threats: tuple[Threat, ...]
    seed: int
    models: Models
    data: Dataset
    device: torch.device
    """Where the networks of `models` lie."""

    def start(self) -> Callable[[tuple[str, Task]], Tally]:
        """Return a function that measures; it keeps the network that it measured last."""
        data = self.data.to(self.device)
        last: dict[str, EvaluatedModel] = {}

        def measure(order: tuple[str, Task]) -> Tally:
            variant, task = order
            if variant not in last:
                last.clear()
                last[variant] = self.models(variant)
            return self.threats[task.threat].measure(
                last[variant], data, level=task.level, trial=task.trial, seed=self.seed
            )

        return measure
