"""What a run shows about approximate multipliers, in sentences that hold no more than numbers.

Model:  rank correlation with average ranks for ties; interval by Fisher's transformation.
Source: Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman
        correlations", Psychometrika 65, 2000 (standard error).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import correlation, median

from bitproof.report.findings import Change, change
from bitproof.report.headline import joined, lowered
from bitproof.report.pareto import Approximation, approximations, power
from bitproof.report.run import Run
from bitproof.report.threats import condition
from bitproof.report.wording import percent, points
from bitproof.stats.intervals import Interval

NEAR = 0.01
"""What "within 1 point" means, as a fraction."""
FEWEST = 5
"""Networks that a correlation needs."""
LEAST_LEFT = 0.25
"""Share of the baseline's clean accuracy below which a network has nothing to lose."""
NORMAL = 1.959964
VERDICTS = {
    1: "lose more",
    -1: "lose less",
    0: "show no clear link to the loss",
}


def multiplier_sentences(
    run: Run, attack: tuple[str, float] | None, fault: tuple[str, float] | None
) -> list[str]:
    """Return what the numbers say: the cheapest that is near, retraining, resilience.

    Args:
        run: the run.
        attack: threat and level whose accuracy stands for resilience to attacks.
        fault: the same for faults.
    """
    found = approximations(run)
    told = [cheapest_sentence(run, found), recovery_sentence(run, found)]
    threats = [each for each in (attack, fault) if each is not None]
    return [sentence for sentence in [*told, resilience_sentence(run, found, threats)] if sentence]


def cheapest_sentence(run: Run, found: Sequence[Approximation]) -> str:
    """Return which approximate multiplier of least power stays near the baseline."""
    base = run.clean(run.facts.baseline)
    known = [
        (watts, difference, each)
        for each in found
        if each.multiplier.ep != 0
        and (watts := power(each)) is not None
        and (difference := change(base, run.clean(each.variant))) is not None
    ]
    if base is None or not known:
        return ""
    scope = f"Of {_networks(len(known))} on approximate multipliers with known power and accuracy, "
    near = [entry for entry in known if entry[1].value >= -NEAR - 1e-9]
    if not near:
        _, difference, best = max(known, key=lambda entry: entry[1].value)
        return (
            f"{scope}none stays within 1 point of the baseline (“{run.facts.baseline}”, "
            f"{percent(base.value)} %); the nearest is “{best.variant}” {_figures(difference)}."
        )
    watts, difference, best = min(near, key=lambda entry: (entry[0], -entry[1].value))
    return (
        f"{scope}{len(near)} {'stays' if len(near) == 1 else 'stay'} within 1 point of the "
        f"baseline (“{run.facts.baseline}”, {percent(base.value)} %). Of these, “{best.variant}” "
        f"{_figures(difference)} needs least power: {watts:.3g} mW{_saving(run, best, watts)}."
    )


def recovery_sentence(run: Run, found: Sequence[Approximation]) -> str:
    """Return how much of the lost accuracy the stages after the multiplier brought back."""
    pairs = [_recovery(run, each) for each in found if each.before is not None]
    measured = [pair for pair in pairs if pair is not None]
    lost = sorted((pair for pair in measured if pair.clear), key=lambda pair: pair.share)
    if not measured:
        return ""
    names = dict.fromkeys("+".join(pair.entry.later) for pair in measured)
    stages = f"The stages after the multiplier ({', '.join(f'“{name}”' for name in names)})"
    unclear = len(measured) - len(lost)
    rest = f" {_pairs(unclear)} had no clear loss to recover." if unclear else ""
    if not lost:
        return f"{stages} had no clear loss to recover in {_pairs(len(measured)).lower()}."
    if len(lost) == 1:
        return f"{stages} brought back {lost[0].told}.{rest}"
    middle = median(pair.share for pair in lost)
    return (
        f"{stages} brought back a median {100 * middle:.0f} % of the lost accuracy in "
        f"{_pairs(len(lost)).lower()}: least {lost[0].told}, most {lost[-1].told}.{rest}"
    )


def resilience_sentence(
    run: Run, found: Sequence[Approximation], threats: Sequence[tuple[str, float]]
) -> str:
    """Return whether multipliers that cost clean accuracy cost accuracy under threats, too.

    Compared are networks that differ in the multiplier alone; the largest such group speaks.
    Exact circuits are left out, and networks near chance, from which a threat can take nothing.
    """
    groups = Counter(each.exact for each in found if not each.later)
    if not groups:
        return ""
    exact = max(groups, key=lambda name: (groups[name], name == run.facts.baseline))
    group, left_out = _comparable(
        run, [each for each in found if each.exact == exact and not each.later]
    )
    losses, shares = [], []
    for threat in threats:
        pairs = _clean_and_under(run, group, threat)
        # Losses have the ranks of accuracies: all are taken from the same exact network.
        lost = spearman([-clean for clean, _ in pairs], [-under for _, under in pairs])
        share = spearman([-clean for clean, _ in pairs], [1 - u / clean for clean, u in pairs])
        under = f"under {lowered(condition(*threat))}"
        if lost is not None:
            losses.append(f"{VERDICTS[_sign(lost)]} {under} ({_correlation(lost, len(pairs))})")
        if share is not None:
            shares.append(f"{share.value:.2f}{_interval(share)} {under}".replace("-", "−"))
    if not losses:
        return ""
    told = (
        f"Among networks that differ from “{exact}” in the multiplier alone, those that lose more "
        f"on clean inputs {joined(losses)}. Part of this is by design, for what is wrong already "
        "stays wrong under a threat, as a rule"
    )
    if shares:
        told += f": for the share of its clean accuracy that a threat takes, ρ is {joined(shares)}"
    return f"{told}.{left_out}"


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
    rho = correlation(_ranks(first), _ranks(second))
    if abs(rho) > 1 - 1e-12:  # the transformation has no value there, and no interval
        return Interval(rho, rho, rho)
    half = NORMAL * math.sqrt((1 + rho * rho / 2) / (len(first) - 3))
    middle = math.atanh(rho)
    return Interval(math.tanh(middle - half), rho, math.tanh(middle + half))


@dataclass(frozen=True)
class _Recovery:
    """One network before and after the stages that follow its multiplier."""

    entry: Approximation
    loss: Change
    gain: Change

    @property
    def clear(self) -> bool:
        """Whether there was a loss; without intervals, any loss counts."""
        return self.loss.value < 0 if self.loss.low is None else self.loss.sign < 0

    @property
    def share(self) -> float:
        """Gain over loss: 1 where all came back."""
        return -self.gain.value / self.loss.value

    @property
    def told(self) -> str:
        """The share with the three accuracies."""
        return (
            f"{100 * self.share:.0f} %".replace("-", "−")
            + f" of what “{self.entry.before}” had lost "
            f"({percent(self.loss.before.value)} % exact, {percent(self.loss.after.value)} % on "
            f"the multiplier, {percent(self.gain.after.value)} % after)"
        )


def _recovery(run: Run, each: Approximation) -> _Recovery | None:
    before = run.clean(each.before or "")
    loss, gain = change(run.clean(each.exact), before), change(before, run.clean(each.variant))
    return None if loss is None or gain is None else _Recovery(each, loss, gain)


def _saving(run: Run, best: Approximation, watts: float) -> str:
    """Return how the power compares with that of the cheapest exact circuit of like operands."""
    own = best.multiplier.operands_signed
    exact = [
        (each.power_mw, name)
        for name, each in run.facts.multipliers.items()
        if each.ep == 0 and each.power_mw and each.operands_signed is own
    ]
    bare = " without its sign gates" if best.multiplier.circuit == "sign_bits" else ""
    if not exact or own is None:
        return bare
    whole, name = min(exact)
    saved = 1 - watts / whole
    word = "less" if saved >= 0 else "more"
    kind = "signed" if own else "unsigned"
    return (
        f"{bare}, {100 * abs(saved):.0f} % {word} than the exact {kind} circuit “{name}” "
        f"({whole:.3g} mW)"
    )


def _figures(difference: Change) -> str:
    """Return accuracy and change in brackets."""
    interval = ""
    if difference.low is not None and difference.high is not None:
        interval = f", 95 % interval {points(difference.low)} to {points(difference.high)}"
    return f"({percent(difference.after.value)} %, {points(difference.value)} points{interval})"


def _comparable(run: Run, group: Sequence[Approximation]) -> tuple[list[Approximation], str]:
    """Return the networks whose losses say something, and a sentence on those left out."""
    base = run.clean(run.facts.baseline)
    least = LEAST_LEFT * base.value if base is not None else 0.0
    approximate = [each for each in group if each.multiplier.ep != 0]
    kept = [
        each
        for each in approximate
        if (clean := run.clean(each.variant)) is None or clean.value >= least
    ]
    reasons = []
    if exact := len(group) - len(approximate):
        reasons.append(f"{_networks(exact)} on exact circuits")
    if weak := len(approximate) - len(kept):
        reasons.append(f"{_networks(weak)} below a quarter of the baseline’s clean accuracy")
    return kept, f" Left out: {joined(reasons)}." if reasons else ""


def _clean_and_under(
    run: Run, group: Sequence[Approximation], threat: tuple[str, float]
) -> list[tuple[float, float]]:
    return [
        (clean.value, under.value)
        for each in group
        if (clean := run.clean(each.variant)) is not None
        and (under := run.find(each.variant, *threat)) is not None
        and clean.value > 0
    ]


def _correlation(rho: Interval, n: int) -> str:
    return f"Spearman’s ρ = {rho.value:.2f}{_interval(rho)}, n = {n}".replace("-", "−")


def _interval(rho: Interval) -> str:
    return "" if rho.low == rho.high else f" [{rho.low:.2f} to {rho.high:.2f}]"


def _sign(rho: Interval) -> int:
    return (rho.low > 0) - (rho.high < 0)


def _ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value; equal ones share the mean of theirs."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def _networks(n: int) -> str:
    return f"{n} network{'' if n == 1 else 's'}"


def _pairs(n: int) -> str:
    return f"{n} pair{'' if n == 1 else 's'} of networks"
