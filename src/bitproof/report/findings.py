"""What a run shows: gains over the baseline as numbers, and the headline in one sentence.

The headline answers what the run asked: what hardening brings, which multiplier is the best trade,
what quantization costs, or how accurate the networks are. It looks at fixed levels, never at what
came out best.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bitproof.report.html import Tile
from bitproof.report.paired import AccuracyChange, paired_change
from bitproof.report.run import CLEAN, FLOAT, Condition, Run, parts
from bitproof.report.wording import NBSP, percent, points
from bitproof.stats.threats import Family

TRADE = 0.01
"""Clean accuracy that the best trade of a sweep may lose: a point."""

FAULTS: tuple[Family, ...] = ("memory_fault", "compute_fault")
ATTACKS: tuple[Family, ...] = ("input_attack",)


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


def gain(run: Run, variant: str, threat: str) -> Gain | None:
    """Return the gain of `variant` under `threat`, or clean; None where it was not measured."""
    levels = [level for level in run.levels(threat) if level > 0 or threat == CLEAN]
    pairs = [paired_change(run, run.facts.baseline, variant, threat, level) for level in levels]
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
    """Return what the run found in a sentence or two, and its numbers in tiles."""
    base, full = run.facts.baseline, run.full
    if full is None:
        return _trade(run) or _precision(run) or _plainly(run)
    unmeasured = [name for name in (base, full) if name in run.missing or name not in run.variants]
    if unmeasured:
        names = " and ".join(f"“{name}”" for name in unmeasured)
        verb = "has" if len(unmeasured) == 1 else "have"
        sentence, tiles = _plainly(run)
        return f"No comparison yet: {names} {verb} no results so far. {sentence}".strip(), tiles
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
        sentence, tiles = _plainly(run)
        return f"“{full}” and “{base}” share no measurement. {sentence}".strip(), tiles
    whole = f"the full pipeline (“{full}”)" if len(parts(full)) > 1 else _named(run, full)
    return (
        f"Compared with the quantized network without hardening (“{base}”), the accuracy of "
        f"{whole} {_listed(clauses)}.",
        tiles,
    )


def best_trade(run: Run) -> str | None:
    """Return the network on the multiplier of least power that loses at most a point.

    Of clean accuracy, compared with the baseline; where none does, the one that loses least. None
    where no network has both figures.
    """
    base = run.clean(run.facts.baseline)
    known = [
        (power, base.value - clean.value, name)
        for name in run.approximate
        if base is not None
        and (power := power_of(run, name)) is not None
        and (clean := run.clean(name)) is not None
        and not exact(run, name)
    ]
    cheap = [one for one in known if one[1] <= TRADE + 1e-9]
    if cheap:
        return min(cheap)[2]
    return min(known, key=lambda one: (one[1], one[0]))[2] if known else None


def power_of(run: Run, variant: str) -> float | None:
    """Return the power of the multiplier of a network in mW, None where it is not known."""
    name = run.multiplier_of(variant)
    return None if name is None else run.facts.multipliers[name].power_mw


def exact(run: Run, variant: str) -> bool:
    """Return whether the multiplier of a network makes no error."""
    name = run.multiplier_of(variant)
    return name is not None and run.facts.multipliers[name].ep == 0


def _trade(run: Run) -> tuple[str, list[Tile]] | None:
    """Return the best trade of a sweep over multipliers; None where no power is known."""
    name = best_trade(run)
    if name is None:
        return None
    base, power = run.facts.baseline, power_of(run, name)
    moved = paired_change(run, base, name, CLEAN, 0.0)
    assert moved is not None
    assert power is not None
    chosen = run.multiplier_of(name)
    whole = max(
        (p for v in run.approximate if exact(run, v) and (p := power_of(run, v))), default=0
    )
    cost = f"takes {power:.3g} mW"
    if whole:
        share = percent(power / whole)
        cost = f"takes {share} % of the power of the exact one ({power:.3g} of {whole:.3g} mW)"
    rule = (
        "Chosen for the least power at a loss of at most one point of clean accuracy."
        if -moved.value <= TRADE + 1e-9
        else "No multiplier loses less than a point of clean accuracy; this one loses least."
    )
    sentence = (
        f"Best trade of {len(run.approximate)} networks on multipliers: “{chosen}” {cost}; clean "
        f"accuracy {effect(moved)} against exact products. {rule}"
    )
    tiles = [_tile("Clean inputs, no fault", Gain(moved, (moved,)))]
    if whole:
        saved = ["of the exact circuit's power", f"{power:.3g} of {whole:.3g} mW"]
        tiles.append(Tile("Power of the multiplier", percent(power / whole), "%", saved))
    else:
        tiles.append(Tile("Power of the multiplier", f"{power:.3g}", "mW", ["as published"]))
    for threat, level in [each for one in main_threats(run) for each in focus(run, one)]:
        under = paired_change(run, base, name, threat, level)
        if under:
            tiles.append(_tile(run.condition(threat, level), Gain(under, (under,))))
    return sentence, tiles


def _precision(run: Run) -> tuple[str, list[Tile]] | None:
    """Return what integers change against floats; None where not both were measured."""
    base = run.facts.baseline
    clauses, tiles = [], []
    for threat, level in _conditions(run):
        if moved := paired_change(run, FLOAT, base, threat, level):
            clauses.append(f"{effect(moved)} {_where(run, threat, level)}")
            tiles.append(_tile(_title(run, threat, level), Gain(moved, (moved,))))
    if not clauses:
        return None
    bits = f"{run.bits}-bit integers" if run.bits else "integers"
    return f"In {bits} (“{base}”) instead of floats, accuracy {_listed(clauses)}.", tiles


def _plainly(run: Run) -> tuple[str, list[Tile]]:
    """Return the accuracies of what was measured: of the baseline, or of the last network."""
    measured = [name for name in run.variants if name not in run.missing]
    if not measured:
        return "This run has no results yet.", []
    base = run.facts.baseline
    name = base if base in measured else measured[-1]
    clauses, tiles = [], []
    for threat in (CLEAN, *main_threats(run)):
        known = [level for level in run.levels(threat) if run.find(name, threat, level)]
        level = 0.0 if threat == CLEAN else focus_level(known)
        row = None if level is None else run.find(name, threat, level)
        if level is None or row is None:
            continue
        ends = (
            f" ({percent(row.interval.low)}{NBSP}to{NBSP}{percent(row.interval.high)})"
            if row.interval
            else ""
        )
        clauses.append(f"{percent(row.value)} %{ends} {_where(run, threat, level)}")
        lines = [f"“{name}”"]
        if row.interval:
            lows = f"{percent(row.interval.low)} to {percent(row.interval.high)} %"
            lines.append(f"95 % interval {lows}")
        tiles.append(Tile(_title(run, threat, level), percent(row.value), "%", lines))
    if not clauses:
        return f"{_named(run, name)} has results, but no accuracy among them.", []
    return f"The accuracy of {_named(run, name)} is {_listed(clauses)}.", tiles


def _conditions(run: Run) -> list[Condition]:
    """Return the conditions of the headline: clean, then the main threats at middle levels."""
    return [(CLEAN, 0.0), *(each for name in main_threats(run) for each in focus(run, name))]


def _where(run: Run, threat: str, level: float) -> str:
    if threat == CLEAN:
        return "on clean inputs"
    return f"under {lowered(run.condition(threat, level))}"


def _title(run: Run, threat: str, level: float) -> str:
    return "Clean inputs, no fault" if threat == CLEAN else run.condition(threat, level)


def _named(run: Run, variant: str) -> str:
    """Return a network with the kinds of its stages, where they have any."""
    kinds = [str(run.facts.stages.get(part, {}).get("kind", "")) for part in parts(variant)]
    known = ", ".join(kind.replace("_", " ") for kind in kinds if kind)
    return f"“{variant}”{f' ({known})' if known else ''}"


def _listed(clauses: Sequence[str]) -> str:
    *first, last = clauses
    return f"{', '.join(first)}{' and ' if first else ''}{last}"


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
        how = ", paired" if middle.paired else ""
        lines.append(f"95 % interval {interval_text(middle)}{how}")
    lines.append(f"accuracy {percent(middle.before.value)} → {percent(middle.after.value)} %")
    if len(gain.changes) > 1:
        ends = sorted(each.value for each in gain.changes)
        span = f"{points(ends[0])} to {points(ends[-1])}"
        lines.append(f"at all {len(ends)} levels: {span}")
    look = {1: "gain", -1: "loss", 0: "even"}[middle.sign]
    return Tile(title, points(middle.value), "points", lines, look)
