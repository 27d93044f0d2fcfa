"""Numbers as people read them: per cent, points, intervals, durations."""

import math

MINUS = "−"
ABSENT = "not recorded"


def percent(fraction: float) -> str:
    """Return a fraction as per cent with one decimal, without the sign of per cent.

    Example:
        >>> percent(0.8425)
        '84.2'
    """
    return f"{_tenths(fraction):.1f}".replace("-", MINUS)


def points(fraction: float) -> str:
    """Return a difference of fractions as signed percentage points.

    Example:
        >>> points(0.124), points(-0.006), points(0.0001)
        ('+12.4', '−0.6', '0.0')
    """
    tenths = _tenths(fraction)
    return f"{tenths:+.1f}".replace("-", MINUS) if tenths else "0.0"


def seconds(duration: float) -> str:
    """Return a duration in the two largest units that matter.

    Example:
        >>> seconds(0.25), seconds(75.0), seconds(7260.0)
        ('0.25 s', '1 min 15 s', '2 h 01 min')
    """
    if not math.isfinite(duration):
        return ABSENT
    if duration < 59.95:
        return f"{duration:.2g} s" if duration < 1 else f"{duration:.1f} s"
    whole = round(duration)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(number: int, noun: str) -> str:
    """Return a number with its noun; groups of thousands, plural where it is one.

    Example:
        >>> count(1, "image"), count(540, "image")
        ('1 image', '540 images')
    """
    grouped = f"{number:,}".replace(",", "\N{NO-BREAK SPACE}")
    return f"{grouped} {noun}{'' if number == 1 else 's'}"


def _tenths(fraction: float) -> float:
    """Return per cent rounded to one decimal, never a negative zero."""
    return round(100 * fraction, 1) + 0.0
