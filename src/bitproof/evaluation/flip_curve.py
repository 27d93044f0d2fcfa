"""Accuracy after every flip of a weight attack, and how many flips it takes to reach chance.

Model:  chance is what a constant answer gets: the share of the most frequent class among the
        classified images. Flips are counted in the order in which a nested attack finds them; of an
        attack that finds all flips at once, only the end counts.
Source: METHODS E.8 (robustness is the number of flips to chance).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bitproof.data.dataset import Dataset
from bitproof.evaluation.adversarial_bits import AdversarialBitErrors
from bitproof.evaluation.tasks import ending_of, settle_task
from bitproof.evaluation.threat import count
from bitproof.faults import FaultTable, with_flips
from bitproof.metrics import Tally
from bitproof.quant.network import IntegerNetwork


@dataclass(frozen=True, eq=False)
class FlipCurve:
    """What the flips found from one batch of attack images do."""

    batch: int
    faults: FaultTable
    """The flips, as a trial of the number of the batch."""
    tallies: dict[int, Tally]
    """Right answers after each number of flips that was looked at, rising; 0 is without flips."""
    chance: float
    """Accuracy of the best constant answer, as a fraction."""

    @property
    def last(self) -> tuple[int, float]:
        """Return the largest number of flips that was looked at, and the accuracy there."""
        n_flips = max(self.tallies)
        return n_flips, self.tallies[n_flips].acc

    @property
    def to_chance(self) -> int | None:
        """Return the smallest number of flips with an accuracy not above chance; None: too few."""
        return next((n for n, tally in self.tallies.items() if tally.acc <= self.chance), None)


def flip_curves(
    network: IntegerNetwork, data: Dataset, threat: AdversarialBitErrors, *, seed: int = 0
) -> Iterator[FlipCurve]:
    """Yield what the attack of `threat`, with its own `n_flips`, does from each batch.

    No more flips are kept, nor looked at, than chance takes.

    Example:
        >>> import torch
        >>> from bitproof.quant import quantize
        >>> images = torch.rand(90, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> data = Dataset.from_arrays(images, images.flatten(1)[:, :3].argmax(1))
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> network = quantize(model, images)
        >>> threat = AdversarialBitErrors(batches=2, attack_images=20)
        >>> [curve.batch for curve in flip_curves(network, data, threat)]
        [0, 1]

    Raises:
        DataError: the attack images leave none to be classified, or lack what the attack needs.
        SpecError: the task is no classification.
    """
    data = settle_task(data, network, ending=ending_of(network.nodes))
    threat.check(data)
    classified, most = threat.classified(data), threat.attack.n_flips
    chance = float(classified.labels.bincount().max()) / len(classified)
    clean = count(network, classified)
    for batch in range(threat.batches):
        found = threat.flips(network, data, n_flips=most, trial=batch, seed=seed)
        tallies, broken = {0: clean}, network
        for n_flips in range(1, len(found) + 1) if clean.acc > chance else ():
            broken = with_flips(broken, _between(found, n_flips - 1, n_flips))
            if threat.attack.nested or n_flips == len(found):
                tallies[n_flips] = count(broken, classified)
                if tallies[n_flips].acc <= chance:
                    break
        kept = _between(found, 0, max(tallies))
        columns = ("site", "layer", "element", "tap", "bit", "action")
        faults = FaultTable.build(
            kept.layers,
            batch + 1,
            trial=kept.trial + batch,
            **{name: getattr(kept, name) for name in columns},
        )
        yield FlipCurve(batch, faults, tallies, chance)


def join_faults(curves: list[FlipCurve]) -> FaultTable:
    """Return the flips of all batches as one list, a trial for each batch."""
    rows = [row for curve in curves for row in curve.faults.rows()]
    layers = curves[0].faults.layers
    return FaultTable.from_rows(rows, layers=layers, n_trials=len(curves))


def _between(faults: FaultTable, first: int, last: int) -> FaultTable:
    return faults.select(np.arange(first, last))
