"""How much of what single faults do a circuit stands, over all faults or block by block.

Model:  every fault counts once, also where several are one class; patterns count by their weight.
        With all patterns of all operands the shares are exact. Of a sample of patterns they are
        estimates; Wilson's interval then takes the patterns as trials, which is wide enough: faults
        share the patterns, so that there are no fewer of them than that.
Source: METHODS C.3 (coverage).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bitproof.circuits.net_faults import FaultEffect
from bitproof.stats.intervals import Interval, score_interval


@dataclass(frozen=True)
class Reliability:
    """Shares over faults and patterns; they add up to 1."""

    faults: int
    masked: float
    mitigated: float
    detected: float
    """Detected, and off by more than the tolerance."""
    silent: float
    mean_distance: float
    """Mean of |faulty - fault-free| over faults and patterns, in units of the product."""
    largest: int
    magnitudes: tuple[float, ...]
    """Shares of cases that are off by 1, by 2 to 3, by 4 to 7, and so on."""
    sampled: int | None
    """Patterns that were sampled; None: all there are."""

    @property
    def coverage(self) -> float:
        """Share of cases that are masked, or detected and mitigated."""
        return self.masked + self.mitigated

    @property
    def vulnerability(self) -> float:
        """Share of cases that go wrong without being mitigated."""
        return self.detected + self.silent

    @property
    def interval(self) -> Interval:
        """Coverage between the ends of its 95 % interval; of no width where all was simulated."""
        if self.sampled is None:
            return Interval(self.coverage, self.coverage, self.coverage)
        return score_interval(min(1.0, self.coverage), float(self.sampled))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `low` and `high` are None where nothing was sampled."""
        low, _, high = self.interval
        ends = {"low": low, "high": high} if self.sampled else {"low": None, "high": None}
        shares = {"coverage": self.coverage, "vulnerability": self.vulnerability}
        return {**vars(self), **shares, **ends}


def summarize(effects: Sequence[FaultEffect], *, sampled: int | None = None) -> Reliability | None:
    """Return the sum of effects; None of none.

    Example:
        >>> from bitproof.circuits.net_faults import NetFault
        >>> fault = NetFault(2, "stuck0")
        >>> half = FaultEffect(fault, 3, {"adder": 3}, 0.5, 0.25, 0.0, 0.25, 8.0, 64)
        >>> none = FaultEffect(fault, 1, {"adder": 1}, 1.0, 0.0, 0.0, 0.0, 0.0, 0)
        >>> summarize([half, none]).coverage
        0.8125
    """
    faults = sum(each.members for each in effects)
    if not faults:
        return None

    def mean(values: Iterable[float]) -> float:
        pairs = zip(effects, values, strict=True)
        return sum(each.members * value for each, value in pairs) / faults

    return Reliability(
        faults,
        mean(each.masked for each in effects),
        mean(each.mitigated for each in effects),
        mean(each.detected for each in effects),
        mean(each.silent for each in effects),
        mean(each.mean_distance for each in effects),
        max(each.largest for each in effects),
        tuple(mean(own) for own in zip(*(each.magnitudes for each in effects), strict=True)),
        sampled,
    )


def by_block(
    effects: Iterable[FaultEffect], *, sampled: int | None = None
) -> Mapping[str, Reliability]:
    """Return the reliability of each block, in the order in which they come."""
    blocks: dict[str, list[FaultEffect]] = {}
    for each in effects:
        for block, members in each.blocks.items():
            blocks.setdefault(block, []).append(replace(each, members=members))
    found = {name: summarize(own, sampled=sampled) for name, own in blocks.items()}
    return {name: one for name, one in found.items() if one is not None}
