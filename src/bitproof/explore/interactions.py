"""Harm that does not add up: errors of several units that strengthen or cancel each other.

Model:  to first order, unit u with block b changes the loss of image i by d[i, u, b]. The harm of a
        choice is the mean over images of the squared sum of these over units. Products of two of
        them, mean over images, are all that is needed: what changing one unit does to a choice
        then takes one row of that matrix. Choices of the convex front, where harm adds up, are
        improved unit by unit at the price that they stand for.
Source: Deng et al., "CLADO", 2023 (arXiv 2307.05657): interactions between layers when bit widths
        are chosen; here between units and multipliers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64
from scipy.sparse import csr_matrix

from bitproof.core.errors import SpecError
from bitproof.explore.knapsack import ConvexFront, Mask, UnitTable
from bitproof.explore.units import Choice

LARGEST = 12_000
"""Units times blocks whose products of two fit into memory (half a gigabyte)."""
STARTS = 40
"""Choices of a convex front that are improved."""
SMALLEST_GAIN = 1e-12


@dataclass(frozen=True, eq=False)
class Interactions:
    """First-order effects on the loss, and what comes of several together.

    Example:
        >>> effects = np.zeros((2, 2, 2), np.float32)
        >>> effects[:, 0, 1], effects[:, 1, 1] = (1.0, 1.0), (-1.0, -1.0)
        >>> both = Interactions.of(effects)
        >>> [both.harm(np.array(choice)) for choice in ([0, 0], [1, 0], [1, 1])]
        [0.0, 1.0, 0.0]
    """

    products: Float64[np.ndarray, "pairs pairs"]
    """Mean over images of the product of the effects of two pairs of unit and block."""
    blocks: int

    @classmethod
    def of(cls, effects: Float32[np.ndarray, "images units blocks"]) -> "Interactions":
        """Return the interactions of effects by image, unit and block.

        Raises:
            SpecError: there are too many units for their products.
        """
        images, units, blocks = effects.shape
        check_size(units, blocks)
        flat = effects.reshape(images, -1)
        return cls((flat.T @ flat / images).astype(np.float64), blocks)

    @cached_property
    def alone(self) -> UnitTable:
        """The harm of each unit and block alone; it adds up only without interactions."""
        return np.diag(self.products).reshape(-1, self.blocks)

    def grouped(self, groups: Choice) -> "Interactions":
        """Return the interactions of groups of units that choose together, numbered from 0."""
        if len(groups) == int(groups.max()) + 1:
            return self
        pairs = (groups[:, None] * self.blocks + np.arange(self.blocks)).ravel()
        size = (int(groups.max()) + 1) * self.blocks
        ones = csr_matrix((np.ones(len(pairs)), (pairs, np.arange(len(pairs)))), (size, len(pairs)))
        return Interactions(ones @ (ones @ self.products).T, self.blocks)

    def scaled(self, factors: UnitTable) -> "Interactions":
        """Return the same with the harm of units and blocks times factors."""
        roots = np.sqrt(factors.ravel())
        return Interactions(self.products * roots[:, None] * roots, self.blocks)

    def harm(self, choice: Choice) -> float:
        """Return the harm of a choice."""
        own = self._pairs(choice)
        return float(self.products[np.ix_(own, own)].sum())

    def improved(self, choice: Choice, costs: UnitTable, price: float, allowed: Mask) -> Choice:
        """Return a choice of which no unit can be changed for less harm plus price times cost."""
        choice = choice.copy()
        with_all = self.products[:, self._pairs(choice)].sum(1)
        while True:
            change = self._changes(choice, with_all) + price * _cost_changes(choice, costs)
            change = np.where(allowed, change, np.inf)
            unit, block = np.unravel_index(change.argmin(), change.shape)
            if change[unit, block] >= -SMALLEST_GAIN * (1 + abs(price)):
                return choice
            self._change_(choice, with_all, int(unit), int(block))

    def filled(self, choice: Choice, costs: UnitTable, bound: float, allowed: Mask) -> Choice:
        """Return a cheaper choice with at most this harm, changed unit by unit."""
        choice = choice.copy()
        with_all = self.products[:, self._pairs(choice)].sum(1)
        harm = self.harm(choice)
        while True:
            more = self._changes(choice, with_all)
            saved = -_cost_changes(choice, costs)
            fits = allowed & (saved > SMALLEST_GAIN) & (harm + more <= bound * (1 + 1e-9))
            if not fits.any():
                return choice
            worth = np.where(fits, saved / np.maximum(more, 1e-300), -np.inf)
            unit, block = np.unravel_index(worth.argmax(), worth.shape)
            harm += float(more[unit, block])
            self._change_(choice, with_all, int(unit), int(block))

    def choices(self, front: ConvexFront, costs: UnitTable, allowed: Mask) -> Iterator[Choice]:
        """Yield choices of a front, improved at the price where each of them is best."""
        last = len(front) - 1
        for number in np.unique(np.linspace(0, last, STARTS).round().astype(int)).tolist():
            after = min(number + 1, last)
            before = max(after - 1, 0)
            saved = front.costs[before] - front.costs[after]
            harm = front.scores[after] - front.scores[before]
            price = float(harm / saved) if saved > 0 else 0.0
            yield self.improved(front.choice(number), costs, price, allowed)

    def _pairs(self, choice: Choice) -> Choice:
        own: Choice = np.arange(len(choice)) * self.blocks + choice
        return own

    def _changes(self, choice: Choice, with_all: Float64[np.ndarray, " pairs"]) -> UnitTable:
        """Return by how much changing one unit changes the harm."""
        own = self._pairs(choice)
        alone, everyone = self.alone, with_all.reshape(-1, self.blocks)
        units = np.arange(len(choice))
        between = self.products.reshape(len(choice), self.blocks, -1)[units, :, own]
        now = everyone[units, choice][:, None]
        found: UnitTable = (
            2 * (everyone - now) + alone + alone[units, choice][:, None] - 2 * between
        )
        return found

    def _change_(
        self, choice: Choice, with_all: Float64[np.ndarray, " pairs"], unit: int, block: int
    ) -> None:
        first = unit * self.blocks
        with_all += self.products[:, first + block] - self.products[:, first + choice[unit]]
        choice[unit] = block


def check_size(units: int, blocks: int) -> None:
    """Refuse what takes too much memory.

    Raises:
        SpecError: there are too many units for their products.
    """
    if units * blocks > LARGEST:
        raise SpecError(
            f"joint: wanted at most {LARGEST} pairs of unit and multiplier, got {units} units "
            f"with {blocks} multipliers; take the score 'observed' or 'hawx'"
        )


def _cost_changes(choice: Choice, costs: UnitTable) -> UnitTable:
    found: UnitTable = costs - costs[np.arange(len(choice)), choice][:, None]
    return found
