"""The mean height of a curve over the logarithm of its argument.

Source: METHODS A.3 (AUC-FR: trapezoid of the accuracy over log10 of the bit error rate).
"""

import math
from collections.abc import Sequence


def area_over_decades(levels: Sequence[float], heights: Sequence[float]) -> float:
    """Return the trapezoid area over log10 of rising `levels`, divided by its width: a mean height.

    Example:
        >>> area_over_decades([1e-4, 1e-3, 1e-2], [1.0, 1.0, 0.0])
        0.75
    """
    if len(levels) == 1:
        return heights[0]
    logs = [math.log10(level) for level in levels]
    steps = zip(logs, logs[1:], heights, heights[1:], strict=False)
    area = sum((right - left) * (a + b) / 2 for left, right, a, b in steps)
    return area / (logs[-1] - logs[0])
