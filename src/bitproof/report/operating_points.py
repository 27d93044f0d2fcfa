"""How low the voltage may go for each network of a run, and what that saves.

Model:  as `stats.energy` and `stats.voltage` have it. Energy is that of an access to a word of the
        network's memory, relative to an access at the lowest voltage without errors. What
        protections store is moved with each access (SECDED (72, 64): 12.5 % more), and decoding
        it takes energy if that is given. If weight traffic is counted, energy is taken per weight
        instead, in units of 8-bit words: that holds only where reading weights dominates.
Source: METHODS E.6 and E.7.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bitproof.core.errors import DataError, SpecError, near, shorten
from bitproof.core.types import MOST
from bitproof.report.fault_counts import (
    CleanCount,
    FaultCounts,
    RateThreat,
    Unmeasured,
    clean_count,
    fault_counts,
)
from bitproof.report.run import Run
from bitproof.stats.energy import (
    AccessCost,
    SafeRate,
    safe_rate,
    secded_bits,
    storage_of_secded,
)
from bitproof.stats.intervals import Interval
from bitproof.stats.voltage import PUBLISHED, VoltageTable

MAX_DROP = 0.01
"""Loss of accuracy that pages allow, as a fraction."""
WORD_BITS = 8
"""Words that weight traffic is measured in."""
SECDED = "secded"
OVERHEADS: dict[str, Callable[[dict[str, Any], int], float]] = {
    SECDED: lambda each, bits: storage_of_secded(each["data_bits"], word_bits=bits) - 1,
    "parity": lambda _, bits: 1 / bits,
    "signatures": lambda each, bits: each["bits"] / (each["words"] * bits),
    "triple_modular": lambda _, _bits: 2.0,
    "ranger": lambda _, _bits: 0.0,
    "ft_clip_act": lambda _, _bits: 0.0,
}
"""Bits that a protection stores for each bit of words of a width, by its kind."""


@dataclass(frozen=True)
class EnergyQuestion:
    """What is asked of each network.

    Example:
        >>> EnergyQuestion(max_drop=1.5)
        Traceback (most recent call last):
        bitproof.core.errors.SpecError: max_drop: wanted a fraction from 0 to 1, got 1.5
    """

    max_drop: float = MAX_DROP
    """Largest loss of mean accuracy, as a fraction."""
    against: str | None = None
    """The network whose clean accuracy losses are counted from; None: each its own."""
    table: VoltageTable = PUBLISHED
    weight_traffic: bool = False
    """Count energy per weight, in units of 8-bit words."""
    decoder: float = 0.0
    """Energy of decoding an access with check bits, in units of an access without errors."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop <= 1:
            raise SpecError(f"max_drop: wanted a fraction from 0 to 1, got {self.max_drop:g}")
        if not 0 <= self.decoder <= MOST:
            raise SpecError(f"decoder: wanted an energy of 0 or more, got {self.decoder:g}")


@dataclass(frozen=True)
class OperatingPoint:
    """The lowest safe voltage of one network under one threat, and what it saves."""

    counts: FaultCounts
    cost: AccessCost
    clean: CleanCount
    rate: SafeRate
    against: str | None
    """The network whose clean accuracy counts, if it is another one."""
    levels: tuple[float, ...]
    """Rates that the table of voltages has."""

    @property
    def variant(self) -> str:
        """The network."""
        return self.counts.variant

    @property
    def threat(self) -> str:
        """The threat, as results call it."""
        return self.counts.threat.title

    @property
    def voltage(self) -> Interval:
        """The lowest safe voltage; the high end is the cautious answer."""
        return self.cost.voltages(self.rate.ber)

    @property
    def saved(self) -> Interval:
        """The share of energy saved there."""
        return self.cost.saved(self.rate.ber)

    @property
    def code_bits(self) -> int | None:
        """Bits of a SECDED code word; None without one."""
        secded = _secded(self.counts.threat)
        return None if secded is None else secded_bits(secded["data_bits"])

    @property
    def lowest(self) -> tuple[float, float]:
        """The voltage of the lowest rate measured, and the share of energy saved there."""
        voltage = self.cost.table.voltage_at(self.levels[0])
        return voltage, 1 - self.cost.energy_at(voltage)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain values."""
        rate, threat = self.rate, self.counts.threat
        return {
            "variant": self.variant,
            "threat": self.threat,
            "protections": list(threat.protections),
            "bits": self.counts.bits,
            "verdict": rate.verdict,
            "ber": rate.ber._asdict(),
            "voltage": self.voltage._asdict(),
            "energy_saved": self.saved._asdict(),
            "acc": rate.acc,
            "drop": rate.drop,
            "clean": self.clean.acc,
            "storage": self.cost.storage,
            "decoder": self.cost.decoder,
            "chips": len(self.counts.accs),
            "images": self.counts.images,
            "clean_images": self.clean.images,
            "levels": list(self.levels),
        }


def operating_points(
    run: Run, question: EnergyQuestion, threats: Sequence[RateThreat]
) -> list[OperatingPoint | Unmeasured]:
    """Return the answer for every network under each threat, or why there is none yet.

    Raises:
        SpecError: the run has no network called `against`.
        DataError: the clean accuracy of `against` is not measured yet, a word width that is needed
            is not recorded, a protection is not known, or all rates are higher than those of the
            table of voltages.
    """
    return [
        answer(run, variant, threat, question) for threat in threats for variant in run.variants
    ]


def answer(
    run: Run, variant: str, threat: RateThreat, question: EnergyQuestion
) -> OperatingPoint | Unmeasured:
    """Return the answer for one network under one threat."""
    counts = fault_counts(run, variant, threat)
    if isinstance(counts, Unmeasured):
        return counts
    clean = clean_count(run, variant, images=counts.images)
    if clean is None:
        return Unmeasured(variant, threat, "the clean accuracy is missing")
    reference = clean
    if question.against is not None:
        reference = _reference(run, question.against, images=counts.images)
    cost = _cost(counts, question)
    levels = tuple(each for each in threat.levels if each <= cost.table.highest_ber)
    if not levels:
        raise DataError(
            f"{threat.title}: wanted a rate of at most {cost.table.highest_ber:g}, the highest "
            f"of the table of voltages, got {threat.levels[0]:g} and more"
        )
    rate = safe_rate(
        counts.accs[:, : len(levels)],
        levels,
        clean=clean.acc,
        max_drop=question.max_drop,
        reference=reference.acc,
        reference_error=_error(reference, counts.images),
    )
    return OperatingPoint(counts, cost, clean, rate, question.against, levels)


def _reference(run: Run, against: str, *, images: int) -> CleanCount:
    if against not in run.variants:
        raise SpecError(f"against: no network {shorten(against)}. {near(against, run.variants)}")
    found = clean_count(run, against, images=images)
    if found is None:
        raise DataError(f"against: the clean accuracy of {shorten(against)} is not measured yet")
    return found


def _cost(counts: FaultCounts, question: EnergyQuestion) -> AccessCost:
    """Return what an access of a network costs, with its check bits."""
    threat, bits = counts.threat, counts.bits
    if bits is None and (question.weight_traffic or threat.protections):
        raise DataError(f"{counts.variant}: the width of its words is not recorded")
    width = WORD_BITS if bits is None else bits
    overhead = sum(_overhead(threat.title, each, width) for each in threat.protections)
    return AccessCost(
        table=question.table,
        storage=(1 + overhead) * (width / WORD_BITS if question.weight_traffic else 1),
        decoder=question.decoder if overhead else 0.0,
    )


def _overhead(title: str, protection: dict[str, Any], bits: int) -> float:
    """Return the bits that a protection stores for each bit of a word."""
    kind = str(protection.get("kind"))
    if kind not in OVERHEADS:
        raise DataError(
            f"{title}: what {shorten(kind)} stores is not known. {near(kind, OVERHEADS)}"
        )
    try:
        return OVERHEADS[kind](protection, bits)
    except (KeyError, TypeError) as error:
        raise DataError(f"{title}: wanted all fields of {shorten(kind)}, without {error}") from None


def _secded(threat: RateThreat) -> dict[str, Any] | None:
    return next((each for each in threat.protections if each.get("kind") == SECDED), None)


def _error(reference: CleanCount, images: int) -> float:
    """Return the standard error of a reference: of two parts of one set, one holds the other."""
    variance = reference.acc * (1 - reference.acc)
    return math.sqrt(variance * abs(1 / images - 1 / reference.images))
