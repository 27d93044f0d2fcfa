"""The section on approximate multipliers: costs, accuracies, and whether losses go together.

Model:  rank correlation with average ranks for ties; interval by Fisher's transformation.
Source: Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman
        correlations", Psychometrika 65, 2000 (standard error).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bitproof.report.findings import (
    Condition,
    focus_level,
    main_attack,
    main_fault,
)
from bitproof.report.pareto import Approximation, approximations, front
from bitproof.report.run import CLEAN, Circuit, Run
from bitproof.stats.intervals import Interval, normal_quantile
from bitproof.stats.results import Row

FEWEST = 5
"""Networks that a correlation needs."""
LEAST_LEFT = 0.25
"""Share of the baseline's clean accuracy below which a network has nothing to lose."""
CIRCUITS: dict[Circuit, str] = {
    "signed": "signed circuit",
    "unsigned": "unsigned circuit",
    "sign_bits": "unsigned circuit between sign bits",
    "unknown": "circuit of unknown kind",
}
"""What rows and the legend call each kind of circuit."""


@dataclass(frozen=True)
class Ranks:
    """Whether multipliers that cost clean accuracy cost accuracy under a condition, too."""

    condition: Condition
    networks: int
    loss: Interval
    """Rank correlation of losses."""
    share: Interval | None
    """The same for the share of its clean accuracy that the condition takes."""


@dataclass(frozen=True)
class Section:
    """All that the page shows."""

    networks: tuple[Approximation, ...]
    """By rising power."""
    front: tuple[Approximation, ...]
    columns: tuple[Condition, ...]
    """Conditions of the last columns."""
    ranks: tuple[Ranks, ...]
    exact: str
    """The exact network of those that are ranked."""
    sources: tuple[str, ...]
    uncosted: int
    """Multipliers without published power."""


def multiplier_section(run: Run) -> Section | None:
    """Return the section; None where no network is on a multiplier of `run.json`."""
    found = approximations(run)
    if not found:
        return None
    attack, fault = conditions(run)
    faults = [(fault[0], level) for level in run.levels(fault[0]) if level > 0] if fault else []
    columns = (*([attack] if attack else []), *faults)
    used = {each.name: each.multiplier for each in found}
    groups = Counter(each.exact for each in found if not each.later)
    exact = max(groups, key=lambda name: (groups[name], name == run.facts.baseline), default="")
    ranks = (_ranks(run, found, exact, each) for each in (attack, fault) if each is not None)
    return Section(
        networks=tuple(found),
        front=tuple(front(run, found)),
        columns=columns,
        ranks=tuple(each for each in ranks if each is not None),
        exact=exact,
        sources=tuple(dict.fromkeys(each.source for each in used.values() if each.source)),
        uncosted=sum(each.power_mw is None for each in used.values()),
    )


def conditions(run: Run) -> tuple[Condition | None, Condition | None]:
    """Return the main attack at its smallest radius, and the main fault at its middle level."""
    attack, fault = main_attack(run), main_fault(run)
    radii = [level for level in run.levels(attack) if level > 0] if attack else []
    level = focus_level(run.levels(fault)) if fault else None
    return (
        (attack, radii[0]) if attack and radii else None,
        (fault, level) if fault and level is not None else None,
    )


def accuracy_under(run: Run, variant: str, wanted: Condition) -> Row | None:
    """Return the accuracy of a network under a condition, which may be that of no threat."""
    return run.clean(variant) if wanted[0] == CLEAN else run.find(variant, *wanted)


def spearman(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """Return the rank correlation with its 95 % interval, None where it says nothing.

    That is where fewer than five pairs came, or one side is constant.

    Example:
        >>> rho = spearman([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 3.0, 2.0, 4.0, 6.0, 5.0])
        >>> [round(end, 2) for end in rho or ()]
        [0.07, 0.89, 0.99]
    """
    if len(first) < FEWEST or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    from scipy.stats import spearmanr  # noqa: PLC0415 - slow to import

    rho = float(spearmanr(first, second).statistic)
    if abs(rho) > 1 - 1e-12:  # the transformation has no value there, and no interval
        return Interval(rho, rho, rho)
    half = normal_quantile(0.95) * math.sqrt((1 + rho * rho / 2) / (len(first) - 3))
    middle = math.atanh(rho)
    return Interval(math.tanh(middle - half), rho, math.tanh(middle + half))


def _ranks(run: Run, found: Sequence[Approximation], exact: str, threat: Condition) -> Ranks | None:
    """Compare networks that differ in the multiplier alone.

    Exact circuits are left out, and networks near chance, from which a threat can take nothing.
    """
    base = run.clean(run.facts.baseline)
    least = LEAST_LEFT * base.value if base is not None else 0.0
    pairs = [
        (clean.value, under.value)
        for each in found
        if each.exact == exact and not each.later and each.multiplier.ep != 0
        if (clean := run.clean(each.variant)) is not None and clean.value >= max(least, 1e-9)
        if (under := run.find(each.variant, *threat)) is not None
    ]
    # Losses have the ranks of accuracies: all are taken from the same exact network.
    losses = [-clean for clean, _ in pairs]
    loss = spearman(losses, [-under for _, under in pairs])
    share = spearman(losses, [1 - under / clean for clean, under in pairs])
    return None if loss is None else Ranks(threat, len(pairs), loss, share)
