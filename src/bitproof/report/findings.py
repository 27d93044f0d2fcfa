"""What a run shows: gains over the baseline as numbers, and the headline in one sentence.

Model:  the interval of a difference combines the two intervals as if the measurements were
        independent. They share images and chips, so it is wider than needed, as a rule.
Source: Newcombe, "Interval estimation for the difference between independent proportions",
        Statistics in Medicine 17, 1998 (hybrid score interval, here for any pair of intervals).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bitproof.report.html import Tile
from bitproof.report.run import CLEAN, Condition, Run
from bitproof.report.wording import NBSP, percent, points
from bitproof.stats.intervals import difference
from bitproof.stats.results import Row
from bitproof.stats.threats import Family

FAULTS: tuple[Family, ...] = ("memory_fault", "compute_fault")
ATTACKS: tuple[Family, ...] = ("input_attack",)


@dataclass(frozen=True)
class AccuracyChange:
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


@dataclass(frozen=True)
class Gain:
    """What one variant gains over the baseline under one threat."""

    middle: AccuracyChange
    """At the middle level."""
    changes: tuple[AccuracyChange, ...]
    """At all levels above zero where both are known."""

    @property
    def raised(self) -> int:
        """How many levels have a clear gain."""
        return sum(each.sign > 0 for each in self.changes)


def change(before: Row | None, after: Row | None) -> AccuracyChange | None:
    """Return how much `after` lies above `before`; None where one is missing."""
    if before is None or after is None:
        return None
    ends = [row.interval for row in (after, before) if row.interval is not None]
    if len(ends) < 2:
        return AccuracyChange(before, after, after.value - before.value, None, None)
    low, value, high = difference(*ends)
    return AccuracyChange(before, after, value, low, high)


def gain(run: Run, variant: str, threat: str) -> Gain | None:
    """Return the gain of `variant` under `threat`, or clean; None where it was not measured."""
    levels = [level for level in run.levels(threat) if level > 0 or threat == CLEAN]
    pairs = [
        change(run.find(run.facts.baseline, threat, level), run.find(variant, threat, level))
        for level in levels
    ]
    middle = pairs[len(pairs) // 2] if pairs else None
    if middle is None:
        return None
    return Gain(middle, tuple(each for each in pairs if each is not None))


def focus_level(levels: Sequence[float]) -> float | None:
    """Return the level that headline and matrix use: the middle one of those above zero.

    Of two middle levels it is the higher. The rule looks at no result, so it cannot flatter.

    Example:
        >>> focus_level([0.0, 1e-4, 1e-3, 1e-2])
        0.001
    """
    positive = sorted(level for level in levels if level > 0)
    return positive[len(positive) // 2] if positive else None


def focus(run: Run, threat: str) -> list[Condition]:
    """Return a threat at its middle level, nothing where there is none."""
    level = focus_level(run.levels(threat))
    return [] if level is None else [(threat, level)]


def main_threats(run: Run) -> list[str]:
    """Return the first threat that breaks bits or arithmetic, and the first that changes inputs."""
    firsts = (
        next((name for name in run.threats if run.label(name).family in families), None)
        for families in (FAULTS, ATTACKS)
    )
    return [name for name in firsts if name is not None]


def headline(run: Run) -> tuple[str, list[Tile]]:
    """Compare the full pipeline with the baseline, at the middle levels; numbers stand in tiles."""
    base, full = run.facts.baseline, run.full
    if full is None:
        exact = " with exact products" if run.approximate else ""
        return f"This run holds no hardened network{exact}, so there is nothing to compare.", []
    unmeasured = [name for name in (base, full) if name in run.missing or name not in run.variants]
    if unmeasured:
        names = " and ".join(f"“{name}”" for name in unmeasured)
        verb = "has" if len(unmeasured) == 1 else "have"
        return f"No comparison yet: {names} {verb} no results so far.", []
    tiles, clauses = [], []
    for threat, level in [each for name in main_threats(run) for each in focus(run, name)]:
        if found := gain(run, full, threat):
            where = run.condition(threat, level)
            tiles.append(_tile(where, found))
            clauses.append(f"{effect(found.middle)} under {lowered(where)}")
    if found := gain(run, full, CLEAN):
        tiles.append(_tile("Clean inputs, no fault", found))
        clauses.append(f"{effect(found.middle)} on clean inputs")
    if not clauses:
        return f"No comparison yet: “{full}” and “{base}” share no measurement.", []
    *first, last = clauses
    return (
        f"Compared with the quantized network without hardening (“{base}”), the accuracy of "
        f"the full pipeline (“{full}”) {', '.join(first)}{' and ' if first else ''}{last}.",
        tiles,
    )


def effect(change: AccuracyChange) -> str:
    """Return a change as a verb phrase that claims no more than its interval does."""
    size = points(abs(change.value)).lstrip("+")
    verb = "falls by" if change.value < 0 else "rises by"
    if change.low is None or change.high is None:
        return f"{verb} {size} points (interval not recorded)"
    interval = f"{points(change.low)}{NBSP}to{NBSP}{points(change.high)}"
    if change.sign == 0:
        return f"shows no clear change ({interval} points)"
    return f"{verb} {size} points ({interval})"


def lowered(text: str) -> str:
    """Return `text` for the middle of a sentence; abbreviations keep their capitals.

    Example:
        >>> lowered("Random bit flips"), lowered("L∞ PGD"), lowered("FGSM")
        ('random bit flips', 'L∞ PGD', 'FGSM')
    """
    return text if text[1:2].isupper() or not text[1:2].isalpha() else text[:1].lower() + text[1:]


def interval_text(change: AccuracyChange) -> str:
    """Return the interval of a change in points; nothing where there is none."""
    if change.low is None or change.high is None:
        return ""
    return f"{points(change.low)} to {points(change.high)}"


def _tile(title: str, gain: Gain) -> Tile:
    middle = gain.middle
    verdict = {1: "gain", -1: "loss", 0: "no clear change"}[middle.sign]
    lines = [verdict if middle.low is not None else "no interval recorded"]
    if middle.low is not None:
        lines.append(f"95 % interval {interval_text(middle)}")
    lines.append(f"accuracy {percent(middle.before.value)} → {percent(middle.after.value)} %")
    if len(gain.changes) > 1:
        ends = sorted(each.value for each in gain.changes)
        span = f"{points(ends[0])} to {points(ends[-1])}"
        lines.append(f"at all {len(ends)} levels: {span}")
    look = {1: "gain", -1: "loss", 0: "even"}[middle.sign]
    return Tile(title, points(middle.value), "points", lines, look)
