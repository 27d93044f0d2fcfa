"""What a search has to solve: units, blocks, harm, cost, and what is wanted of a choice.

Model:  cost is a weighted sum of figures of the accelerator, each relative to exact products. Harm
        and cost are given twice: as tables that add up over units, for closed-form search, and as
        the accelerator and the emulator have them, with everything rounded. What is wanted is the
        least cost at a drop of accuracy, or the best accuracy, within limits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Float64

from bitproof.core.errors import SpecError
from bitproof.explore.accelerator import FIGURES, Accelerator, HardwareFigures
from bitproof.explore.count_store import Counted
from bitproof.explore.goal import Goal
from bitproof.explore.interactions import Interactions
from bitproof.explore.knapsack import Mask, UnitTable
from bitproof.explore.measuring import Measuring
from bitproof.explore.multiplier_set import MultiplierSet
from bitproof.explore.point import Point, accuracies
from bitproof.explore.units import Choice, Units

MOST_SETS = 100_000
"""Sets of multipliers that a search looks at one by one."""
OF_ENERGY = ("power", "multiplier_power", "energy", "multiplier_energy")
"""Figures that follow the energy of products."""


@dataclass(frozen=True, eq=False)
class Harm:
    """What multipliers do to the loss under one threat."""

    scores: UnitTable
    """By unit and block; adds up."""
    interactions: Interactions | None = None
    """What does not add up, where the score knows it."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A search problem."""

    units: Units
    blocks: MultiplierSet
    accelerator: Accelerator
    goal: Goal
    harms: tuple[Harm, ...]
    """Under each threat and level, as the evaluation has them."""
    margin_scores: UnitTable
    """Variance of margins by unit and block; adds up."""
    margins: Float64[np.ndarray, " n"]
    """Of profiled images."""
    measuring: Measuring
    chance: float
    """Accuracy of guessing."""
    objective: int = 0
    """The threat and level, by its place, that harm and accuracy are of."""

    def under(self, objective: int) -> "Problem":
        """Return the same problem for accuracy under another threat and level."""
        return replace(self, objective=objective)

    @property
    def scores(self) -> UnitTable:
        """Harm by unit and block; adds up."""
        return self.harms[self.objective].scores

    @property
    def interactions(self) -> Interactions | None:
        """Harm that does not add up, where the score knows it."""
        return self.harms[self.objective].interactions

    @property
    def images(self) -> int:
        """Images that clean accuracy is counted on."""
        emulator = self.measuring.emulator
        wanted = getattr(emulator.evaluation.threats[0], "images", None)
        return min(wanted or len(emulator.data), len(emulator.data))

    @cached_property
    def groups(self) -> Choice:
        """The group of each unit that closed-form search lets choose together, from 0.

        Elements of an accelerator, where area counts; else each unit is one.
        """
        if "area" not in {*self.goal.minimize, *self.goal.limits}:
            return np.arange(self.units.count)
        usual = self.scores / np.maximum(self.scores.sum(0), 1e-300)
        return self.accelerator.groups(self.units, usual.mean(1))

    @property
    def exact(self) -> Choice:
        """The choice of exact products everywhere."""
        return np.full(self.units.count, self.blocks.exact)

    @cached_property
    def exact_figures(self) -> HardwareFigures:
        """What exact products take.

        Raises:
            SpecError: a figure is 0, so that none can be told relative to it.
        """
        found = self._absolute(self.exact)
        for name in FIGURES:
            if not getattr(found, name) > 0:
                raise SpecError(
                    f"costs: wanted exact products that take some {name.replace('_', ' ')}, which "
                    "others are told relative to; they take none"
                )
        return found

    def figures(self, choice: Choice) -> HardwareFigures:
        """Return what a choice takes, relative to exact products."""
        return self._absolute(choice).relative_to(self.exact_figures)

    def cost(self, figures: HardwareFigures) -> float:
        """Return the weighted sum of relative figures, 1 for exact products."""
        weights = self.goal.minimize
        whole = sum(weights.values())
        return float(sum(w * getattr(figures, name) for name, w in weights.items()) / whole)

    def fits(self, figures: HardwareFigures) -> bool:
        """Return whether figures are within the limits."""
        return all(
            getattr(figures, name) <= limit + 1e-9 for name, limit in self.goal.limits.items()
        )

    @cached_property
    def costs(self) -> UnitTable:
        """Cost by unit and block, as far as it adds up."""
        return self._added(self.goal.minimize)

    @cached_property
    def figure_costs(self) -> dict[str, UnitTable]:
        """Each figure by unit and block, as far as it adds up; all 0 where it does not."""
        return {name: self._added({name: 1.0}) for name in FIGURES}

    def predicted_figure(self, choice: Choice, name: str) -> float:
        """Return what tables that add up say of one figure of a choice, 1 for exact products.

        Area of an accelerator that layers share follows the kinds in use, which is no sum.
        """
        if name == "area" and self.accelerator.shares_blocks:
            return self.figures(choice).area
        table, rows = self.figure_costs[name], np.arange(self.units.count)
        return 1.0 + float(table[rows, choice].sum() - table[rows, self.exact].sum())

    def score(self, choice: Choice) -> float:
        """Return the harm of a choice."""
        if self.interactions is not None:
            return self.interactions.harm(choice)
        return float(self.scores[np.arange(self.units.count), choice].sum())

    def harm(self, choice: Choice) -> Float64[np.ndarray, "layers blocks"]:
        """Return the harm of a choice by layer and multiplier.

        What does not add up is shared out in proportion.
        """
        found = np.zeros((len(self.units.layers), len(self.blocks)))
        own = self.scores[np.arange(self.units.count), choice]
        np.add.at(found, (self.units.layer_of, choice), own)
        total = own.sum()
        return found * (self.score(choice) / total) if total > 0 else found

    def noise(self, choice: Choice) -> float:
        """Return the variance of margins under a choice."""
        return float(self.margin_scores[np.arange(self.units.count), choice].sum())

    def masks(self, most_blocks: int) -> list[Mask]:
        """Return which blocks units may take together.

        All that are fast enough for a limit of latency; on an accelerator that layers share, each
        subset of at most `most_blocks` of them.
        """
        usable = self._within_latency()
        sets: Iterable[Sequence[int]] = [usable]
        if self.accelerator.shares_blocks:
            sizes = range(1, min(most_blocks, len(usable)) + 1)
            if (n_sets := sum(comb(len(usable), size) for size in sizes)) > MOST_SETS:
                raise SpecError(
                    f"most_blocks: wanted at most {MOST_SETS} sets of multipliers, got {n_sets} of "
                    f"up to {most_blocks} among {len(usable)}"
                )
            sets = [subset for size in sizes for subset in combinations(usable, size)]
            # Filters without a choice multiply exactly, so that the exact block is there anyway.
            if (self.units.unit_of < 0).any():
                sets = [each for each in sets if self.blocks.exact in each]
        elif self._slowed:
            delays = self.blocks.costs("delay_ns")
            sets = [
                [b for b in usable if delays[b] <= most] for most in sorted(set(delays[usable]))
            ]
        masks = []
        for subset in sets:
            mask = np.zeros((self.units.count, len(self.blocks)), bool)
            mask[:, list(subset)] = True
            masks.append(mask)
        return masks

    def point(self, choice: Choice, counted: Counted, number: int) -> Point:
        """Return a measured choice with its figures."""
        figures, emulator = self.figures(choice), self.measuring.emulator
        return Point(
            choice=choice,
            accs=accuracies(emulator.evaluation, emulator.data, counted),
            figures=figures,
            cost=self.cost(figures),
            seconds=counted.seconds,
            number=number,
        )

    @property
    def _slowed(self) -> bool:
        """Whether a slow block costs time."""
        named = {*self.goal.minimize, *self.goal.limits} & {"latency", "interval"}
        return self.accelerator.clock_mhz is None and bool(named)

    def _within_latency(self) -> list[int]:
        """Return the blocks that a limit of latency allows; with a clock, all are as fast."""
        if self.accelerator.clock_mhz is not None:
            return list(range(len(self.blocks)))
        limit = min(self.goal.limits.get(name, np.inf) for name in ("latency", "interval"))
        delays = self.blocks.costs("delay_ns") + self.accelerator.adder_delay_ns
        most = limit * delays[self.blocks.exact] + 1e-9
        return [block for block, delay in enumerate(delays) if delay <= most]

    def _absolute(self, choice: Choice) -> HardwareFigures:
        chosen = self.units.by_filter(choice, rest=self.blocks.exact)
        return self.accelerator.figures(self.units, self.blocks, chosen)

    def _added(self, weights: Mapping[str, float]) -> UnitTable:
        """Return the weighted sum of relative figures by unit and block."""
        whole = sum(weights.values())
        products = self.accelerator.energy(self.units, self.blocks)
        areas = self.accelerator.additive_area(self.units, self.blocks)
        exact = self.exact_figures
        total = np.zeros_like(products)
        for name, weight in weights.items():
            if name in OF_ENERGY:
                bare = name.startswith("multiplier")
                energy = exact.multiplier_energy if bare else exact.energy
                total += weight / whole * products / (energy * 1e6)
            elif name == "area":
                total += weight / whole * areas / exact.area
        return self.units.summed(total)
