"""How much work something is, in images and in time, as people read it."""

from dataclasses import dataclass

MOST = 1e300
"""Counts beyond it are taken for it."""
LARGEST = 1e15
"""Counts beyond it are not told in numbers."""
DAY = 86400.0
UNITS = ((365.25 * DAY, "years"), (DAY, "days"), (3600.0, "hours"), (60.0, "minutes"))
"""Seconds and names, the largest first."""
SIZES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))


@dataclass(frozen=True)
class Estimate:
    """Images through forward passes, a backward pass counted as two, and seconds.

    Example:
        >>> print(Estimate(3_140_000, 2400.0))
        about 3.1 million images, 40 minutes on this machine
        >>> print(Estimate(10**30, 1e27, at_least=True))
        more than a thousand trillion images, more than a thousand years on this machine
    """

    images: int = 0
    seconds: float = 0.0
    at_least: bool = False
    """Whether somebody's own component did not say what it takes."""

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(
            self.images + other.images,
            self.seconds + other.seconds,
            self.at_least or other.at_least,
        )

    def share(self, part: float) -> "Estimate":
        """Return a part of it, from 0 to 1."""
        return Estimate(round(as_float(self.images) * part), self.seconds * part, self.at_least)

    def __str__(self) -> str:
        return f"{self._count()} images, {_time(self.seconds)} on this machine"

    def _count(self) -> str:
        number = float(f"{as_float(self.images):.2g}")
        if number > LARGEST:
            return "more than a thousand trillion"
        size, name = next(((size, f" {name}") for size, name in SIZES if number >= size), (1.0, ""))
        return f"{'at least' if self.at_least else 'about'} {number / size:,g}{name}"


def as_float(count: int) -> float:
    """Return a count as a float, whatever its size."""
    return float(min(count, int(MOST)))


def _time(seconds: float) -> str:
    """Return a time in the largest unit of which there are two or more, rounded."""
    for size, name in UNITS:
        if seconds >= 1.95 * size:
            number = float(f"{seconds / size:.2g}")
            return "more than a thousand years" if number > 1000 else f"{number:g} {name}"
    return f"{max(1, round(seconds))} seconds"
