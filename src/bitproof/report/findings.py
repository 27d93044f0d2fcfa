"""What a run shows: gains over the baseline, and whether the asymmetry claim holds.

Model:  the interval of a difference combines the two intervals as if the measurements were
        independent. They share images and chips, so it is wider than needed, as a rule.
Source: Newcombe, "Interval estimation for the difference between independent proportions",
        Statistics in Medicine 17, 1998 (hybrid score interval, here for any pair of intervals).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bitproof.report.run import FLOAT, Run, parts
from bitproof.report.threats import family
from bitproof.stats.results import Row


@dataclass(frozen=True)
class Change:
    """The difference of two measured rates, as a fraction, with a 95 % interval if known."""

    before: Row
    after: Row
    value: float
    low: float | None
    high: float | None

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes zero, else 0: no clear change."""
        if self.low is None or self.high is None:
            return 0
        return (self.low > 0) - (self.high < 0)


def change(before: Row | None, after: Row | None) -> Change | None:
    """Return how much `after` lies above `before`; None where one is missing."""
    if before is None or after is None:
        return None
    value = after.value - before.value
    bounds = (before.ci_low, before.ci_high, after.ci_low, after.ci_high)
    if any(bound is None for bound in bounds):
        return Change(before, after, value, None, None)
    before_low, before_high, after_low, after_high = (float(bound or 0.0) for bound in bounds)
    down = math.hypot(after.value - after_low, before_high - before.value)
    up = math.hypot(after_high - after.value, before.value - before_low)
    return Change(before, after, value, value - down, value + up)


def focus_level(levels: Sequence[float]) -> float | None:
    """Return the level that headline and matrix use: the middle one of those above zero.

    Of two middle levels it is the higher. The rule looks at no result, so it cannot flatter.

    Example:
        >>> focus_level([0.0, 1e-4, 1e-3, 1e-2])
        0.001
    """
    positive = sorted(level for level in levels if level > 0)
    return positive[len(positive) // 2] if positive else None


@dataclass(frozen=True)
class Gain:
    """What one variant gains over the baseline under one threat."""

    threat: str
    level: float
    at_level: Change
    smallest: float
    largest: float
    n_levels: int


def gain(run: Run, variant: str, threat: str) -> Gain | None:
    """Return the gain of `variant` under `threat`; None where it was not measured."""
    level = focus_level(run.levels(threat))
    if level is None:
        return None
    changes = changes_by_level(run, variant, threat)
    if level not in changes:
        return None
    values = [each.value for each in changes.values()]
    return Gain(threat, level, changes[level], min(values), max(values), len(values))


def changes_by_level(run: Run, variant: str, threat: str) -> dict[float, Change]:
    """Return the change against the baseline at each level above zero where both are known."""
    base = run.facts.baseline
    pairs = (
        (level, change(run.find(base, threat, level), run.find(variant, threat, level)))
        for level in run.levels(threat)
        if level > 0
    )
    return {level: each for level, each in pairs if each is not None}


def main_threat(run: Run, wanted: str) -> str | None:
    """Return the first threat of a family (`fault`, `attack`), None without any."""
    return next((threat for threat in run.threats if family(threat) == wanted), None)


@dataclass(frozen=True)
class MatrixLine:
    """One variant of the asymmetry matrix; no changes where it is the baseline."""

    variant: str
    rows: tuple[Row | None, ...]
    changes: tuple[Change | None, ...]


@dataclass(frozen=True)
class Matrix:
    """Changes against the baseline: clean, then each threat at its focus level."""

    columns: tuple[tuple[str, float], ...]
    lines: tuple[MatrixLine, ...]


def matrix(run: Run, variants: Sequence[str]) -> Matrix:
    """Return the asymmetry matrix: baseline first, then the other quantized variants in order."""
    levels = ((threat, focus_level(run.levels(threat))) for threat in run.threats)
    columns = tuple((threat, level) for threat, level in levels if level is not None)
    base = _measured(run, run.facts.baseline, columns)
    lines = [MatrixLine(run.facts.baseline, base, tuple(None for _ in base))]
    for variant in variants:
        if variant in {FLOAT, run.facts.baseline}:
            continue
        rows = _measured(run, variant, columns)
        changes = tuple(change(*pair) for pair in zip(base, rows, strict=True))
        lines.append(MatrixLine(variant, rows, changes))
    return Matrix(columns, tuple(lines))


@dataclass(frozen=True)
class Asymmetry:
    """How often each single stage raised the accuracy that it was not made for."""

    fault_aware: str
    desensitize: str
    attack: str
    fault: str
    attack_raised: int
    attack_levels: int
    fault_raised: int
    fault_levels: int

    @property
    def holds(self) -> bool:
        """Fault training helps at most attack levels; attack training at few fault levels."""
        return (
            2 * self.attack_raised > self.attack_levels
            and 2 * self.fault_raised <= self.fault_levels
        )


def asymmetry(run: Run) -> Asymmetry | None:
    """Return the evidence for the asymmetry claim; None where a part was not measured."""
    fault, attack = main_threat(run, "fault"), main_threat(run, "attack")
    hardener = _single_stage(run, "fault_aware", "s2")
    desensitizer = _single_stage(run, "desensitize", "s1")
    if fault is None or attack is None or hardener is None or desensitizer is None:
        return None
    attacked = changes_by_level(run, hardener, attack)
    faulty = changes_by_level(run, desensitizer, fault)
    if not attacked or not faulty:
        return None
    return Asymmetry(
        fault_aware=hardener,
        desensitize=desensitizer,
        attack=attack,
        fault=fault,
        attack_raised=sum(each.sign > 0 for each in attacked.values()),
        attack_levels=len(attacked),
        fault_raised=sum(each.sign > 0 for each in faulty.values()),
        fault_levels=len(faulty),
    )


def _measured(
    run: Run, variant: str, columns: tuple[tuple[str, float], ...]
) -> tuple[Row | None, ...]:
    return (run.clean(variant), *(run.find(variant, *column) for column in columns))


def _single_stage(run: Run, kind: str, usual: str) -> str | None:
    """Return the variant that is one stage of `kind`, or is called `usual` if unrecorded."""
    for variant in run.variants:
        recorded = run.facts.stages.get(variant, {}).get("kind")
        if len(parts(variant)) == 1 and (recorded == kind or (not recorded and variant == usual)):
            return variant
    return None
