"""Which layers matter most: a running mean of their gradient norms.

Model:  `g_l(t) = |grad_{W_l} L(t)|` (optionally per weight, or times `|W_l|`),
        `G_l(t) = beta G_l(t-1) + (1 - beta) g_l(t)`, `G_l(0) = g_l(0)`; the K largest are critical.
Source: RESQ, arXiv 2603.15413, figure 2; METHODS A.3 (4) and (5).
"""

from typing import Any, Literal

from torch import nn

Weighting = Literal["plain", "per_weight", "times_weight"]


class CriticalLayers:
    """The ranking, and its history for the report."""

    def __init__(
        self, model: nn.Module, *, k: int, beta: float, weighting: Weighting = "plain"
    ) -> None:
        self.model, self.k, self.beta, self.weighting = model, k, beta, weighting
        self.layers = rankable_layers(model)
        self.means: dict[str, float] = {}
        self.scores: list[list[float]] = []
        self.chosen: list[list[str]] = []

    def observe(self) -> None:
        """Take in the gradients that the model holds now."""
        for layer in self.layers:
            weight: Any = self.model.get_submodule(layer).weight
            if weight.grad is None:
                continue
            norm = float(weight.grad.norm())
            if self.weighting == "per_weight":
                norm /= weight.numel() ** 0.5
            elif self.weighting == "times_weight":
                norm *= float(weight.detach().norm())
            before = self.means.get(layer, norm)
            self.means[layer] = self.beta * before + (1 - self.beta) * norm

    def rank(self) -> list[str]:
        """Return the critical layers, most critical first, and write them down."""
        order = sorted(self.layers, key=lambda layer: -self.means.get(layer, 0.0))
        self.scores.append([self.means.get(layer, 0.0) for layer in self.layers])
        self.chosen.append(order[: self.k])
        return self.chosen[-1]

    def record(self) -> dict[str, Any]:
        """Return the history: layers, and scores and choice of each ranking."""
        return {"layers": self.layers, "scores": self.scores, "top": self.chosen}


def rankable_layers(model: nn.Module) -> list[str]:
    """Return the paths of all convolutions and linear layers, in the order of the model."""
    kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
    return [path for path, module in model.named_modules() if isinstance(module, kinds)]
