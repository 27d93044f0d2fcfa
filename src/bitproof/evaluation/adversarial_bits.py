"""Accuracy after a weight attack: chosen bits of the stored weights are flipped.

Model:  white box, on the integer network that is measured. The attacker's images are the last of
        the test set, in batches that share none; the images that are classified are the first, and
        never the attacker's. A batch is a trial: the flips found from it make one network, so it is
        the unit of intervals. The worst batch is told beside the mean. A float model stores no
        integer words: nothing is measured of it, and it has no rows.
Source: Rakin et al., ICCV 2019; Stutz et al., TPAMI 2022; METHODS E.8.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import numpy as np
from pydantic import model_validator

from bitproof.core.errors import DataError, SpecError
from bitproof.core.passes import Passes
from bitproof.core.rng import make_generator
from bitproof.core.types import Count, Rounds
from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import EvaluatedModel, IntegerModel
from bitproof.evaluation.threat import (
    THREATS,
    Counts,
    Levels,
    Threat,
    at_most,
    count,
    spread_rows,
    total,
)
from bitproof.faults import AnyWeightAttack, FaultTable, ProgressiveBitSearch, with_flips
from bitproof.metrics import Classification, Tally
from bitproof.quant.network import IntegerNetwork
from bitproof.stats import Row
from bitproof.stats.threats import ThreatLabel

SLACK = 0.03
"""Difference of accuracies that is called noise."""


@THREATS.register
class AdversarialBitErrors(Threat):
    """Flip chosen bits of stored weights, as a weight attack finds them.

    Example:
        >>> AdversarialBitErrors(levels=(10, 20), batches=3).title
        'progressive_bit_search'
    """

    integers_only: ClassVar[bool] = True

    kind: Literal["adversarial_bit_errors"] = "adversarial_bit_errors"
    attack: AnyWeightAttack = ProgressiveBitSearch()
    """The attack; its `n_flips` is replaced by each of `levels`."""
    levels: Levels = (5.0, 10.0, 20.0)
    """Numbers of flips, rising."""
    batches: Rounds = 5
    """Batches of attack images, from the end of the test set; each is a trial."""
    attack_images: Count = 128
    """Images of a batch."""
    images: Count | None = 1000
    """Test images that are classified, the first ones; None: all that no batch holds."""

    @model_validator(mode="after")
    def _check_levels(self) -> "AdversarialBitErrors":
        for level in self.levels:
            if level != int(level):
                raise ValueError(f"levels: wanted whole numbers of flips, got {level:g}")
            self.attack.at(int(level))
        return self

    @property
    def title(self) -> str:
        """What results call it: the kind of attack, unless `name` says otherwise."""
        return self.name or self.attack.kind

    @property
    def label(self) -> ThreatLabel:
        """Return the label of the attack."""
        return replace(self.attack.label, unit="batch")

    def check(self, data: Dataset) -> None:
        """Refuse tasks other than classification, whose loss weight attacks climb."""
        if data.task is not None and not isinstance(data.task, Classification):
            raise SpecError(f"{self.title}: wanted a classification, got task '{data.task.kind}'")

    def tasks(self, data: Dataset) -> list[tuple[float, int]]:
        """Return every batch at every number of flips.

        Raises:
            DataError: the attack images leave none to be classified.
        """
        self.classified(data)
        return [(level, batch) for level in self.levels for batch in range(self.batches)]

    def passes(self, images: int, *, layers: int) -> Passes:
        """Return what the attack takes on each batch, and all images after each number of flips."""
        levels = self.levels[-1:] if self.attack.nested else self.levels
        searches = sum((self.attack.at(int(n)).passes(layers) for n in levels), Passes())
        left = max(0, images - self.batches * self.attack_images)
        counted = Passes(len(self.levels) * at_most(left, self.images))
        return self.batches * (self.attack_images * searches + counted)

    def identity(self, data: Dataset) -> dict[str, Any]:
        """Return the attack, the size of batches, and where the classified images end."""
        attack = self.attack.at(1).model_dump(mode="json")
        return {
            "attack": attack,
            "attack_images": self.attack_images,
            "images": len(self.classified(data)),
        }

    def measure(
        self, model: EvaluatedModel, data: Dataset, *, level: float, trial: int, seed: int
    ) -> Tally:
        """Return how many images are classified right after the flips of one batch; none on floats.

        Raises:
            DataError: the attack finds no image that it needs.
        """
        if not isinstance(model, IntegerModel):
            return Tally(0, 0)
        flips = self.flips(model.network, data, n_flips=int(level), trial=trial, seed=seed)
        return count(with_flips(model.network, flips), self.classified(data))

    def flips(
        self, network: IntegerNetwork, data: Dataset, *, n_flips: int, trial: int, seed: int
    ) -> FaultTable:
        """Return the flips that the attack finds from one batch; they depend on no other level."""
        most = int(max((*self.levels, n_flips))) if self.attack.nested else n_flips
        attack, batch = self.attack.at(most), self.batch(data, trial)
        key = (attack.digest(), batch.digest(), trial, seed)
        known = _FLIPS.setdefault(network, {})
        if key not in known:
            known[key] = attack.choose_bits(
                network,
                batch.inputs(),
                batch.labels,
                generator=make_generator(seed, "bit errors", trial),
            )
        found = known[key]
        return found.select(np.arange(min(n_flips, len(found))))

    def batch(self, data: Dataset, number: int) -> Dataset:
        """Return a batch of the attacker's images; the first batch holds the last images."""
        end = len(data) - number * self.attack_images
        return data.subset(range(end - self.attack_images, end))

    def classified(self, data: Dataset) -> Dataset:
        """Return the images that are classified.

        Raises:
            DataError: the attack images leave none.
        """
        left = len(data) - self.batches * self.attack_images
        if left < 1:
            raise DataError(
                f"{self.title}: wanted more than {self.batches * self.attack_images} test images "
                f"({self.batches} batches of {self.attack_images} attack images, and others to "
                f"classify), got {len(data)}"
            )
        return data.first(left if self.images is None else min(left, self.images))

    def rows(self, counts: Counts) -> list[Row]:
        """Return mean, spread and worst batch at each number of flips; nothing of a float model."""
        if not any(total(trials).total for trials in counts.values()):
            return []
        return spread_rows(self.title, {level: counts[level] for level in self.levels})

    def warnings(self, counts: Counts, others: Mapping[str, Counts], data: Dataset) -> list[str]:  # noqa: ARG002
        """Return that a float model was not measured, or that more flips did less harm."""
        accs = [total(counts[level]) for level in self.levels]
        if accs and not accs[-1].total:
            return [f"{self.title} is not measured: it flips bits of integer words"]
        if accs and accs[-1].acc > accs[0].acc + SLACK:
            pairs = zip(self.levels, accs, strict=True)
            few, *_, many = (f"{tally.acc:.3f} at {level:g}" for level, tally in pairs)
            return [
                f"accuracy rises with flips under {self.title} ({few}, {many}); the attack is weak"
            ]
        return []


_FLIPS: WeakKeyDictionary[IntegerNetwork, dict[tuple[str, str, int, int], FaultTable]] = (
    WeakKeyDictionary()
)
"""What was found on networks that are still in use: levels of a nested attack share it."""
