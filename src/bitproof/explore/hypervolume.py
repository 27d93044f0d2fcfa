"""How much of the plane of cost and accuracy a set of measured choices is better than.

Source: Zitzler and Thiele, "Multiobjective Evolutionary Algorithms", IEEE TEC 1999.
"""

from collections.abc import Sequence


def hypervolume(points: Sequence[tuple[float, float]], *, worst: tuple[float, float]) -> float:
    """Return the area between the front of `points` and the corner `worst`.

    Args:
        points: cost, where less is better, and value, where more is.
        worst: largest cost and smallest value that count.

    Example:
        >>> hypervolume([(0.5, 0.8), (0.25, 0.4), (0.6, 0.7), (2.0, 0.9)], worst=(1.0, 0.0))
        0.5
    """
    cost, value = worst
    area, best = 0.0, value
    inside = sorted((c, -v) for c, v in points if c < cost and v > value)
    for own_cost, negative in inside:
        if -negative > best:
            area += (cost - own_cost) * (-negative - best)
            best = -negative
    return area
