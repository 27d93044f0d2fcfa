"""What a run shows: gains over the baseline as numbers, and the headline in one sentence.

Model:  the interval of a difference combines the two intervals as if the measurements were
        independent. They share images and chips, so it is wider than needed, as a rule.
Source: Newcombe, "Interval estimation for the difference between independent proportions",
        Statistics in Medicine 17, 1998 (hybrid score interval, here for any pair of intervals).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bitproof.report.run import FLOAT, Run
from bitproof.report.wording import NBSP, percent, points
from bitproof.stats.results import Row
from bitproof.stats.threats import Family

Condition = tuple[str, float]
"""A threat at a level."""
FAULTS: tuple[Family, ...] = ("memory_fault", "compute_fault")
ATTACKS: tuple[Family, ...] = ("input_attack",)


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

    @property
    def verdict(self) -> str:
        """Gain, loss, or that there is no clear change."""
        if self.low is None:
            return "no interval recorded"
        return {1: "gain", -1: "loss", 0: "no clear change"}[self.sign]


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


def focus(run: Run, threat: str | None) -> Condition | None:
    """Return a threat at its middle level, None where there is none."""
    level = focus_level(run.levels(threat)) if threat else None
    return (threat, level) if threat and level is not None else None


def main_fault(run: Run) -> str | None:
    """Return the first threat that breaks bits or arithmetic, None without any."""
    return next((name for name in run.threats if run.label(name).family in FAULTS), None)


def main_attack(run: Run) -> str | None:
    """Return the first threat that changes inputs, None without any."""
    return next((name for name in run.threats if run.label(name).family in ATTACKS), None)


@dataclass(frozen=True)
class Gain:
    """What one variant gains over the baseline under one threat."""

    change: Change
    """At the middle level."""
    smallest: float
    largest: float
    """Over all levels above zero where both are known."""
    levels: int
    raised: int
    """Levels with a clear gain."""

    @property
    def span(self) -> str:
        """The changes over all levels, in words; nothing where there is one."""
        if self.levels < 2:
            return ""
        return f"at all {self.levels} levels: {points(self.smallest)} to {points(self.largest)}"


def gain(run: Run, variant: str, threat: str) -> Gain | None:
    """Return the gain of `variant` under `threat`; None where it was not measured."""
    base = run.facts.baseline
    pairs = {
        level: change(run.find(base, threat, level), run.find(variant, threat, level))
        for level in run.levels(threat)
        if level > 0
    }
    changes = [each for each in pairs.values() if each is not None]
    level = focus_level(list(pairs))
    middle = None if level is None else pairs[level]
    if middle is None:
        return None
    values = [each.value for each in changes]
    raised = sum(each.sign > 0 for each in changes)
    return Gain(middle, min(values), max(values), len(changes), raised)


def clean_gain(run: Run, variant: str) -> Gain | None:
    """Return what `variant` gains without any threat."""
    found = change(run.clean(run.facts.baseline), run.clean(variant))
    if found is None:
        return None
    return Gain(found, found.value, found.value, 1, int(found.sign > 0))


@dataclass(frozen=True)
class Matrix:
    """Gains over the baseline: clean, then each threat at its middle level."""

    columns: tuple[Condition, ...]
    base: tuple[Row | None, ...]
    """Accuracies of the baseline."""
    lines: tuple[tuple[str, tuple[Gain | None, ...]], ...]
    """Every other quantized variant, in order."""
    scale: float
    """The largest change, at least ten points: that of the deepest colour."""


def matrix(run: Run, variants: Sequence[str]) -> Matrix:
    """Return the asymmetry matrix: what each variant gains under what it was not made for, too."""
    columns = tuple(found for threat in run.threats if (found := focus(run, threat)))
    base = run.facts.baseline
    lines = tuple(
        (name, (clean_gain(run, name), *(gain(run, name, threat) for threat, _ in columns)))
        for name in variants
        if name not in {FLOAT, base}
    )
    changes = [abs(each.change.value) for _, gains in lines for each in gains if each is not None]
    rows = (run.clean(base), *(run.find(base, *column) for column in columns))
    return Matrix(columns, rows, lines, max([0.1, *changes]))


@dataclass(frozen=True)
class Headline:
    """The sentence, and its numbers: a title with a gain each."""

    sentence: str
    tiles: tuple[tuple[str, Gain], ...] = ()


def headline(run: Run) -> Headline:
    """Compare the full pipeline with the baseline, at the middle levels."""
    base, full = run.facts.baseline, run.full
    if full is None:
        return Headline(_nothing_hardened(run))
    unmeasured = [name for name in (base, full) if name in run.missing or name not in run.variants]
    if unmeasured:
        names = " and ".join(f"“{name}”" for name in unmeasured)
        verb = "has" if len(unmeasured) == 1 else "have"
        return Headline(f"No comparison yet: {names} {verb} no results so far.")
    tiles, clauses = [], []
    for threat in (main_fault(run), main_attack(run)):
        at, found = focus(run, threat), gain(run, full, threat) if threat else None
        if at and found:
            where = run.condition(*at)
            tiles.append((where, found))
            clauses.append(f"{effect(found.change)} under {lowered(where)}")
    if clean := clean_gain(run, full):
        tiles.append(("Clean inputs, no fault", clean))
        clauses.append(f"{effect(clean.change)} on clean inputs")
    if not clauses:
        return Headline(f"No comparison yet: “{full}” and “{base}” share no measurement.")
    *first, last = clauses
    return Headline(
        f"Compared with the quantized network without hardening (“{base}”), the accuracy of "
        f"the full pipeline (“{full}”) {', '.join(first)}{' and ' if first else ''}{last}.",
        tuple(tiles),
    )


def effect(change: Change) -> str:
    """Return a change as a verb phrase that claims no more than its interval does."""
    size = points(abs(change.value)).lstrip("+")
    verb = "falls by" if change.value < 0 else "rises by"
    if change.low is None or change.high is None:
        return f"{verb} {size} points (interval not recorded)"
    interval = f"{points(change.low)}{NBSP}to{NBSP}{points(change.high)}"
    if change.sign == 0:
        return f"shows no clear change ({interval} points)"
    return f"{verb} {size} points ({interval})"


def from_to(change: Change) -> str:
    """Return the two accuracies of a change."""
    return f"{percent(change.before.value)} → {percent(change.after.value)} %"


def lowered(text: str) -> str:
    """Return `text` for the middle of a sentence; abbreviations keep their capitals.

    Example:
        >>> lowered("Random bit flips"), lowered("L∞ PGD"), lowered("FGSM")
        ('random bit flips', 'L∞ PGD', 'FGSM')
    """
    return text if text[1:2].isupper() or not text[1:2].isalpha() else text[:1].lower() + text[1:]


def _nothing_hardened(run: Run) -> str:
    if run.hardened_on_multipliers:
        what = "no hardened network with exact products"
    else:
        what = "no hardened network"
    section = "; the section “Approximate multipliers” has the others" if run.approximate else ""
    return f"This run holds {what}, so there is nothing to compare{section}."
