"""Which layers matter most: a running mean of their gradient norms.

Model:  `g_l(t) = |grad_{W_l} L(t)|` (optionally per weight, or times `|W_l|`),
        `G_l(t) = beta G_l(t-1) + (1 - beta) g_l(t)`, `G_l(0) = g_l(0)`; the K largest are critical.
Source: RESQ, arXiv 2603.15413, figure 2; METHODS A.3 (4) and (5).
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

Weighting = Literal["plain", "per_weight", "times_weight"]


class CriticalLayers:
    """The ranking, and its history for the report."""

    def __init__(
        self, model: nn.Module, *, k: int, beta: float, weighting: Weighting = "plain"
    ) -> None:
        self.model, self.k, self.beta, self.weighting = model, k, beta, weighting
        self.layers = rankable_layers(model)
        device = next(model.parameters()).device
        self._means = torch.full((len(self.layers),), torch.nan, dtype=torch.float64, device=device)
        self.scores: list[list[float]] = []
        self.chosen: list[list[str]] = []

    @property
    def means(self) -> dict[str, float]:
        """The running mean of every layer that had a gradient."""
        pairs = zip(self.layers, self._means.tolist(), strict=True)
        return {layer: mean for layer, mean in pairs if not math.isnan(mean)}

    @torch.no_grad()
    def observe(self) -> None:
        """Take in the gradients that the model holds now, without waiting for the device."""
        weights: list[Any] = [self.model.get_submodule(layer).weight for layer in self.layers]
        seen = [index for index, weight in enumerate(weights) if weight.grad is not None]
        if not seen:
            return
        held = [weights[index] for index in seen]
        norms = torch.stack(torch._foreach_norm([weight.grad for weight in held])).double()
        if self.weighting == "per_weight":
            sizes = torch.tensor([weight.numel() for weight in held], dtype=torch.float64)
            norms = norms / sizes.sqrt().to(norms.device, non_blocking=True)
        elif self.weighting == "times_weight":
            norms = norms * torch.stack(torch._foreach_norm(held))
        at = torch.tensor(seen).to(norms.device, non_blocking=True)
        before = self._means[at]
        before = torch.where(before.isnan(), norms, before)
        self._means[at] = self.beta * before + (1 - self.beta) * norms

    def rank(self) -> list[str]:
        """Return the critical layers, most critical first, and write them down."""
        means = self.means
        order = sorted(self.layers, key=lambda layer: -means.get(layer, 0.0))
        self.scores.append([means.get(layer, 0.0) for layer in self.layers])
        self.chosen.append(order[: self.k])
        return self.chosen[-1]

    def state(self) -> tuple[dict[str, Tensor], Any]:
        """Return the running means, and the history."""
        return {"means": self._means}, {"scores": self.scores, "chosen": self.chosen}

    def restore(self, tensors: Mapping[str, Tensor], notes: Any) -> None:
        """Take both back."""
        self._means.copy_(tensors["means"])
        self.scores, self.chosen = notes["scores"], notes["chosen"]

    def record(self) -> dict[str, Any]:
        """Return the history: layers, and scores and choice of each ranking."""
        return {"layers": self.layers, "scores": self.scores, "top": self.chosen}


def rankable_layers(model: nn.Module) -> list[str]:
    """Return the paths of all convolutions and linear layers, in the order of the model."""
    kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
    return [path for path, module in model.named_modules() if isinstance(module, kinds)]
