"""Networks on approximate multipliers: what each costs, which are on the front, which to show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bitproof.report.run import Multiplier, Run, parts

T = TypeVar("T")
MOST_SHOWN = 6
"""Networks on multipliers in the charts and tables that are made for few networks."""


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of points that no other beats: least cost, highest value.

    A point beats another if it is no worse in both and better in one; equal points both stay.

    Args:
        points: cost and value of each.

    Example:
        >>> pareto_front([(0.4, 0.96), (0.2, 0.95), (0.3, 0.94), (0.2, 0.95)])
        [0, 1, 3]
    """

    def beaten(cost: float, value: float) -> bool:
        return any(
            other_cost <= cost
            and other_value >= value
            and (other_cost < cost or other_value > value)
            for other_cost, other_value in points
        )

    return [i for i, point in enumerate(points) if not beaten(*point)]


@dataclass(frozen=True)
class Approximation:
    """One network on a multiplier."""

    variant: str
    name: str
    """Of the multiplier."""
    multiplier: Multiplier
    exact: str
    """The same network with exact products: without the multiplier and the stages after it."""
    later: tuple[str, ...]
    """Stages after the multiplier."""
    before: str | None
    """The same network without those stages; None where there are none."""


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


def shown(run: Run, most: int = MOST_SHOWN) -> tuple[str, ...]:
    """Return the variants for charts and tables of few networks, in order.

    All without a multiplier, and at most `most` with one: the front of clean accuracy and power,
    evenly thinned out if it is longer, then the most accurate of the others.
    """
    found = approximations(run)
    if len(found) <= most:
        return run.variants
    chosen = thinned(front(run, found), most)
    clean = {each.variant: run.clean(each.variant) for each in found}
    others = [each for each in found if each not in chosen]
    others.sort(key=lambda each: -(row.value if (row := clean[each.variant]) else 0.0))
    names = {each.variant for each in [*chosen, *others][:most]}
    return tuple(v for v in run.variants if v in names or v not in run.approximate)


def thinned(found: Sequence[T], most: int) -> list[T]:
    """Return at most `most` (two or more) of a list, evenly spread, its ends among them.

    Example:
        >>> thinned([0, 1, 2, 3, 4, 5, 6], 3)
        [0, 3, 6]
    """
    if len(found) <= most:
        return list(found)
    return [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]


def _approximation(run: Run, variant: str, name: str) -> Approximation:
    stages = parts(variant)
    end = len(stages) - stages[::-1].index(name)
    exact = [part for part in stages[: end - 1] if part not in run.facts.multipliers]
    return Approximation(
        variant,
        name,
        run.facts.multipliers[name],
        "+".join(exact) or run.facts.baseline,
        tuple(stages[end:]),
        "+".join(stages[:end]) if stages[end:] else None,
    )
