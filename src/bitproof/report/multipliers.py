"""Networks on approximate multipliers: costs, the front, and whether losses go together.

Model:  rank correlation with average ranks for ties; interval by Fisher's transformation.
Source: Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman
        correlations", Psychometrika 65, 2000 (standard error).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bitproof.report.findings import FAULTS, focus_level, main_threats
from bitproof.report.page_table import (
    DASH,
    PageCell,
    PageTable,
    accuracy_text,
    make_table,
    table_of,
)
from bitproof.report.paired import paired_change
from bitproof.report.run import CLEAN, Condition, MultiplierFacts, Run, parts
from bitproof.report.run_tables import change_text, condition_head
from bitproof.report.wording import figure, share
from bitproof.stats.costs import pareto_front
from bitproof.stats.intervals import Interval, normal_quantile

FEWEST = 5
"""Networks that a correlation needs."""
LEAST_LEFT = 0.25
"""Share of the baseline's clean accuracy below which a network has nothing to lose."""
MOST_SHOWN = 6
"""Networks on multipliers in the charts and tables that are made for few networks."""
HEAD = (
    *("network\nmultiplier", "power, mW", "area, µm²\ndelay, ns", "MED\nNMED", "MRED\nEP"),
    *("bias", "clean, %", "change\npoints"),
)


@dataclass(frozen=True)
class Approximation:
    """One network on a multiplier."""

    variant: str
    name: str
    """Of the multiplier."""
    multiplier: MultiplierFacts
    exact: str
    """The same network with exact products: without the multiplier and the stages after it."""
    before: str | None
    """The same network without the stages after the multiplier; None where there are none."""


@dataclass(frozen=True)
class Ranks:
    """Whether multipliers that cost clean accuracy cost accuracy under a condition, too."""

    condition: Condition
    networks: int
    loss: Interval
    """Rank correlation of losses."""
    share: Interval | None
    """The same for the share of its clean accuracy that the condition takes."""


def approximations(run: Run) -> list[Approximation]:
    """Return all networks on multipliers by rising power, those without a figure last."""
    found = [
        _approximation(run, variant, name)
        for variant in run.approximate
        if (name := run.multiplier_of(variant)) is not None
    ]
    powers = {each.variant: each.multiplier.power_mw for each in found}
    return sorted(found, key=lambda each: (powers[each.variant] is None, powers[each.variant] or 0))


def front(run: Run, found: Sequence[Approximation]) -> list[Approximation]:
    """Return those with least power and highest clean accuracy, by rising power.

    Who lacks one of the two is left out.
    """
    known = [
        (watts, clean.value, each)
        for each in found
        if (watts := each.multiplier.power_mw) is not None
        and (clean := run.clean(each.variant)) is not None
    ]
    chosen = [known[i] for i in pareto_front([point[:2] for point in known])]
    return [each for *_, each in sorted(chosen, key=lambda one: one[:2])]


def shown(run: Run) -> tuple[str, ...]:
    """Return the variants for charts and tables of few networks, in order.

    All without a multiplier, and six at most with one: the front of clean accuracy and power,
    evenly thinned out if it is longer, then the most accurate of the others.
    """
    found = approximations(run)
    chosen = front(run, found)
    if len(chosen) > MOST_SHOWN:
        step = (len(chosen) - 1) / (MOST_SHOWN - 1)
        chosen = [chosen[round(i * step)] for i in range(MOST_SHOWN)]
    clean = {each.variant: run.clean(each.variant) for each in found}
    others = [each for each in found if each not in chosen]
    others.sort(key=lambda each: -(row.value if (row := clean[each.variant]) else 0.0))
    names = {each.variant for each in [*chosen, *others][:MOST_SHOWN]}
    return tuple(v for v in run.variants if v in names or v not in run.approximate)


def conditions(run: Run) -> list[Condition]:
    """Return the main fault at its middle level, and the main attack at its smallest radius."""
    found = []
    for threat in main_threats(run):
        levels = [level for level in run.levels(threat) if level > 0]
        faulty = run.label(threat).family in FAULTS
        level = focus_level(levels) if faulty else min(levels, default=None)
        found += [] if level is None else [(threat, level)]
    return found


def ranks(run: Run, found: Sequence[Approximation], exact: str) -> list[Ranks]:
    """Compare networks that differ from `exact` in the multiplier alone, under each condition.

    Exact circuits are left out, and networks near chance, from which a threat can take nothing.
    """
    base = run.clean(run.facts.baseline)
    least = max(LEAST_LEFT * base.value if base is not None else 0.0, 1e-9)
    compared = []
    for condition in conditions(run):
        pairs = [
            (clean.value, under.value)
            for each in found
            if each.exact == exact and not each.before and each.multiplier.ep != 0
            if (clean := run.clean(each.variant)) is not None and clean.value >= least
            if (under := run.find(each.variant, *condition)) is not None
        ]
        # Losses have the ranks of accuracies: all are taken from the same exact network.
        losses = [-clean for clean, _ in pairs]
        loss = spearman(losses, [-under for _, under in pairs])
        share = spearman(losses, [1 - under / clean for clean, under in pairs])
        if loss is not None:
            compared.append(Ranks(condition, len(pairs), loss, share))
    return compared


def commonest_exact(run: Run, found: Sequence[Approximation]) -> str:
    """Return the exact network that most others differ from in the multiplier alone."""
    groups = Counter(each.exact for each in found if not each.before)
    return max(groups, key=lambda name: (groups[name], name == run.facts.baseline), default="")


def cost_table(run: Run, found: Sequence[Approximation]) -> PageTable:
    """Return all networks on multipliers by rising power, below the exact baseline.

    Attacks are shown at the smallest radius, faults at every level.
    """
    base, best = run.facts.baseline, front(run, found)
    columns = [
        (threat, level)
        for threat, main in conditions(run)
        for level in (run.levels(threat) if run.label(threat).family in FAULTS else [main])
        if level > 0
    ]

    def accuracies(variant: str) -> list[str]:
        return [accuracy_text(run.find(variant, *column)) for column in columns]

    clean = run.clean(base)
    rows: list[list[PageCell | str]] = [
        [f"{base}\nexact baseline", *[DASH] * 5, accuracy_text(clean), DASH, *accuracies(base)]
    ]
    for each in found:
        it, after = each.multiplier, run.clean(each.variant)
        other = f"{it.label}, " if it.label and it.label != each.name else ""
        moved = paired_change(run, base, each.variant, CLEAN, 0.0)
        rows.append(
            [
                PageCell(f"{each.variant}\n{other}{it.circuit}", "front" if each in best else ""),
                figure(it.power_mw),
                f"{figure(it.area_um2)}\n{figure(it.delay_ns)}",
                f"{figure(it.med)}\n{share(it.nmed)}",
                f"{share(it.mred)}\n{share(it.ep)}",
                figure(it.bias),
                accuracy_text(after),
                PageCell(change_text(moved), "clear" if moved.sign else "") if moved else DASH,
                *accuracies(each.variant),
            ]
        )
    head = [*HEAD, *(condition_head(run, column) for column in columns)]
    return make_table(head, rows, look="wide dense names")


def rank_table(run: Run, found: Sequence[Approximation], exact: str) -> PageTable:
    """Return whether losses on clean inputs go with losses under a threat."""
    return table_of(
        ranks(run, found, exact),
        [
            ("condition", lambda one: run.condition(*one.condition)),
            ("networks", lambda one: str(one.networks)),
            ("ρ of losses\n95 % interval", lambda one: _rho(one.loss)),
            ("ρ with the share lost\n95 % interval", lambda one: _rho(one.share)),
        ],
    )


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


def _approximation(run: Run, variant: str, name: str) -> Approximation:
    stages = parts(variant)
    end = len(stages) - stages[::-1].index(name)
    exact = [part for part in stages[: end - 1] if part not in run.facts.multipliers]
    return Approximation(
        variant,
        name,
        run.facts.multipliers[name],
        "+".join(exact) or run.facts.baseline,
        "+".join(stages[:end]) if stages[end:] else None,
    )


def _rho(rho: Interval | None) -> str:
    return DASH if rho is None else f"{rho.value:.2f}\n{rho.low:.2f} to {rho.high:.2f}"
