"""What a circuit costs, and which of several choices are worth their cost."""

import math
from collections.abc import Sequence

from bitproof.core.spec import Spec
from bitproof.core.types import NonNegative


class Cost(Spec):
    """What a circuit takes, as somebody published it.

    Example:
        >>> Cost(area_um2=729.8, power_mw=0.425, delay_ns=1.48, source="EvoApproxLib").power_mw
        0.425
    """

    area_um2: NonNegative
    """Cell area, in square micrometres."""
    power_mw: NonNegative
    """Power, in milliwatts, at the activity of the source."""
    delay_ns: NonNegative
    """Critical path, in nanoseconds."""
    source: str
    """Who measured it, in which technology."""


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of points that no other beats: least cost, highest value.

    A point beats another if it is no worse in both and better in one; equal points both stay.

    Args:
        points: cost and value of each.

    Example:
        >>> pareto_front([(0.4, 0.96), (0.2, 0.95), (0.3, 0.94), (0.2, 0.95)])
        [0, 1, 3]
    """
    front: list[int] = []
    best = -math.inf
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best or (front and points[i] == points[front[-1]]):
            front.append(i)
            best = points[i][1]
    return sorted(front)


def undominated(points: Sequence[Sequence[float]]) -> list[int]:
    """Return the indices of points that no other beats, where more is better in every entry.

    A point beats another if it is no worse in all entries and better in one.

    Example:
        >>> undominated([(0.9, 0.1, 0.5), (0.8, 0.4, 0.5), (0.8, 0.3, 0.5), (0.9, 0.1, 0.5)])
        [0, 1, 3]
    """

    def beats(one: Sequence[float], other: Sequence[float]) -> bool:
        pairs = list(zip(one, other, strict=True))
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    return [i for i, own in enumerate(points) if not any(beats(each, own) for each in points)]
