"""Accuracy over all levels of a threat as one number: the mean height of its curve.

Model:  trapezoids between the lowest and the highest level measured, divided by the width: over the
        logarithm of the level where levels are spread over decades, else over the level itself.
        Where a trial (a chip, a draw, a batch) was met at every level, each trial has an area, and
        Student's t gives the interval of their mean. Where images are the unit, the same ones are
        met at all levels, and what their area's spread is nobody kept: no interval is given.
Source: METHODS A.3 (AUC-FR) for logarithmic levels; the same over plain levels is ours.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from bitproof.report.matrix import Column, Matrix
from bitproof.stats.intervals import mean_interval
from bitproof.stats.results import Row

AUC = "auc_fr"
"""The metric of areas that the evaluation itself has worked out."""
CLOSE = 1e-6
"""By how much the mean over trials may miss the area of the table."""


def mean_height(levels: Sequence[float], heights: Sequence[float]) -> float:
    """Return the trapezoid area over two rising `levels` or more, divided by its width.

    Example:
        >>> mean_height([1.0, 2.0, 4.0], [1.0, 0.0, 0.0])
        0.16666666666666666
    """
    ends = zip(pairwise(levels), pairwise(heights), strict=True)
    area = sum((right - left) * (a + b) / 2 for (left, right), (a, b) in ends)
    return area / (levels[-1] - levels[0])


def has_area(matrix: Matrix, column: Column) -> bool:
    """Return whether a threat has levels enough for an area."""
    return len(_levels(matrix, column)) > 1


def area(matrix: Matrix, network: str, column: Column) -> Row | None:
    """Return the mean accuracy of a network over the levels of a threat.

    None where there is one level alone, or one of them was not measured.
    """
    told = matrix.run.find(network, column.threat, None, metric=AUC)
    if told is not None:
        return told
    levels = _levels(matrix, column)
    rows = [matrix.run.find(network, column.threat, level) for level in levels]
    heights = [row.value for row in rows if row is not None]
    if len(levels) < 2 or len(heights) < len(levels):
        return None
    value = mean_height(_places(column, levels), heights)
    by_trial = [] if column.unit == "image" else _by_trial(matrix, network, column)
    if len(by_trial) > 1:
        ends = mean_interval(by_trial)
        if abs(ends.value - value) < CLOSE:
            return Row(
                *(network, column.threat, None, "auc"), value, ends.low, ends.high, len(by_trial)
            )
    sizes = {row.n for row in rows if row is not None}
    return Row(
        network, column.threat, None, "auc", value, n=sizes.pop() if len(sizes) == 1 else None
    )


def _by_trial(matrix: Matrix, network: str, column: Column) -> list[float]:
    """Return the area of each trial; none where levels had other trials."""
    run = matrix.run
    found = [
        run.trials.get((run.network_of(network), column.threat, level), {})
        for level in _levels(matrix, column)
    ]
    if any(one.keys() != found[0].keys() for one in found):
        return []
    places = _places(column, _levels(matrix, column))
    return [mean_height(places, [one[trial].acc for one in found]) for trial in sorted(found[0])]


def _levels(matrix: Matrix, column: Column) -> list[float]:
    """Return the levels of an area; of logarithmic ones, those above zero."""
    levels = matrix.run.levels(column.threat)
    return [level for level in levels if level > 0] if column.label.logarithmic else levels


def _places(column: Column, levels: Sequence[float]) -> list[float]:
    return [math.log10(level) for level in levels] if column.label.logarithmic else list(levels)
