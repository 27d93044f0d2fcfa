"""Which block for which unit, where harm and cost add up: a multiple-choice knapsack.

Model:  each unit takes one block; scores (harm) and costs of a choice are sums over units. The
        choices that are best for some price of harm are the convex front: beginning with the least
        harm, one unit after the other steps down the lower convex hull of its blocks, the step
        that saves most for its harm first. Between two of these choices, what is left of a bound
        is used up unit by unit, and in pairs where units are few.
Source: Sinha and Zoltners, "The Multiple-Choice Knapsack Problem", Operations Research 1979;
        METHODS B.4, search.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitproof.explore.units import Choice

MOST_PAIRED = 1000
"""Units times blocks up to which pairs of units are tried."""
SMALLEST_GAIN = 1e-15
UnitTable = Float64[np.ndarray, "units blocks"]
Mask = Bool[np.ndarray, "units blocks"]


@dataclass(frozen=True, eq=False)
class ConvexFront:
    """Choices of least harm for their cost, from the least harmful to the cheapest.

    Example:
        >>> scores = np.array([[0.0, 1.0], [0.0, 5.0]])
        >>> costs = np.array([[3.0, 1.0], [3.0, 1.0]])
        >>> front = convex_front(scores, costs)
        >>> [front.choice(n).tolist() for n in range(len(front))]
        [[0, 0], [1, 0], [1, 1]]
        >>> front.scores.tolist(), front.costs.tolist()
        ([0.0, 1.0, 6.0], [6.0, 4.0, 2.0])
    """

    start: Choice
    unit: Int64[np.ndarray, " steps"]
    """The unit that each step changes."""
    block: Int64[np.ndarray, " steps"]
    """The block that it gets."""
    scores: Float64[np.ndarray, " choices"]
    """Harm of each choice, one more than steps."""
    costs: Float64[np.ndarray, " choices"]

    def __len__(self) -> int:
        return len(self.scores)

    def choice(self, number: int) -> Choice:
        """Return a choice: `start` after the first `number` steps."""
        found = self.start.copy()
        # Steps of one unit come in order, so the last one counts.
        found[self.unit[:number]] = self.block[:number]
        return found

    @cached_property
    def cheapest(self) -> int:
        """The number of the last choice."""
        return len(self) - 1

    def within(self, score: float) -> int:
        """Return the number of the cheapest choice with at most this harm; 0 if there is none."""
        return max(int(np.searchsorted(self.scores, score, side="right")) - 1, 0)

    def for_cost(self, cost: float) -> int:
        """Return the number of the least harmful choice that costs no more; the last if none."""
        fits = np.flatnonzero(self.costs <= cost + 1e-9 * abs(cost))
        return int(fits[0]) if len(fits) else self.cheapest


def undominated_pairs(scores: UnitTable, costs: UnitTable, allowed: Mask | None = None) -> Mask:
    """Return which blocks of a unit no other beats in both harm and cost; of equals, the first.

    Example:
        >>> scores, costs = np.array([[0.0, 1.0, 2.0, 1.0]]), np.array([[3.0, 1.0, 2.0, 1.0]])
        >>> undominated_pairs(scores, costs).tolist()
        [[True, True, False, False]]
    """
    units, blocks = scores.shape
    kept = np.ones((units, blocks), bool) if allowed is None else allowed.copy()
    for block in range(blocks):
        for other in range(blocks):
            if other == block:
                continue
            no_worse = (scores[:, other] <= scores[:, block]) & (costs[:, other] <= costs[:, block])
            better = (scores[:, other] < scores[:, block]) | (costs[:, other] < costs[:, block])
            able = True if allowed is None else allowed[:, other]
            kept[:, block] &= ~(no_worse & (better | (other < block)) & able)
    return kept


def convex_front(scores: UnitTable, costs: UnitTable, allowed: Mask | None = None) -> ConvexFront:
    """Return the convex front; `allowed` says which blocks a unit may take, None: all."""
    kept = undominated_pairs(scores, costs, allowed)
    units = len(scores)
    start = np.where(kept, scores, np.inf).argmin(1)
    rows = np.arange(units)
    found: list[tuple[np.ndarray, ...]] = []
    now = start.copy()
    active = rows
    while len(active):
        # The next corner of each hull: least harm for what is saved.
        saved = costs[active, now[active], None] - costs[active]
        harm = scores[active] - scores[active, now[active], None]
        able = kept[active] & (saved > 0)
        price = np.where(able, harm / np.where(able, saved, 1.0), np.inf)
        best = price.min(1)
        # Of equal prices the longest step, so that no corner lies on an edge.
        ties = np.where(price == best[:, None], saved, -np.inf)
        block = ties.argmax(1)
        goes_on = np.isfinite(best)
        active, block, best = active[goes_on], block[goes_on], best[goes_on]
        if not len(active):
            break
        before = now[active]
        found.append(
            (
                active.copy(),
                block,
                best,
                scores[active, block] - scores[active, before],
                costs[active, block] - costs[active, before],
            )
        )
        now[active] = block
    first = scores[rows, start].sum(), costs[rows, start].sum()
    if not found:
        empty = np.zeros(0, np.int64)
        return ConvexFront(start, empty, empty, np.array([first[0]]), np.array([first[1]]))
    unit, block, price, harm, saved = (np.concatenate(part) for part in zip(*found, strict=True))
    # Prices of one unit rise, so a stable order keeps its steps in order.
    order = np.argsort(price, kind="stable")
    return ConvexFront(
        start=start,
        unit=unit[order],
        block=block[order],
        scores=first[0] + np.concatenate([[0.0], np.cumsum(harm[order])]),
        costs=first[1] + np.concatenate([[0.0], np.cumsum(saved[order])]),
    )


def cheapest_within(
    scores: UnitTable, costs: UnitTable, score: float, allowed: Mask | None = None
) -> Choice:
    """Return a cheap choice with at most this harm: the convex front, then filled up.

    Where no choice has so little, the least harmful one comes back.
    """
    front = convex_front(scores, costs, allowed)
    choice = front.choice(front.within(score))
    return _filled(choice, scores, costs, score, allowed)


def best_for_cost(
    scores: UnitTable, costs: UnitTable, cost: float, allowed: Mask | None = None
) -> Choice:
    """Return a choice of little harm that costs no more; where none does, the cheapest one."""
    front = convex_front(scores, costs, allowed)
    choice = front.choice(front.for_cost(cost))
    return _filled(choice, costs, scores, cost, allowed)


def _filled(
    choice: Choice, bounded: UnitTable, wanted: UnitTable, bound: float, allowed: Mask | None
) -> Choice:
    """Return a choice that `wanted` is less of, while `bounded` stays within its bound.

    Single units are changed, that with the most gain for its price first; of few units also pairs,
    of which one gives what the other can use better.
    """
    able = np.ones(bounded.shape, bool) if allowed is None else allowed
    rows = np.arange(len(choice))
    choice = choice.copy()
    while True:
        room = bound - bounded[rows, choice].sum() + 1e-12 * max(abs(bound), 1.0)
        gain = np.where(able, wanted[rows, choice][:, None] - wanted, -np.inf)
        price = bounded - bounded[rows, choice][:, None]
        changes = _one_change(gain, price, room)
        if not changes and gain.size <= MOST_PAIRED:
            changes = _two_changes(gain, price, room)
        if not changes:
            return choice
        for unit, block in changes:
            choice[unit] = block


def _one_change(gain: UnitTable, price: UnitTable, room: float) -> list[tuple[int, int]]:
    """Return the change of one unit that gains most for its price, if one fits."""
    fits = (gain > SMALLEST_GAIN) & (price <= room)
    if not fits.any():
        return []
    worth = np.where(fits, gain / np.maximum(price, 1e-300), -np.inf)
    unit, block = np.unravel_index(worth.argmax(), worth.shape)
    return [(int(unit), int(block))]


def _two_changes(gain: UnitTable, price: UnitTable, room: float) -> list[tuple[int, int]]:
    """Return the changes of two units that gain most together, if a pair fits."""
    blocks = gain.shape[1]
    gains, prices = gain.ravel(), price.ravel()
    together = gains[:, None] + gains
    fits = (together > SMALLEST_GAIN) & (prices[:, None] + prices <= room)
    unit = np.arange(gain.size) // blocks
    fits &= unit[:, None] != unit
    if not fits.any():
        return []
    pair = np.unravel_index(np.where(fits, together, -np.inf).argmax(), together.shape)
    return [(int(place) // blocks, int(place) % blocks) for place in pair]
