"""A check of a white-box attack: an attack without gradients must not be stronger.

Model:  Square attack on the first block of images, beside the white-box attack on the same block.
        It gives no rows, only a warning.
Source: Andriushchenko et al., Square Attack, ECCV 2020; METHODS G.
"""

from collections.abc import Mapping
from typing import Any, Literal

from bitproof.attacks import LinfSquare
from bitproof.core.types import Count
from bitproof.data.dataset import Dataset
from bitproof.evaluation.adversarial_examples import BLOCK, attack_block
from bitproof.evaluation.models import EvaluatedModel
from bitproof.evaluation.threat import THREATS, Counts, Threat, first
from bitproof.metrics import Tally
from bitproof.stats import Row
from bitproof.stats.threats import ThreatLabel

SLACK = 0.03
"""Difference of accuracies on one block that is called noise."""


@THREATS.register
class BlackBoxCheck(Threat):
    """Compare an L-infinity attack with one that uses no gradients.

    Example:
        >>> BlackBoxCheck(against="linf_pgd", queries=200).queries
        200
    """

    kind: Literal["black_box_check"] = "black_box_check"
    against: str = "linf_pgd"
    """Name of the threat that is checked: adversarial examples in the L-infinity ball. Radii and
    images are those of it, unless `levels` names others of its radii."""
    queries: Count = 200
    """Queries of the attack without gradients, for each image."""
    images: Count | None = 500
    """Test images of the attack that is checked; the first block of them is used."""

    @property
    def label(self) -> ThreatLabel:
        """Return that it changes inputs."""
        return ThreatLabel("input_attack", "Black-box check", "ε", "pixels")

    def tasks(self, data: Dataset) -> list[tuple[float, int]]:  # noqa: ARG002
        """Return the first block at every radius."""
        return [(level, 0) for level in self.levels]

    def identity(self, data: Dataset) -> dict[str, Any]:
        """Return what an attack of that kind would, so that equal work is done once."""
        attack = LinfSquare(epsilon=0.0, queries=self.queries).model_dump(mode="json")
        return {"attack": attack, "block": BLOCK, "images": len(first(data, self.images))}

    def measure(
        self, model: EvaluatedModel, data: Dataset, *, level: float, trial: int, seed: int
    ) -> Tally:
        """Return how many images of the block are still classified right."""
        attack = LinfSquare(epsilon=level, queries=self.queries)
        return attack_block(attack, model, first(data, self.images), trial=trial, seed=seed)

    def rows(self, counts: Counts) -> list[Row]:  # noqa: ARG002
        """Return nothing: it is a check, not a result."""
        return []

    def warnings(self, counts: Counts, others: Mapping[str, Counts], data: Dataset) -> list[str]:  # noqa: ARG002
        """Return where the attack without gradients is the stronger one."""
        found = []
        for level in self.levels:
            white, black = others[self.against][level][0], counts[level][0]
            if black.acc < white.acc - SLACK:
                found.append(
                    f"a black-box attack is stronger ({black.acc:.3f}) than {self.against} "
                    f"({white.acc:.3f}) at epsilon {level:.4g}; gradients are masked"
                )
        return found
