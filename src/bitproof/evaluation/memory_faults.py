"""Faults in stored bits, on fixed chips.

Model:  a chip is one draw of weak cells, the same for every network; with random flips it is
        nested in the bit error rate. The chip is the unit of intervals, because images that share
        a chip are not independent.

        With protections, the same chips break the same words, which the network reads through them,
        in their order. What they store beside the words, such as check bits, breaks as well; see
        `faults.memory`. What they find but cannot correct does not stop the network: the words are
        read as they are, and answers that happen to be right count as right.
Source: METHODS A.3 (metrics) and E.4.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bitproof.core.passes import Passes
from bitproof.core.rng import make_generator
from bitproof.core.types import Count, Rounds
from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import EvaluatedModel
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
from bitproof.stats import Row
from bitproof.stats.threats import ThreatLabel

PLURALS: dict[Site, str] = {"weight": "weights", "bias": "biases", "activation": "activations"}


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
        return replace(self.fault.label, title=" + ".join((title, *kinds)))

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
        broken = model.broken(
            self.fault.at(level), sites=self.sites, generator=chip, protections=self.protections
        )
        return count(broken, first(data, self.images))

    def rows(self, counts: Counts) -> list[Row]:
        """Return mean, spread and worst chip at each level, and the mean over all decades."""
        levels = {level: counts[level] for level in self.levels}
        return spread_rows(self.title, levels, area="auc_fr" if self.label.logarithmic else "")
