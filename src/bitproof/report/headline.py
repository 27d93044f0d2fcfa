"""The one sentence a reader wants: what hardening gained, and what it cost."""

from dataclasses import dataclass

from bitproof.report.findings import Change, Gain, change, gain, main_threat
from bitproof.report.run import Run
from bitproof.report.threats import condition
from bitproof.report.wording import percent, points

NBSP = "\N{NO-BREAK SPACE}"
NAMES_TOLD = 6
"""Networks that a sentence names; the others are counted."""


@dataclass(frozen=True)
class Tile:
    """One number of the headline."""

    title: str
    change: Change
    span: str
    """The changes over all levels, empty for clean accuracy."""


@dataclass(frozen=True)
class Headline:
    """The sentence, and its numbers."""

    sentence: str
    tiles: tuple[Tile, ...]


def headline(run: Run) -> Headline:
    """Compare the full pipeline with the baseline, at the middle levels."""
    base, full = run.facts.baseline, run.full
    if full is None:
        return Headline(_nothing_hardened(run), ())
    unmeasured = [name for name in (base, full) if name in run.missing or name not in run.variants]
    if unmeasured:
        names = " and ".join(f"“{name}”" for name in unmeasured)
        verb = "has" if len(unmeasured) == 1 else "have"
        return Headline(f"No comparison yet: {names} {verb} no results so far.", ())
    threats = [main_threat(run, "fault"), main_threat(run, "attack")]
    gains = [found for threat in threats if threat and (found := gain(run, full, threat))]
    clean = change(run.clean(base), run.clean(full))
    clauses = [
        f"{effect(each.at_level)} under {lowered(condition(each.threat, each.level))}"
        for each in gains
    ]
    tiles = [Tile(condition(each.threat, each.level), each.at_level, _span(each)) for each in gains]
    if clean is not None:
        clauses.append(f"{effect(clean)} on clean inputs")
        tiles.append(Tile("Clean inputs, no fault", clean, ""))
    if not clauses:
        return Headline(f"No comparison yet: “{full}” and “{base}” share no measurement.", ())
    return Headline(
        f"Compared with the quantized network without hardening (“{base}”), the accuracy of "
        f"the full pipeline (“{full}”) {joined(clauses)}.",
        tuple(tiles),
    )


def lowered(text: str) -> str:
    """Return `text` for the middle of a sentence; abbreviations keep their capitals.

    Example:
        >>> lowered("Random bit flips"), lowered("L∞ PGD"), lowered("FGSM")
        ('random bit flips', 'L∞ PGD', 'FGSM')
    """
    return text if text[1:2].isupper() or not text[1:2].isalpha() else text[:1].lower() + text[1:]


def joined(clauses: list[str]) -> str:
    """Return clauses as one: commas, and `and` before the last."""
    *first, last = clauses
    return f"{', '.join(first)}{' and ' if first else ''}{last}"


def _nothing_hardened(run: Run) -> str:
    found = sum(run.multiplier_of(variant) is not None for variant in run.variants)
    on_multipliers = run.hardened_on_multipliers
    if on_multipliers:
        told = [f"“{name}”" for name in on_multipliers[:NAMES_TOLD]]
        if len(on_multipliers) > NAMES_TOLD:
            told.append(f"{len(on_multipliers) - NAMES_TOLD} more")
        verb = "is" if len(on_multipliers) == 1 else "are"
        what = "a multiplier" if len(on_multipliers) == 1 else "multipliers"
        where = " (see the section “Approximate multipliers”)" if found else ""
        return (
            f"This run holds no hardened network with exact products; {joined(told)} {verb} "
            f"hardened, but on {what}{where}."
        )
    if not found:
        return "This run holds no hardened network, so there is nothing to compare."
    networks = "one network" if found == 1 else f"{found} networks"
    return (
        f"This run holds no hardened network. Its {networks} on approximate multipliers "
        f"{'is' if found == 1 else 'are'} compared in the section “Approximate multipliers”."
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


def verdict(change: Change) -> str:
    """Return gain, loss, or that there is no clear change."""
    if change.low is None:
        return "no interval recorded"
    return {1: "gain", -1: "loss", 0: "no clear change"}[change.sign]


def from_to(change: Change) -> str:
    """Return the two accuracies of a change."""
    return f"{percent(change.before.value)} → {percent(change.after.value)} %"


def _span(gain: Gain) -> str:
    if gain.n_levels < 2:
        return ""
    return (
        f"at all {gain.n_levels} levels measured: {points(gain.smallest)} to {points(gain.largest)}"
    )
