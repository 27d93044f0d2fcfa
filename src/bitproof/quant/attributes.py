"""Values that the attributes of a node may have, whatever the shapes that it reads.

`operations` says which attributes there are and of what type; this says what numbers they hold.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bitproof.core.errors import near, shorten
from bitproof.quant.floats import FUNCTIONS
from bitproof.quant.graph import BATCH
from bitproof.quant.layout import MOST_AXES

MOST = 1 << 24
"""Largest stride, dilation, padding, kernel, factor or number of groups."""
LARGEST_SIZE = 1 << 40
"""Of one axis, in a stored shape."""
HUGE = 1e39
"""Real numbers lie within: beyond any float32, and their ratios to steps do not overflow."""
MOST_REAL = sys.float_info.max
"""The largest parameter of a function, which is computed in float64."""

PARAMETERS: dict[str, tuple[str, ...]] = {
    "clamp": ("min", "max"),
    "gelu": ("approximate",),
    "leaky_relu": ("negative_slope",),
    "elu": ("alpha",),
    "celu": ("alpha",),
    "softplus": ("beta", "threshold"),
    "hardshrink": ("lambd",),
    "softshrink": ("lambd",),
    "threshold": ("threshold", "value"),
    "pow": ("other",),
    "multiply": ("other",),
    "shift": ("other",),
}
"""What functions of a table take besides the input; the others take nothing."""
NEEDED: dict[str, tuple[str, ...]] = {
    "threshold": ("threshold", "value"),
    **dict.fromkeys(("pow", "multiply", "shift"), ("other",)),
}
"""What they do not go without."""


def problem_of_values(op: str, attrs: Mapping[str, Any]) -> str:
    """Say what is wrong with attributes of the right types; empty if nothing is.

    Example:
        >>> problem_of_values("conv", {"stride": [0, 1]})
        "wanted 'stride' of 1 to 16777216 each, got [0, 1]"
    """
    for name, value in attrs.items():
        check = OWN_VALUES.get((op, name)) or VALUES.get(name)
        wanted = check(value) if check else ""
        if wanted:
            return f"wanted '{name}' of {wanted}, got {shorten(value)}"
    return TOGETHER[op](attrs) if op in TOGETHER else ""


def _each(low: int, high: int = MOST) -> Callable[[Sequence[int]], str]:
    def check(values: Sequence[int]) -> str:
        return "" if all(low <= one <= high for one in values) else f"{low} to {high} each"

    return check


def _is_real(value: float, low: float = -HUGE, high: float = HUGE) -> bool:
    """Tell whether a number lies within bounds; whole ones have to be exact as floats, too."""
    return low <= value <= high and (isinstance(value, float) or abs(value) <= 1 << 53)


def _number(low: float, high: float) -> Callable[[float], str]:
    return lambda value: "" if _is_real(value, low, high) else f"{low:g} to {high:g}"


def _dims(values: Sequence[int]) -> str:
    fits = values and all(-MOST_AXES <= one < MOST_AXES for one in values)
    return "" if fits and len(set(values)) == len(values) else "axes, each once"


def _clamp(bounds: Sequence[float | None]) -> str:
    given = [bound for bound in bounds if bound is not None]
    fits = len(bounds) == 2 and all(map(_is_real, given))
    return "" if fits and given == sorted(given) else "two finite bounds in rising order"


def _shape(sizes: Sequence[Any]) -> str:
    plain = [size for size in sizes if not isinstance(size, list)]
    fits = all(size == -1 or 1 <= size <= LARGEST_SIZE for size in plain)
    for marked in (size for size in sizes if isinstance(size, list)):
        known = len(marked) == 2 and marked[0] == BATCH and isinstance(marked[1], int)
        fits = fits and known and 1 <= marked[1] <= LARGEST_SIZE
    return "" if fits and len(sizes) <= MOST_AXES else "positive sizes, or ['batch', size]"


def _index(entries: Sequence[Any]) -> str:
    for entry in entries:
        ends = entry if isinstance(entry, list) else [entry]
        numbers = [end for end in ends if end is not None]
        steps = ends[2:] if isinstance(entry, list) else []
        fits = 1 <= len(ends) <= 3 and all(abs(end) <= LARGEST_SIZE for end in numbers)
        if not fits or any(step is not None and step < 1 for step in steps):
            return "places and [start, stop, step] with positive steps"
    return ""


def _rows(rows: Sequence[Sequence[int]]) -> str:
    fits = rows and all(len(row) == len(rows[0]) > 0 for row in rows)
    small = all(abs(one) < 1 << 31 for row in rows for one in row)
    return "" if fits and small else "rows of one length, of numbers below 2**31"


def _hexadecimal(digits: str) -> str:
    return "" if re.fullmatch(r"([0-9a-f]{2})*", digits) else "bytes as hexadecimal digits"


VALUES: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("stride", "dilation", "kernel", "factors", "divisors"), _each(1)),
    "padding": _each(0),
    "groups": lambda value: _each(1)([value]),
    "clamp": _clamp,
    "dim": lambda value: _dims([value]),
    "dims": _dims,
    "axes": lambda value: _each(1, MOST_AXES)([value]),
    "eps": _number(0.0, HUGE),
    "factor": _number(1 / HUGE, HUGE),
    "rank": lambda value: _each(0, MOST_AXES)([value]),
    "mean": lambda values: "" if all(map(_is_real, values)) else "finite numbers",
    "std": lambda values: (
        "" if all(_is_real(one, 1 / HUGE) for one in values) else "positive, finite numbers"
    ),
    "shape": _shape,
    "index": _index,
    "weights": _rows,
    "sizes": _each(1, LARGEST_SIZE),
    "bits": _hexadecimal,
}
"""What is wanted where a value has the right type only; empty where it is one that there can be."""

OWN_VALUES: dict[tuple[str, str], Callable[[Any], str]] = {
    ("pad", "padding"): _each(-MOST),  # what is negative is cut off
    ("take", "index"): _each(0, LARGEST_SIZE),
}
"""The same where an operation has an attribute of its own under a name of others."""


def _windows(attrs: Mapping[str, Any]) -> str:
    names = [name for name in ("kernel", "stride", "padding", "dilation") if name in attrs]
    lengths = {len(attrs[name]) for name in names}
    if len(lengths) > 1 or not lengths <= {1, 2, 3}:
        return f"wanted as many numbers, 1 to 3, in {', '.join(names)}"
    gaps = attrs.get("dilation") or [1] * len(attrs["stride"])
    moves = zip(attrs.get("kernel", []), attrs["padding"], gaps, strict=False)
    for taps, edge, gap in moves:
        if 2 * edge > gap * (taps - 1) + 1:
            return f"wanted a padding of at most half the window, got {edge}"
    return ""


def _input(attrs: Mapping[str, Any]) -> str:
    mean, std = attrs.get("mean"), attrs.get("std")
    if (mean is None) != (std is None) or len(mean or []) != len(std or []):
        return "wanted as many numbers in mean and std"
    return ""


def _mask(attrs: Mapping[str, Any]) -> str:
    count, wanted = math.prod(attrs["sizes"]), 4 * len(attrs["bits"])
    return "" if 0 <= wanted - count < 8 else f"wanted {count} bits of a mask, got {wanted}"


def _resample(attrs: Mapping[str, Any]) -> str:
    weights, divisors = len(attrs["weights"]), len(attrs["divisors"])
    return "" if weights == divisors else f"wanted {weights} divisors, got {divisors}"


def _table(attrs: Mapping[str, Any]) -> str:
    name, given = attrs["function"], attrs.get("parameters", {})
    if name not in FUNCTIONS:
        return f"no function {shorten(name)}. {near(name[:40], FUNCTIONS)}"
    known = PARAMETERS.get(name, ())
    for key, value in given.items():
        if key not in known:
            return f"wanted parameters {', '.join(known) or 'none'} of {name}, got {shorten(key)}"
        words = ("none", "tanh") if key == "approximate" else ()
        fits = (
            value in words
            if isinstance(value, str)
            else _is_real(value, -MOST_REAL, MOST_REAL) and not words
        )
        if not fits:
            return f"wanted '{key}' of {name} to be {' or '.join(words) or 'a finite number'}, " + (
                f"got {shorten(value)}"
            )
    missing = [key for key in NEEDED.get(name, ()) if key not in given]
    if missing:
        return f"wanted the parameter '{missing[0]}' of {name}"
    return "" if name != "clamp" or given else "wanted a bound of clamp"


TOGETHER: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "input": _input,
    "conv": _windows,
    "avg_pool": _windows,
    "max_pool": _windows,
    "mask": _mask,
    "resample": _resample,
    "table": _table,
}
"""What attributes of one node have to do with each other."""
