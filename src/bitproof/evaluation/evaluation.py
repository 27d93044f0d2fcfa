"""Accuracy without faults, under bit errors on fixed chips, and under attack.

Model:  a chip is one draw of weak cells, the same for every network and nested in the bit error
        rate. Attacks are white box through the network that is measured. Images of the attack are
        worked on in blocks of fixed size, each with its own generator, so that results depend
        neither on interruptions nor on the machine's batch size.
Source: METHODS A.3 (metrics), E.4 and G.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator

from bitproof.attacks import ATTACKS, InputAttack, LinfPGD, LinfSquare
from bitproof.core.progress import SILENT, Progress
from bitproof.core.rng import make_generator
from bitproof.core.spec import Spec
from bitproof.core.stop_request import StopRequest
from bitproof.core.types import Count, Index, Positive, Seed
from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import Classifier, EvaluatedModel
from bitproof.evaluation.store import Key, TallyStore
from bitproof.faults import RandomFlips, Site
from bitproof.metrics import Tally, tally

BATCH = 128
"""Images that run at once."""
BLOCK = 100
"""Images of one attack measurement; part of what a result means, like a seed."""
HUGE = 0.5
"""A change of every pixel that must bring every network to chance, input units."""

AnyAttack = Annotated[SerializeAsAny[InputAttack], BeforeValidator(ATTACKS.validate)]
Ber = Annotated[float, Field(gt=0.0, le=1.0)]


class Evaluation(Spec):
    """What is measured on every network."""

    clean_images: Count | None = None
    """Test images for clean accuracy; None: all."""
    bers: tuple[Ber, ...] = (1e-5, 1e-4, 1e-3, 1e-2)
    """Bit error rates, as fractions, rising."""
    chips: Count = 50
    """Draws of weak cells, the same for every network and rate."""
    fault_images: Count | None = 1000
    """Test images that each chip classifies; None: all."""
    sites: tuple[Site, ...] = ("weight", "bias")
    """Memories that break: `weight`, `bias`, `activation`."""
    attack: AnyAttack = LinfPGD(epsilon=8 / 255)
    """The attack; its `epsilon` is replaced by each of `epsilons`."""
    epsilons: tuple[Positive, ...] = (2 / 255, 4 / 255, 8 / 255)
    """Perturbation radii, input units, rising."""
    attack_images: Count | None = 500
    """Test images that are attacked; None: all."""
    square_queries: Index = 200
    """Queries of the black-box attack that checks for masked gradients, where `attack` moves in
    the L-infinity ball; 0: no check."""
    seed: Seed = 0
    """Root of chips and of random starts."""

    @field_validator("bers", "epsilons")
    @classmethod
    def _check_rising(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if any(high <= low for low, high in pairwise(levels)):
            raise ValueError(f"wanted rising levels, each once, got {list(levels)}")
        return levels

    def measure(
        self,
        variant: str,
        model: EvaluatedModel,
        data: Dataset,
        *,
        store: TallyStore,
        progress: Progress = SILENT,
        stop: StopRequest | None = None,
    ) -> None:
        """Fill `store` with whatever it lacks on one network.

        Args:
            variant: the name that results will carry.
            model: the network.
            data: test images, on its device.
            store: holds what is finished already.
            progress: who watches.
            stop: asked before each measurement.

        Raises:
            StoppedError: asked to stop; what is finished is in the store.
        """
        wanted = [key for key in self.keys(variant, data) if store.get(key) is None]
        for key in progress.track(wanted, label=f"evaluate {variant}", total=len(wanted)):
            if stop:
                stop.check()
            store.add(key, self._measure(key, model, data))

    def keys(self, variant: str, data: Dataset) -> list[Key]:
        """Return the keys of all measurements on one network, in order."""
        return list(dict.fromkeys(self._keys(variant, data)))

    def huge(self, data: Dataset) -> float:
        """Return a radius of the attack that must bring every network to chance."""
        pixels = data.images[0].numel()
        return HUGE if self.attack.ball == "Linf" else HUGE * pixels**0.5

    def checks_queries(self) -> bool:
        """Whether a black-box attack is compared; that one moves in the L-infinity ball."""
        return self.square_queries > 0 and self.attack.ball == "Linf"

    def _keys(self, variant: str, data: Dataset) -> Iterator[Key]:
        yield (variant, "none", 0.0, 0)
        for ber in self.bers:
            for chip in range(self.chips):
                yield (variant, "random_flips", ber, chip)
        blocks = -(-_size(self.attack_images, data) // BLOCK)
        for epsilon in self.epsilons:
            for block in range(blocks):
                yield (variant, self.attack.kind, epsilon, block)
        if self.epsilons:
            yield (variant, self.attack.kind, self.huge(data), 0)
        if self.checks_queries():
            for epsilon in self.epsilons:
                yield (variant, "linf_square", epsilon, 0)

    def _measure(self, key: Key, model: EvaluatedModel, data: Dataset) -> Tally:
        _, threat, level, trial = key
        if threat == "none":
            return count(model.predict, data.first(_size(self.clean_images, data)))
        if threat == "random_flips":
            fault = RandomFlips(ber=level)
            chip = make_generator(self.seed, "chip", trial)
            broken = model.broken(fault, sites=self.sites, generator=chip)
            return count(broken, data.first(_size(self.fault_images, data)))
        size = _size(self.attack_images, data)
        block = data.subset(torch.arange(trial * BLOCK, min((trial + 1) * BLOCK, size)))
        attack = (
            LinfSquare(epsilon=level, queries=self.square_queries)
            if threat == "linf_square" and self.attack.kind != "linf_square"
            else self.attack.at(level)
        )
        starts = make_generator(self.seed, "attack", trial)
        inputs = block.inputs()
        found = attack.run(model.differentiable, inputs, block.labels, generator=starts)
        return tally(model.predict(found), block.labels)


def count(classifier: Classifier, data: Dataset) -> Tally:
    """Return how many images of `data` are classified right."""
    total = Tally(0, 0)
    for index in torch.split(torch.arange(len(data)), BATCH):
        inputs = data.inputs(index.to(data.labels.device))
        total += tally(classifier(inputs), data.labels[index.to(data.labels.device)])
    return total


def _size(wanted: int | None, data: Dataset) -> int:
    return len(data) if wanted is None else min(wanted, len(data))
