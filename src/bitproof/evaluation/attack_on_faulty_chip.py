"""Adversarial examples for a network whose memory is broken.

Model:  a chip breaks the stored words first, as `memory_faults` does with the same number; the
        attacker then works through the broken network, white box, as `adversarial_examples` does.
        The strongest case: whoever attacks one device has read out what its memory holds. The chip
        is the unit of intervals. A float model stores no integer words: nothing is measured.
Source: METHODS A.3, E.4 and G. The crossing of both threats is ours.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from bitproof.attacks import AnyAttack, LinfPGD
from bitproof.core.passes import Passes
from bitproof.core.rng import make_generator
from bitproof.core.types import Count, Rounds
from bitproof.data.dataset import Dataset
from bitproof.evaluation.adversarial_examples import (
    BLOCK,
    attack_block,
    check_attack,
    rising_accuracy,
)
from bitproof.evaluation.models import EvaluatedModel, IntegerModel
from bitproof.evaluation.threat import (
    THREATS,
    Counts,
    Levels,
    Threat,
    at_most,
    check_trials,
    first,
    spread_rows,
    total,
)
from bitproof.faults import AnyFault, RandomFlips
from bitproof.metrics import Tally
from bitproof.stats import Row
from bitproof.stats.threats import ThreatLabel


@THREATS.register
class AttackOnFaultyChip(Threat):
    """Attack the inputs of a network on faulty chips.

    Example:
        >>> AttackOnFaultyChip(chips=3).title
        'linf_pgd_on_faulty_chip'
    """

    integers_only: ClassVar[bool] = True

    kind: Literal["attack_on_faulty_chip"] = "attack_on_faulty_chip"
    fault: AnyFault = RandomFlips(ber=1e-3)
    """What is broken in weights and biases, at the level that it has."""
    attack: AnyAttack = LinfPGD(epsilon=8 / 255)
    """The attack; its `epsilon` is replaced by each of `levels`."""
    levels: Levels = (2 / 255, 4 / 255, 8 / 255)
    """Perturbation radii, input units, rising."""
    chips: Rounds = 5
    """Draws of weak cells, the same for every network and level, and those of `memory_faults`."""
    images: Count | None = 200
    """Test images that are attacked on each chip, the first ones; None: all."""

    @model_validator(mode="after")
    def _check_trials(self) -> "AttackOnFaultyChip":
        check_trials(self.levels, self.chips)
        return self

    @property
    def title(self) -> str:
        """What results call it: the kind of attack, on a faulty chip, unless `name` is given."""
        return self.name or f"{self.attack.kind}_on_faulty_chip"

    @property
    def label(self) -> ThreatLabel:
        """Return the label of the attack, and where it is met."""
        inside, fault = self.attack.label, self.fault.label
        level = float(getattr(self.fault, self.fault.level))
        where = f"on chips with {fault.symbol} {fault.pretty_level(level)}"
        title = f"{inside.title}, {where}"
        return replace(inside, family="crossing", title=title, unit="chip")

    def check(self, data: Dataset) -> None:
        """Refuse tokens, tasks that the attack does not know, and what are no images if need be."""
        check_attack(self.title, self.attack, data)

    def tasks(self, data: Dataset) -> list[tuple[float, int]]:  # noqa: ARG002
        """Return every chip at every radius."""
        return [(level, chip) for level in self.levels for chip in range(self.chips)]

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return what images take that resist to the end, at each radius on each chip."""
        times = len(self.levels) * self.chips * at_most(images, self.images)
        return times * (self.attack.passes + Passes(1))

    def first_images(self, data: Dataset) -> int | None:
        """Return how many images are attacked on each chip."""
        return at_most(len(data), self.images)

    def identity(self, data: Dataset) -> dict[str, Any]:
        """Return fault, attack, the size of blocks, and where the images end."""
        attack = self.attack.at(0.0).model_dump(mode="json")
        fault = self.fault.model_dump(mode="json")
        shape = {"block": BLOCK, "images": len(first(data, self.images))}
        return {"fault": fault, "attack": attack, **shape}

    def measure(
        self, model: EvaluatedModel, data: Dataset, *, level: float, trial: int, seed: int
    ) -> Tally:
        """Return how many images one chip still classifies right; none on floats."""
        if not isinstance(model, IntegerModel):
            return Tally(0, 0)
        chip = make_generator(seed, "chip", trial)
        broken = model.on_chip(self.fault, generator=chip)
        images, attack = first(data, self.images), self.attack.at(level)
        blocks = range(-(-len(images) // BLOCK))
        found = total(
            [attack_block(attack, broken, images, trial=block, seed=seed) for block in blocks]
        )
        return replace(found, right=None)

    def rows(self, counts: Counts) -> list[Row]:
        """Return mean, spread and worst chip at each radius; nothing of a float model."""
        if not any(total(trials).total for trials in counts.values()):
            return []
        return spread_rows(self.title, {level: counts[level] for level in self.levels})

    def warnings(self, counts: Counts, others: Mapping[str, Counts], data: Dataset) -> list[str]:  # noqa: ARG002
        """Return what looks like masked gradients: broken words can saturate a network."""
        return rising_accuracy(self.levels, counts)
