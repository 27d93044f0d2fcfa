"""Accuracy on adversarial examples, white box; and a check that gradients are not masked.

Model:  the attacker works through the network that is measured. Images are worked on in blocks of
        fixed size, each with its own generator, so that results depend neither on interruptions
        nor on the machine's batch size. Images are independent trials (Wilson). Two signs of masked
        gradients are looked for: accuracy that rises with the radius, and accuracy above chance at
        a radius that leaves nothing of the image. A check looks for a third: Square attack, without
        gradients, is stronger on the first block of images than the white-box attack is.
Source: METHODS G; Carlini et al., On Evaluating Adversarial Robustness, 2019; Andriushchenko et
        al., Square Attack, ECCV 2020.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch

from bitproof.attacks import AnyAttack, InputAttack, LinfPGD, LinfSquare
from bitproof.core.errors import SpecError
from bitproof.core.passes import Passes
from bitproof.core.rng import make_generator
from bitproof.core.types import Count, Rounds
from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import EvaluatedModel
from bitproof.evaluation.tasks import task_of
from bitproof.evaluation.threat import (
    THREATS,
    Counts,
    Levels,
    Threat,
    acc_interval,
    at_most,
    block,
    first,
    pooled_rows,
    total,
)
from bitproof.metrics import Classification, Tally
from bitproof.stats import Row
from bitproof.stats.threats import ThreatLabel

BLOCK = 100
"""Images of one attack measurement; part of what a result means, like a seed."""
SLACK = 0.03
"""Difference of accuracies on one block that is called noise."""
HUGE = 0.5
"""A change of every pixel that must bring every network to chance, input units."""


@THREATS.register
class AdversarialExamples(Threat):
    """Attack the inputs of a network.

    Example:
        >>> AdversarialExamples(levels=(8 / 255,)).title
        'linf_pgd'
    """

    kind: Literal["adversarial_examples"] = "adversarial_examples"
    attack: AnyAttack = LinfPGD(epsilon=8 / 255)
    """The attack; its `epsilon` is replaced by each of `levels`."""
    levels: Levels = (2 / 255, 4 / 255, 8 / 255)
    """Perturbation radii, input units, rising."""
    images: Count | None = 500
    """Test images that are attacked, the first ones; None: all."""

    @property
    def title(self) -> str:
        """What results call it: the kind of attack, unless `name` says otherwise."""
        return self.name or self.attack.kind

    @property
    def label(self) -> ThreatLabel:
        """Return the label of the attack."""
        return self.attack.label

    def check(self, data: Dataset) -> None:
        """Refuse tokens, tasks that the attack does not know, and what are no images if need be."""
        check_attack(self.title, self.attack, data)

    def huge(self, data: Dataset) -> float:
        """Return a radius that must bring every network to chance."""
        pixels = data.images[0].numel()
        return HUGE if self.attack.ball == "Linf" else HUGE * pixels**0.5

    def tasks(self, data: Dataset) -> list[tuple[float, int]]:
        """Return every block at every radius, and the first block at a huge one."""
        blocks = -(-len(first(data, self.images)) // BLOCK)
        found = [(level, number) for level in self.levels for number in range(blocks)]
        return [*found, (self.huge(data), 0)] if self.levels else []

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return what images take that resist to the end, at each radius and a huge one."""
        attacked = at_most(images, self.images)
        times = len(self.levels) * attacked + (min(BLOCK, attacked) if self.levels else 0)
        return times * (self.attack.passes + Passes(1))

    def first_images(self, data: Dataset) -> int | None:
        """Return how many images are attacked."""
        return at_most(len(data), self.images)

    def identity(self, data: Dataset) -> dict[str, Any]:
        """Return the attack, the size of blocks, and where the images end."""
        attack = self.attack.at(0.0).model_dump(mode="json")
        return {"attack": attack, "block": BLOCK, "images": len(first(data, self.images))}

    def measure(
        self, model: EvaluatedModel, data: Dataset, *, level: float, trial: int, seed: int
    ) -> Tally:
        """Return how many images of a block are still classified right."""
        return attack_block(
            self.attack.at(level), model, first(data, self.images), trial=trial, seed=seed
        )

    def rows(self, counts: Counts) -> list[Row]:
        """Return the accuracy at each radius, over all blocks."""
        return pooled_rows(self.title, {level: counts[level] for level in self.levels})

    def warnings(self, counts: Counts, others: Mapping[str, Counts], data: Dataset) -> list[str]:  # noqa: ARG002
        """Return what looks like masked gradients: an attack that seems strong and is not."""
        found = rising_accuracy(self.levels, counts)
        radius, chance = self.huge(data), (data.task or Classification()).chance(data.n_classes)
        huge = total(counts.get(radius, ()))
        if huge.total and chance is not None and acc_interval(huge).low > chance:
            found.append(
                f"accuracy is {huge.acc:.3f} under {self.title} at epsilon {radius:.4g}, above "
                f"chance ({chance:.3f}); the attack is too weak or gradients are masked"
            )
        return found


@THREATS.register
class BlackBoxCheck(Threat):
    """Compare an L-infinity attack with one that uses no gradients.

    Example:
        >>> BlackBoxCheck(against="linf_pgd", queries=200).queries
        200
    """

    on_multipliers: ClassVar[bool] = False

    kind: Literal["black_box_check"] = "black_box_check"
    against: str = "linf_pgd"
    """Name of the threat that is checked: adversarial examples in the L-infinity ball. Radii and
    images are those of it, unless `levels` names others of its radii."""
    queries: Rounds = 200
    """Queries of the attack without gradients, for each image."""
    images: Count | None = 500
    """Test images of the attack that is checked; the first block of them is used."""

    @property
    def label(self) -> ThreatLabel:
        """Return that it changes inputs."""
        return ThreatLabel("input_attack", "Black-box check", "ε", "pixels")

    def check(self, data: Dataset) -> None:
        """Refuse what are no images, and tasks that the attack does not know."""
        check_attack(self.title, LinfSquare(epsilon=0.0, queries=self.queries), data)

    def tasks(self, data: Dataset) -> list[tuple[float, int]]:  # noqa: ARG002
        """Return the first block at every radius."""
        return [(level, 0) for level in self.levels]

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return what images of the block take that resist to the end."""
        attack = LinfSquare(epsilon=0.0, queries=self.queries)
        block = min(BLOCK, at_most(images, self.images))
        return len(self.levels) * block * (attack.passes + Passes(1))

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


def rising_accuracy(levels: Sequence[float], counts: Counts) -> list[str]:
    """Return where more images are right at a larger radius, which no strong attack leaves."""
    found = []
    for small, large in pairwise(levels):
        a, b = (total(counts[level]).acc for level in (small, large))
        if b > a:
            found.append(
                f"accuracy rises with epsilon ({a:.3f} at {small:.4g}, {b:.3f} at {large:.4g}); "
                "the attack is too weak or gradients are masked"
            )
    return found


def attack_block(
    attack: InputAttack, model: EvaluatedModel, data: Dataset, *, trial: int, seed: int
) -> Tally:
    """Return how many images of a block are classified right after an attack on them."""
    starts = make_generator(seed, "attack", trial)
    return attack_images(attack, model, block(data, trial, BLOCK), generator=starts)


def attack_images(
    attack: InputAttack, model: EvaluatedModel, data: Dataset, *, generator: torch.Generator
) -> Tally:
    """Return how many images, all at once, are classified right after an attack, and which."""
    inputs = data.inputs()
    task = data.task or task_of(data, model.predict(inputs[:1]))
    found = attack.run(model.differentiable, inputs, data.labels, generator=generator, task=task)
    return task.tally_each(model.predict(found), data.labels)


def check_attack(title: str, attack: InputAttack, data: Dataset) -> None:
    """Check that an attack on inputs can work on a data set and its task.

    Raises:
        SpecError: inputs are tokens, or no images where images are needed; or the attack does not
            know the task.
    """
    if data.is_tokens:
        raise SpecError(f"{title}: wanted inputs that can be perturbed, {data.name} holds tokens")
    if attack.needs_images and not data.is_images:
        raise SpecError(
            f"{title}: wanted images of shape (n, c, h, w) for {attack.kind}, {data.name} holds "
            f"inputs of shape {tuple(data.images.shape)}; linf_pgd, l2_pgd and linf_square take any"
        )
    attack.check(data.task)
