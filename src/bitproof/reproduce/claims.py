"""Which claims of five papers hold on one network, side by side.

Model:  a claim compares two cells of one job. Where one of them is of the network that gains are
        counted from, under the same threat, the difference is the gain, which is paired; elsewhere
        the two intervals are combined as if the cells were independent, which is wider as a rule.
        It holds where the 95 % interval of the difference says so, fails where it says the
        opposite, and is undecided in between. Seeds of training are not covered by one seed.
Source: METHODS A to E; the claims are those of the papers' abstracts, on our networks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bitproof.reproduce.cells import nearest
from bitproof.reproduce.jobs import Job
from bitproof.reproduce.result import CellResult
from bitproof.stats.intervals import Interval, difference

Verdict = Literal["holds", "fails", "undecided", "not measured"]
Key = tuple[str, str, float | None, str]
"""Variant, threat, level and metric."""


@dataclass(frozen=True)
class Side:
    """One of the two cells of a claim."""

    variant: str
    threat: str
    metric: str = "acc"
    level: float | None = None
    """Level of the threat; None: that of the gains."""


@dataclass(frozen=True)
class Claim:
    """What a paper says of two networks, or of one under two threats."""

    paper: str
    text: str
    side: Side
    other: Side
    wanted: Literal["higher", "lower"] = "higher"
    slack: float = 0.0
    """How much lower it may be and still count as not lower, as a fraction."""

    def verdict(self, found: Interval) -> Verdict:
        """Return whether the claim holds for a difference, side minus other."""
        low, high = found.low + self.slack, found.high + self.slack
        if self.wanted == "lower":
            low, high = -high, -low
        return "holds" if low > 0 else "fails" if high < 0 else "undecided"


HIGH = 5e-3
"""A bit error rate that brings networks without remedies down, as a fraction."""


def _gain(  # noqa: PLR0917
    paper: str,
    text: str,
    variant: str,
    threat: str,
    against: str = "baseline",
    level: float | None = None,
) -> Claim:
    side, other = (Side(name, threat, level=level) for name in (variant, against))
    return Claim(paper, text, side, other)


RESQ, STUTZ, FASFOUS, ADAM, HAWX = "RESQ", "RandBET", "Scaling factors", "AdAM", "HAWX"
MATRIX_CLAIMS = (
    _gain(RESQ, "hardening against attacks (s1) raises attack resilience", "s1", "linf_apgd"),
    _gain(
        RESQ,
        "hardening against faults (s2) raises fault resilience",
        "s2",
        "random_flips",
        level=HIGH,
    ),
    _gain(RESQ, "hardening against faults (s2) raises attack resilience, too", "s2", "linf_apgd"),
    Claim(
        RESQ,
        "hardening against attacks (s1) does not raise fault resilience",
        Side("s1", "random_flips", level=HIGH),
        Side("baseline", "random_flips", level=HIGH),
        wanted="lower",
    ),
    _gain(RESQ, "all three stages raise fault resilience", "s1+s2+s3", "random_flips", level=HIGH),
    _gain(RESQ, "all three stages raise attack resilience", "s1+s2+s3", "linf_apgd"),
    _gain(STUTZ, "clipping raises fault resilience", "clipping", "random_flips", level=HIGH),
    _gain(
        STUTZ,
        "RandBET raises it further",
        "clipping+randbet",
        "random_flips",
        against="clipping",
        level=HIGH,
    ),
    _gain(
        STUTZ,
        "RandBET holds on a profiled chip, too",
        "clipping+randbet",
        "profiled_chip",
        level=1e-2,
    ),
    Claim(
        FASFOUS,
        "adversarial training costs resilience against bit errors in weights",
        Side("at", "random_flips"),
        Side("vanilla", "random_flips"),
        wanted="lower",
    ),
    Claim(
        FASFOUS,
        "adversarial training costs resilience against bit errors in activations",
        Side("at", "activation_flips"),
        Side("vanilla", "activation_flips"),
        wanted="lower",
    ),
    _gain(FASFOUS, "weight decay mends it, in weights", "at_decay", "random_flips", against="at"),
    _gain(
        FASFOUS,
        "weight decay mends it, in activations",
        "at_decay",
        "activation_flips",
        against="at",
    ),
    Claim(
        ADAM,
        "AdAM has less silent corruption under broken multipliers than exact ones",
        Side("adam", "permanent_multiplier_faults", "sdc1"),
        Side("baseline", "permanent_multiplier_faults", "sdc1"),
        wanted="lower",
    ),
    Claim(
        ADAM,
        "AdAM costs at most a point of clean accuracy",
        Side("adam", "clean"),
        Side("baseline", "clean"),
        slack=0.01,
    ),
    Claim(
        HAWX,
        "the choice of the search costs at most two points of clean accuracy",
        Side("baseline", "chosen_multipliers"),
        Side("baseline", "clean"),
        slack=0.02,
    ),
)
"""In the order of METHODS."""
CLAIMS: Mapping[str, Sequence[Claim]] = {"matrix": MATRIX_CLAIMS}
"""By the name of the table."""


def claim_lines(job: Job, results: Sequence[CellResult]) -> Iterator[str]:
    """Yield one line for each claim about a job: paper, words, verdict, difference and level."""
    cells = {result.key.key: result for result in results}
    for claim in CLAIMS.get(job.table.name, ()):
        found, how = _difference(claim, job, cells)
        if found is None:
            yield f"{claim.paper}: {claim.text}: not measured"
            continue
        low, value, high = (100 * end for end in found)
        ends = (
            f"{value:+.1f} points, {low:+.1f} to {high:+.1f}, {_level_text(claim.side, job)}{how}"
        )
        yield f"{claim.paper}: {claim.text}: {claim.verdict(found)} ({ends})"


def _difference(
    claim: Claim, job: Job, cells: Mapping[Key, CellResult]
) -> tuple[Interval | None, str]:
    """Return side minus other, and whether it is paired; None where a cell is missing."""
    side, other = _key(claim.side, job), _key(claim.other, job)
    if side is None or other is None:
        return None, ""
    gain = cells.get((*side[:3], "gain"))
    if other == (job.plan.gain_against, *side[1:]) and side[3] == "acc" and gain is not None:
        return _interval(gain), "paired"
    if side not in cells or other not in cells:
        return None, ""
    return difference(_interval(cells[side]), _interval(cells[other])), "unpaired"


def _key(side: Side, job: Job) -> Key | None:
    threat = job.measured().get(side.threat)
    if threat is None or side.variant not in job.variants:
        return None
    wanted = job.gain_level(threat) if side.level is None else side.level
    if wanted is None:
        return None
    level = nearest(wanted, threat.levels) if threat.levels else 0.0
    return (side.variant, side.threat, level, side.metric)


def _level_text(side: Side, job: Job) -> str:
    """Return at which level a cell is, ready to go on after it; empty where there are none."""
    key = _key(side, job)
    if key is None or not key[2]:
        return ""
    label = job.measured()[side.threat].label
    return f"{label.symbol} {label.level_text(key[2])}, "


def _interval(result: CellResult) -> Interval:
    return Interval(result.ci_low, result.value, result.ci_high)
