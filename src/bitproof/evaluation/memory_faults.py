"""Faults in stored bits, on fixed chips.

Model:  a chip is one draw of weak cells, the same for every network; with random flips it is
        nested in the bit error rate. The chip is the unit of intervals, because images that share
        a chip are not independent.

        With protections, the same chips break the same words, which the network reads through them,
        in their order. What they store beside the words, such as check bits, breaks as well; see
        `faults.memory`. What they find but cannot correct does not stop the network: the words are
        read as they are, and answers that happen to be right count as right. Accuracy where such a
        word means that the chip answers nothing (`acc_stop`) stands beside that.
Source: METHODS A.3 (metrics) and E.4.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bitproof.core.passes import Passes
from bitproof.core.rng import make_generator
from bitproof.core.types import Count, Rounds
from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import CountsWords, EvaluatedModel
from bitproof.evaluation.threat import (
    THREATS,
    Counts,
    Levels,
    Threat,
    at_most,
    check_trials,
    count,
    first,
    spread_rows,
)
from bitproof.faults import AnyFault, AnyProtection, RandomFlips, Site
from bitproof.metrics import Tally
from bitproof.stats import Row, mean_interval
from bitproof.stats.threats import ThreatLabel

PLURALS: dict[Site, str] = {"weight": "weights", "bias": "biases", "activation": "activations"}


WORDS = ("corrected", "detected", "silent")
"""What protections make of code words that broke."""


@THREATS.register
class MemoryFaults(Threat):
    """Break the memories of a network as a fault model says.

    Example:
        >>> MemoryFaults(levels=(1e-3, 1e-2), chips=20).title
        'random_flips'
    """

    kind: Literal["memory_faults"] = "memory_faults"
    fault: AnyFault = RandomFlips(ber=1e-2)
    """The fault model; its level (for random flips, `ber`) is replaced by each of `levels`."""
    levels: Levels = (1e-5, 1e-4, 1e-3, 1e-2)
    """Strengths, rising; for random flips bit error rates, as fractions."""
    chips: Rounds = 50
    """Draws of weak cells, the same for every network and level."""
    images: Count | None = 1000
    """Test images that each chip classifies, the first ones; None: all."""
    sites: tuple[Site, ...] = ("weight", "bias")
    """Memories that break: `weight`, `bias`, `activation`."""
    protections: Annotated[tuple[AnyProtection, ...], Field(max_length=100)] = ()
    """Hardware between memory and network, in this order. Bounds of activations are taken from
    training images."""

    @model_validator(mode="after")
    def _check_levels(self) -> "MemoryFaults":
        if "levels" not in self.model_fields_set and self.fault.level == "voltage":
            raise ValueError(
                f"levels: wanted them for {self.fault.kind}, the default ones are bit error rates"
            )
        check_trials(self.levels, self.chips)
        for level in self.levels:
            self.fault.at(level)
        return self

    @model_validator(mode="after")
    def _check_protections(self) -> "MemoryFaults":
        for one in self.protections if "activation" in self.sites else ():
            if "activation" in getattr(one, "sites", ()):
                raise ValueError(
                    f"protections: wanted '{one.kind}' without site 'activation': there, faults in "
                    "activations meet bounds alone"
                )
        return self

    @property
    def title(self) -> str:
        """What results call it: the kinds of fault and protections, unless `name` is given."""
        kinds = [self.fault.kind, *(one.kind for one in self.protections)]
        return self.name or "_".join(kinds)

    @property
    def label(self) -> ThreatLabel:
        """Return the label of the fault model, the memories if chosen, and the protections."""
        title = self.fault.label.title
        if self.sites != ("weight", "bias"):
            title += f" in {' and '.join(PLURALS[site] for site in self.sites)}"
        kinds = (one.kind.replace("_", " ") for one in self.protections)
        return replace(self.fault.label, title=" + ".join((title, *kinds)), unit="chip")

    def tasks(self, data: Dataset) -> list[tuple[float, int]]:  # noqa: ARG002
        """Return every chip at every level."""
        return [(level, chip) for level in self.levels for chip in range(self.chips)]

    @property
    def slowdown(self) -> float:
        """Return that activations break for each image anew."""
        return 2.0 if "activation" in self.sites else 1.0

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return the images of every chip at every level."""
        return Passes(len(self.levels) * self.chips * at_most(images, self.images))

    def identity(self, data: Dataset) -> dict[str, Any]:
        """Return what a chip's count depends on; not how many chips there are."""
        left_out = {"name", "levels", "chips", "images"}
        if not self.protections:
            left_out.add("protections")  # so that counts from before there were any are still found
        fixed = self.model_dump(mode="json", exclude=left_out)
        return {**fixed, "images": len(first(data, self.images))}

    def measure(
        self, model: EvaluatedModel, data: Dataset, *, level: float, trial: int, seed: int
    ) -> Tally:
        """Return how many images one chip classifies right."""
        chip = make_generator(seed, "chip", trial)
        images = first(data, self.images)
        if not (self.protections and isinstance(model, CountsWords)):
            broken = model.broken(
                self.fault.at(level), sites=self.sites, generator=chip, protections=self.protections
            )
            return count(broken, images)
        broken, words = model.broken_counted(
            self.fault.at(level), sites=self.sites, generator=chip, protections=self.protections
        )
        found = count(broken, images)
        if words is None:
            return found
        told = ((f"words_{name}", number) for name, number in asdict(words).items())
        return replace(found, others=(*found.others, *told))

    def first_images(self, data: Dataset) -> int | None:
        """Return how many images each chip classifies."""
        return at_most(len(data), self.images)

    def rows(self, counts: Counts) -> list[Row]:
        """Return mean, spread and worst chip at each level, and the mean over all decades."""
        levels = {level: counts[level] for level in self.levels}
        rows = spread_rows(self.title, levels, area="auc_fr" if self.label.logarithmic else "")
        return rows + [row for level in self.levels for row in self._words(level, counts[level])]

    def _words(self, level: float, chips: Sequence[Tally]) -> list[Row]:
        """Return code words by what protections made of them, and accuracy if a chip stops.

        It stops, and answers nothing, where a word was found broken beyond repair. Words have rows
        behind one code alone: several would count the same ones, each in words of its own.
        """
        others = [dict(one.others) for one in chips]
        if not others or not all(f"words_{name}" in one for one in others for name in WORDS):
            return []  # nothing counts them, or counts are older than that
        stopped = [
            0.0 if one["words_detected"] else chip.acc
            for chip, one in zip(chips, others, strict=True)
        ]
        low, value, high = mean_interval(stopped)
        found = [Row("", self.title, level, "acc_stop", value, low, high, len(chips))]
        if sum(one.counts_words for one in self.protections) > 1:
            return found
        for name in WORDS:
            mean = fmean(one[f"words_{name}"] for one in others)
            found.append(
                Row("", self.title, level, f"words_{name}", mean, n=len(chips), unit="word")
            )
        return found
