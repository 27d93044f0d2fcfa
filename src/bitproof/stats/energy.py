"""How low the voltage of a memory may go, and what that saves.

Model:  accuracy is measured on chips at a few bit error rates. Between two of them the mean over
        chips is linear in log10 of the rate, and never rises with it: at each rate the largest
        loss at that rate or any lower one counts. Chips are drawn independently; a chip is the
        same at all rates, so that whole chips are drawn again for the interval. Images are taken
        as given. Nothing is said of rates above the highest measured, nor below the lowest but
        that a rate of 0 loses nothing.
Source: METHODS E.6 (voltage, rate, energy) and E.7 (SECDED). Interval: expanded percentiles of
        Hesterberg, "What Teachers Should Know about the Bootstrap", The American Statistician
        2015, which make up for the bootstrap's narrowness with few chips.

Where a few chips lose most, no interval from few chips is cautious enough. With lognormal severity
(sigma 0.8), the end that ought to be safe in 97.5 of 100 repetitions is safe in 95 with 50 chips,
and in 86 to 93 with 5 to 20; with sigma 0.3, in 95 to 99.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from jaxtyping import Float

from bitproof.core.errors import SpecError
from bitproof.core.spec import Spec
from bitproof.core.types import NonNegative, Positive
from bitproof.stats.intervals import Interval
from bitproof.stats.voltage import PUBLISHED, VoltageTable

RESAMPLES = 10_000
CONFIDENCE = 0.95
TINY = 1e-9
"""Losses that differ by less are equal: differences of fractions are not exact."""
Verdict = Literal["found", "all_safe", "none_safe", "clean_unsafe"]
"""Where the limit lies: among the measured rates, above all, below all, or not even at rate 0."""


@dataclass(frozen=True)
class SafeRate:
    """The highest bit error rate at which a network loses no more than allowed."""

    verdict: Verdict
    ber: Interval
    """With its 95 % interval between chips; 0 where no measured rate is safe. Where all are, the
    highest of them, and the limit lies above. The low end is the cautious answer."""
    acc: float
    """Mean accuracy there; where no rate is safe, at the lowest one measured."""
    drop: float
    """How far that lies below the reference, as a fraction."""


def safe_rate(
    accs: Float[np.ndarray, "chips levels"],
    levels: Sequence[float],
    *,
    clean: float,
    max_drop: float,
    reference: float | None = None,
    reference_error: float = 0.0,
    seed: int = 0,
) -> SafeRate:
    """Return the highest bit error rate at which the mean accuracy falls by `max_drop` at most.

    Args:
        accs: the accuracy of each chip at each level, as fractions.
        levels: bit error rates, rising, above 0.
        clean: accuracy of the same network without bit errors.
        max_drop: largest loss allowed, as a fraction (one point is 0.01).
        reference: accuracy that losses are counted from; `clean`, if None.
        reference_error: standard error of the reference, where it was measured on other images
            than the chips; part of the interval.
        seed: of the chips that are drawn again.

    Raises:
        SpecError: there is no chip or level, levels do not rise, an accuracy is no fraction, or
            the loss is negative.

    Example:
        >>> accs = np.array([[0.90, 0.88, 0.70], [0.90, 0.88, 0.70]])
        >>> found = safe_rate(accs, [1e-4, 1e-3, 1e-2], clean=0.9, max_drop=0.11)
        >>> found.verdict, round(found.ber.value, 6), round(found.acc, 6)
        ('found', 0.003162, 0.79)
    """
    _check(accs, levels, max_drop)
    reference = clean if reference is None else reference
    if reference - clean > max_drop + TINY:
        return SafeRate("clean_unsafe", Interval(0.0, 0.0, 0.0), clean, reference - clean)
    drops = np.maximum.accumulate(reference - accs.mean(0))
    value = float(_highest(drops[None], levels, max_drop)[0])
    verdict: Verdict = "found"
    drop = max_drop
    if drops[0] > max_drop + TINY:
        verdict, drop = "none_safe", float(drops[0])
    elif drops[-1] <= max_drop + TINY:
        verdict, drop = "all_safe", float(drops[-1])
    low, high = _ends(accs, levels, reference, reference_error, max_drop=max_drop, seed=seed)
    ends = Interval(min(low, value), value, max(high, value))
    return SafeRate(verdict, ends, reference - drop, drop)


class AccessCost(Spec):
    """What an access to a memory takes at a voltage, in units of one at V_min.

    Example:
        >>> cost = AccessCost(storage=storage_of_secded())
        >>> cost.energy_at(1.0)
        1.125
        >>> [round(end, 3) for end in cost.saved(Interval(0.0, 0.001, 0.01))]
        [-0.125, 0.132, 0.215]
    """

    table: VoltageTable = PUBLISHED
    """Rates and energies by voltage."""
    storage: Positive = 1.0
    """Bits that are moved for each bit of the words that count as 1: check bits more, narrow words
    less."""
    decoder: NonNegative = 0.0
    """Energy of decoding an access, in the same units; logic keeps its voltage."""

    def energy_at(self, voltage: float) -> float:
        """Return the energy of an access.

        Raises:
            SpecError: the voltage lies outside the table.
        """
        return self.storage * self.table.energy_at(voltage) + self.decoder

    def voltages(self, ber: Interval) -> Interval:
        """Return the voltage of a rate, from that of its high end to that of its low end."""
        return Interval(*(self.table.voltage_at(end) for end in reversed(ber)))

    def saved(self, ber: Interval) -> Interval:
        """Return the share of energy that is saved at a rate; negative where more is spent."""
        return Interval(*(1 - self.energy_at(self.table.voltage_at(end)) for end in ber))


def failing_words(ber: float, *, bits: int = 72) -> float:
    """Return how often a word that corrects one bit fails: two bits or more of it flip.

    Args:
        ber: bit error rate, of check bits as well.
        bits: data and check bits of the word.

    Example:
        >>> round(failing_words(0.01), 4), round(failing_words(0.001), 5)
        (0.1623, 0.00244)
    """
    if not 0 <= ber <= 1:
        raise SpecError(f"ber: wanted a fraction, got {ber:g}")
    # The sum keeps its digits where 1 - P(0) - P(1) would lose them.
    return sum(math.comb(bits, k) * ber**k * (1 - ber) ** (bits - k) for k in range(2, bits + 1))


def secded_bits(data_bits: int = 64) -> int:
    """Return the bits of a word that corrects one error and detects two, check bits included.

    Example:
        >>> secded_bits(64), secded_bits(32)
        (72, 39)
    """
    checks = 3
    while 2 ** (checks - 1) - checks < data_bits:
        checks += 1
    return data_bits + checks


def storage_of_secded(data_bits: int = 64, *, word_bits: int = 8) -> float:
    """Return how many bits SECDED keeps for each bit of the words, which lie in it whole.

    Example:
        >>> storage_of_secded(), storage_of_secded(word_bits=6)
        (1.125, 1.2)
    """
    if not 1 <= word_bits <= data_bits:
        raise SpecError(f"word_bits: wanted 1 to {data_bits}, got {word_bits}")
    return secded_bits(data_bits) / (data_bits // word_bits * word_bits)


def _check(
    accs: Float[np.ndarray, "chips levels"], levels: Sequence[float], max_drop: float
) -> None:
    if not accs.size or accs.shape[1] != len(levels):
        raise SpecError(
            f"accs: wanted chips at each of {len(levels)} levels, got shape {accs.shape}"
        )
    if not ((accs >= 0) & (accs <= 1)).all():
        raise SpecError("accs: wanted fractions from 0 to 1")
    if levels[0] <= 0 or (np.diff(levels) <= 0).any():
        raise SpecError(f"levels: wanted rates above 0 that rise, got {list(levels)}")
    if not 0 <= max_drop <= 1:
        raise SpecError(f"max_drop: wanted a fraction from 0 to 1, got {max_drop:g}")


def _ends(
    accs: Float[np.ndarray, "chips levels"],
    levels: Sequence[float],
    reference: float,
    reference_error: float,
    *,
    max_drop: float,
    seed: int,
) -> tuple[float, float]:
    """Return the ends of the interval; one chip alone tells nothing."""
    chips = len(accs)
    if chips < 2:
        return 0.0, levels[-1]
    source = np.random.Generator(np.random.PCG64(seed))
    times = source.multinomial(chips, np.full(chips, 1 / chips), size=RESAMPLES)
    references = reference + reference_error * source.standard_normal(RESAMPLES)
    means = times @ accs / chips
    drops = np.maximum.accumulate(references[:, None] - means, axis=1)
    found = _highest(drops, levels, max_drop)
    tail = _tail(chips)
    low = np.quantile(found, tail, method="lower")
    high = np.quantile(found, 1 - tail, method="higher")
    return float(low), float(high)


def _highest(
    drops: Float[np.ndarray, "n levels"], levels: Sequence[float], max_drop: float
) -> Float[np.ndarray, " n"]:
    """Return the rate at which each line of losses, none of which falls, passes `max_drop`."""
    n_safe = (drops <= max_drop + TINY).sum(1)
    left = np.maximum(n_safe - 1, 0)
    ahead = np.column_stack([drops, np.full(len(drops), np.inf)])
    lines = np.arange(len(drops))
    before, after = ahead[lines, left], ahead[lines, left + 1]
    step = np.where(n_safe > 0, after - before, 1.0)
    share = np.clip((max_drop - before) / step, 0.0, 1.0)
    starts = np.array(levels)
    ratios = np.append(starts[1:] / starts[:-1], 1.0)
    return np.where(n_safe > 0, starts[left] * ratios[left] ** share, 0.0)


def _tail(chips: int) -> float:
    """Return which share of the resamples is cut off at each end: less than 2.5 % for few chips."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import

    wide = math.sqrt(chips / (chips - 1)) * float(stdtrit(chips - 1, (1 + CONFIDENCE) / 2))
    return NormalDist().cdf(-wide)
