"""What charts of accuracies share: size, axis, intervals."""

import math
from collections.abc import Sequence

from bitproof.report.figures import Spec, number

WIDTH, HEIGHT = 400, 270
RANGE = {"y": number("low"), "y2": {"field": "high"}}
"""Channels of intervals."""


def frame(rows: Sequence[Spec], height: int | Spec = HEIGHT) -> Spec:
    """Return the start of a spec: size and data."""
    return {"width": WIDTH, "height": height, "data": {"values": list(rows)}}


def rates(value: float, low: float | None, high: float | None) -> Spec:
    """Return a rate and its interval in per cent."""
    ends = {"value": value, "low": low, "high": high}
    return {name: None if end is None else round(100 * end, 9) for name, end in ends.items()}


def tooltip(*names: str) -> list[Spec]:
    """Return what a pointer is told of a row: some fields, then rate and interval."""
    numbers = [number(name, format=".4~g") for name in ("value", "low", "high")]
    return [*({"field": name} for name in names), *numbers]


def accuracy_axis(ends: Sequence[float | None]) -> Spec:
    """Return the axis of accuracies, with all ends on it."""
    limits = {"domain": value_range(ends), "nice": False}
    return number("value", title="accuracy, %", scale=limits)


def value_range(ends: Sequence[float | None]) -> list[int]:
    """Return round limits in per cent around fractions, at least 20 points apart.

    Example:
        >>> value_range([0.93, 0.91, None, 0.95])
        [80, 100]
    """
    seen = [each for each in ends if each is not None]
    bottom = max(math.floor(min(seen, default=0.0) * 10 + 1e-9) * 10, 0)
    top = min(math.ceil(max(seen, default=1.0) * 10 - 1e-9) * 10, 100)
    return [bottom, top] if top - bottom >= 20 else [max(top - 20, 0), max(top, 20)]
