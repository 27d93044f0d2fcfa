"""HAWX: predict every choice from scores, solve in closed form, and measure a few finalists.

Model:  a few choices are measured to calibrate accuracy by score (`predictors`). Which choice is
        cheapest at a score is a knapsack (`knapsack`), solved once for each set of multipliers
        that may stand together on the accelerator. Finalists at several predicted accuracies are
        measured, the calibration takes them in, and choices at the goal are proposed; the drop that
        they are proposed at is moved until the measured one is that of the goal.
Source: METHODS B.4; arXiv 2602.16336. Measuring and recalibrating are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field

from bitproof.explore.interactions import Interactions
from bitproof.explore.knapsack import (
    ConvexFront,
    Mask,
    UnitTable,
    best_for_cost,
    cheapest_within,
    convex_front,
)
from bitproof.explore.point import Point
from bitproof.explore.predictors import AccuracyCurve, CalibratedHarm, MarginModel
from bitproof.explore.problem import Problem
from bitproof.explore.random_choices import random_choice
from bitproof.explore.search import SEARCHES, Search
from bitproof.explore.trial import Trial
from bitproof.explore.units import Choice

DROPS = (0.25, 4.0)
"""Finalists' smallest and largest predicted drops of accuracy, in units of that of the goal."""
DROP = 0.01
"""Drop of accuracy where the goal names none."""
TIGHTER = 0.98
"""Factor on a limit that rounding has passed."""
TRIES = 20


@SEARCHES.register
class Hawx(Search):
    """Scores, closed-form search, and a few measured finalists.

    Example:
        >>> Hawx(calibration="margin", finalists=0).kind
        'hawx'
    """

    kind: Literal["hawx"] = "hawx"
    calibration: Literal["curve", "margin", "none"] = "curve"
    """`curve`: measures exact products, each multiplier everywhere, and `drawn` choices at random;
    `margin`: measures one multiplier everywhere, and takes accuracy without errors from the
    profiled images; `none`: measures nothing for that."""
    drawn: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 8
    """Choices at random that calibrate the curve as well."""
    finalists: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 5
    """Choices that are measured at predicted drops about the goal's, before those at the goal; so
    many for accuracy under each threat and level."""
    rounds: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 6
    """How often a choice at the goal is predicted, measured and taken into the calibration."""
    most_blocks: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 3
    """Kinds of multipliers that are used together where each costs area once."""

    def run(self, problem: Problem, trial: Trial) -> None:
        """Calibrate, solve, measure."""
        known = self.calibrate(problem, trial)
        known = self._spread(problem, trial, known)
        for objective in range(1, len(problem.harms)) if self.calibration == "curve" else ():
            other = problem.under(objective)
            self._spread(other, trial, calibrated(other, trial.points))
        if problem.goal.max_drop is None:
            self._within_limits(problem, trial, known)
        else:
            self._at_drop(problem, trial, known, goal=problem.goal.max_drop)

    def _spread(self, problem: Problem, trial: Trial, known: "Calibrated") -> "Calibrated":
        """Measure choices at several predicted drops, and return what they calibrate."""
        if not self.finalists:
            return known
        plans = Plans(problem, known, self.most_blocks)
        drop = problem.goal.max_drop or DROP
        spread = np.geomspace(DROPS[0] * drop, DROPS[1] * drop, self.finalists).tolist()
        trial.measure([each for one in spread for each in plans.at_drop(one)])
        return known.with_points(problem, trial.points)

    def _within_limits(self, problem: Problem, trial: Trial, known: "Calibrated") -> None:
        """Measure what is predicted to be best within limits, until it is known."""
        for _ in range(self.rounds):
            before = len(trial.points)
            trial.measure(Plans(problem, known, self.most_blocks).within_limits())
            if len(trial.points) == before:
                return
            known = known.with_points(problem, trial.points)

    def _at_drop(self, problem: Problem, trial: Trial, known: "Calibrated", *, goal: float) -> None:
        """Measure choices at a predicted drop, moved until the measured one is that of the goal."""
        (exact,) = trial.measure([problem.exact])
        kept, broken, drop = 0.0, None, goal
        for _ in range(self.rounds):
            points = trial.measure(Plans(problem, known, self.most_blocks).at_drop(drop))
            if not points:
                return
            if points[0].acc >= exact.acc - goal:
                kept = drop
            else:
                broken = drop
            drop = 1.5 * kept if broken is None else (kept + broken) / 2
            known = known.with_points(problem, trial.points)

    def calibrate(self, problem: Problem, trial: Trial) -> "Calibrated":
        """Measure what calibrates accuracy by score."""
        alike = [np.full(problem.units.count, block) for block in range(len(problem.blocks))]
        if self.calibration == "none":
            return Calibrated(problem.margin_scores, MarginModel.of(problem.margins))
        if self.calibration == "margin":
            noises = np.array([problem.noise(one) for one in alike])
            noisy = np.flatnonzero(noises > 0)
            middle = noisy[np.argsort(noises[noisy])[len(noisy) // 2]] if len(noisy) else 0
            (point,) = trial.measure([alike[int(middle)]])
            model = MarginModel.of(problem.margins)
            model = model.fitted(problem.noise(point.choice), point.acc)
            return Calibrated(problem.margin_scores, model)
        draw = self.random()
        units, blocks = problem.units.count, len(problem.blocks)
        drawn = [random_choice(draw, units, blocks, 3) for _ in range(self.drawn)]
        trial.measure([problem.exact, *alike, *drawn])
        return calibrated(problem, trial.points)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Accuracy by harm, and the harm that is meant."""

    harm: UnitTable
    """By unit and block; adds up."""
    model: AccuracyCurve | MarginModel
    interactions: Interactions | None = None
    """Harm that does not add up."""

    def with_points(self, problem: Problem, points: Sequence[Point]) -> "Calibrated":
        """Return the calibration with what was measured since."""
        if isinstance(self.model, MarginModel):
            return self
        return calibrated(problem, points)


def calibrated(problem: Problem, points: Sequence[Point]) -> Calibrated:
    """Return accuracy by harm as measured choices have it."""
    found = fitted_harm(problem, points)
    factors = found.factors[problem.units.layer_of]
    together = problem.interactions
    return Calibrated(
        problem.scores * factors,
        found.curve,
        None if together is None else together.scaled(factors),
    )


def fitted_harm(problem: Problem, points: Sequence[Point]) -> CalibratedHarm:
    """Return accuracy by score, of measured choices; exact products are among them."""
    exact = problem.exact.tobytes()
    accs = [point.accs[problem.objective].value for point in points]
    acc0 = next(
        acc for acc, point in zip(accs, points, strict=True) if point.choice.tobytes() == exact
    )
    return CalibratedHarm.fit(
        np.stack([problem.harm(point.choice) for point in points]),
        accs,
        acc0=acc0,
        chance=min(problem.chance, *accs),
        images=problem.images,
    )


@dataclass(frozen=True, eq=False)
class Plans:
    """Closed-form solutions for each set of multipliers that may stand together.

    What chooses are groups of units (`Problem.groups`), mostly of one each.
    """

    problem: Problem
    known: Calibrated
    most_blocks: int

    @cached_property
    def harm(self) -> UnitTable:
        """Harm by group and block; adds up."""
        return self._grouped(self.known.harm)

    @cached_property
    def together(self) -> Interactions | None:
        """Harm of groups that does not add up."""
        own = self.known.interactions
        return None if own is None else own.grouped(self.problem.groups)

    @cached_property
    def costs(self) -> UnitTable:
        """Cost by group and block; adds up."""
        return self._grouped(self.problem.costs)

    @cached_property
    def fronts(self) -> list[tuple[Mask, ConvexFront]]:
        """The sets, and for each the choices of least harm for their cost."""
        first = np.unique(self.problem.groups, return_index=True)[1]
        masks = [mask[first] for mask in self.problem.masks(self.most_blocks)]
        return [(mask, convex_front(self.harm, self.costs, mask)) for mask in masks]

    def at_drop(self, drop: float) -> list[Choice]:
        """Return the cheapest choice that is predicted to lose so much accuracy, if there is one.

        Where limits do not allow it, the least harmful choice within them.
        """
        model = self.known.model
        choice = self.cheapest(model.score_for(model.acc0 - drop))
        if choice is not None and self.problem.fits(self.problem.figures(choice)):
            return [choice]
        return self.within_limits() if self.problem.goal.limits else []

    def cheapest(self, harm: float) -> Choice | None:
        """Return the cheapest choice with at most this harm, whatever the limits."""
        able = [
            (mask, front.choice(front.within(harm)))
            for mask, front in self.fronts
            if front.scores[0] <= harm
        ]
        if not able:
            return None
        mask, _ = min(able, key=lambda one: self._cost(one[1]))
        if self.together is not None:
            return self._improved(harm, mask, self.together)
        return self._by_unit(cheapest_within(self.harm, self.costs, harm, mask))

    def _improved(self, harm: float, mask: Mask, together: Interactions) -> Choice | None:
        """Return a cheap choice with at most this harm, where harm does not add up."""
        front = convex_front(together.alone, self.costs, mask)
        able = [
            together.filled(choice, self.costs, harm, mask)
            for choice in together.choices(front, self.costs, mask)
            if together.harm(choice) <= harm
        ]
        found = min(able, key=self._cost, default=None)
        return None if found is None else self._by_unit(found)

    def within_limits(self) -> list[Choice]:
        """Return the least harmful choice that keeps to all limits, if there is one."""
        found = [choice for mask, _ in self.fronts if (choice := self._limited(mask)) is not None]
        rows = np.arange(len(self.harm))
        best = min(found, key=lambda one: float(self.harm[rows, one].sum()), default=None)
        return [] if best is None else [self._by_unit(best)]

    def _limited(self, mask: Mask) -> Choice | None:
        """Return the least harmful choice of groups, of one set, within all limits."""
        problem = self.problem
        names = [name for name in problem.goal.limits if problem.figure_costs[name].any()]
        bounds = {name: problem.goal.limits[name] for name in names}
        rows = np.arange(problem.units.count)
        for _ in range(TRIES):
            # Limits are weighed together, each by its bound.
            costs, left = np.zeros_like(self.harm), float(len(names))
            for name in names:
                own = problem.figure_costs[name]
                costs = costs + self._grouped(own) / bounds[name]
                left -= (1 - own[rows, problem.exact].sum()) / bounds[name]
            choice = best_for_cost(self.harm, costs, left, mask)
            figures = problem.figures(self._by_unit(choice))
            if problem.fits(figures):
                return choice
            passed = [n for n in names if getattr(figures, n) > problem.goal.limits[n] + 1e-9]
            if not passed:
                return None
            bounds |= {name: bounds[name] * TIGHTER for name in passed}
        return None

    def _grouped(self, table: UnitTable) -> Float64[np.ndarray, "groups blocks"]:
        """Return the sums over the units of each group."""
        groups = self.problem.groups
        found = np.zeros((int(groups.max()) + 1, table.shape[1]))
        np.add.at(found, groups, table)
        return found

    def _by_unit(self, choice: Int64[np.ndarray, " groups"]) -> Choice:
        """Return the choice of units that a choice of groups is."""
        found: Choice = choice[self.problem.groups]
        return found

    def _cost(self, choice: Choice) -> float:
        """Return the cost of a choice of groups, everything rounded."""
        return self.problem.cost(self.problem.figures(self._by_unit(choice)))
