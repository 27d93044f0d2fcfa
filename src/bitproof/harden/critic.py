"""The critic of adversarial feature desensitisation.

Model:  three linear layers tell, given the class, clean features from perturbed ones. The source
        lets the critic descend `mean D(phi') - mean D(phi)` and the encoder `-mean D(phi')`; here
        each term goes through softplus, its bounded variant: `softplus(D(phi')) +
        softplus(-D(phi))` and `softplus(-D(phi'))`.
Source: Bashivan et al., "Adversarial Feature Desensitization", NeurIPS 2021; METHODS A.2.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from bitproof.core.rng import draw_seed, global_draws
from bitproof.train.process_group import SINGLE_PROCESS, ProcessGroup


class Critic(nn.Module):
    """Scores features; high means clean."""

    def __init__(
        self,
        width: int,
        n_classes: int,
        *,
        learning_rate: float,
        generator: torch.Generator,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        super().__init__()
        self.group = group
        self.n_classes = n_classes
        with global_draws(draw_seed(generator)):
            self.layers = nn.Sequential(
                nn.Linear(width + n_classes, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, 1),
            )
        self.optimizer = torch.optim.SGD(self.parameters(), lr=learning_rate, momentum=0.9)

    def forward(self, features: Float[Tensor, "n f"], labels: Int[Tensor, " n"]) -> Tensor:
        """Return one score per image."""
        classes = one_hot(labels, self.n_classes).to(features)
        scores: Tensor = self.layers(torch.cat([features, classes], 1))
        return scores[:, 0]

    def fooled(
        self,
        clean: Float[Tensor, "n f"],
        moved: Float[Tensor, "n f"],
        labels: Int[Tensor, " n"],
        *,
        share: float = 1.0,
    ) -> Float[Tensor, ""]:
        """Take one step of the critic on a `share` of the batch; return the encoder's loss."""
        self.optimizer.zero_grad(set_to_none=True)
        own = softplus(self(moved.detach(), labels)) + softplus(-self(clean.detach(), labels))
        (own.mean() * share).backward()  # type: ignore[no-untyped-call]
        self.group.add_([weight.grad for weight in self.parameters() if weight.grad is not None])
        self.optimizer.step()
        self.requires_grad_(False)
        loss = softplus(-self(moved, labels)).mean()
        self.requires_grad_(True)
        return loss

    def state(self) -> tuple[dict[str, Tensor], Any]:
        """Return weights and momentum."""
        momentum = {
            f"momentum.{index}": entries["momentum_buffer"]
            for index, entries in self.optimizer.state_dict()["state"].items()
        }
        return {**self.state_dict(), **momentum}, None

    def restore(self, tensors: Mapping[str, Tensor], notes: Any) -> None:  # noqa: ARG002
        """Take both back."""
        self.load_state_dict({name: tensors[name] for name in self.state_dict()})
        frozen = self.optimizer.state_dict()
        for index in range(len(list(self.parameters()))):
            if f"momentum.{index}" in tensors:
                frozen["state"][index] = {"momentum_buffer": tensors[f"momentum.{index}"]}
        self.optimizer.load_state_dict(frozen)
