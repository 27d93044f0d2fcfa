"""Line charts with confidence bands, as inline SVG drawn by hand.

No script, no font, no request. Coordinates are the user units of the `viewBox`, chosen small so
that the letters stay readable when a phone shrinks the drawing.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bitproof.report.marks import Style

WIDTH, HEIGHT = 480, 330
LEFT, RIGHT, TOP, BOTTOM = 50, 464, 14, 276
ZERO_SLOT = 34
"""Width of the place for level 0 on a logarithmic axis."""
TICK_GAP = 46
"""Least distance of two labels on the level axis."""


@dataclass(frozen=True)
class Point:
    """One measured accuracy (a fraction) at one level, with its interval if known."""

    level: float
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    """Shown when a pointer rests on the marker."""


@dataclass(frozen=True)
class Line:
    """One variant: its points by rising level."""

    name: str
    style: Style
    points: tuple[Point, ...]


def line_chart(
    lines: Sequence[Line],
    *,
    label: str,
    level_title: str,
    tick_text: Callable[[float], str],
    logarithmic: bool,
) -> Markup:
    """Draw accuracies against levels.

    On a logarithmic axis, level 0 has its own place on the left, cut off from the line.
    """
    levels = sorted({point.level for line in lines for point in line.points})
    place = _level_axis(levels, logarithmic=logarithmic)
    points = [point for line in lines for point in line.points]
    bottom, top = value_range(end for p in points for end in (p.value, p.low, p.high))

    def height(value: float) -> float:
        return BOTTOM - (value - bottom) / (top - bottom) * (BOTTOM - TOP)

    drawn = [
        open_svg(WIDTH, HEIGHT, label),
        value_ticks(bottom, top, height),
        _level_ticks(levels, place, tick_text, logarithmic=logarithmic),
        axis_titles(level_title, bottom),
    ]
    # All bands lie below all lines.
    pieces = [_split(line.points, logarithmic=logarithmic) for line in lines]
    for line, runs in zip(lines, pieces, strict=True):
        drawn += [_band(run, line.style, place, height) for run in runs]
    for line, runs in zip(lines, pieces, strict=True):
        drawn += [_stroke(run, line.style, place, height) for run in runs]
        drawn += [_marker(point, line, place(point.level), height) for point in line.points]
    return Markup("\n").join([*drawn, Markup("</svg>")])


Place = Callable[[float], float]


def open_svg(width: int, height: int, label: str) -> Markup:
    """Return the start of a drawing; `label` is what it shows, in words."""
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" '
        'font-family="system-ui,sans-serif" font-size="14" fill="#374151">'
    ).format(width, height, label)


def _level_axis(levels: Sequence[float], *, logarithmic: bool) -> Place:
    """Return the function from a level to its horizontal place."""
    scale = math.log10 if logarithmic else float
    shown = [scale(level) for level in levels if level > 0 or not logarithmic]
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    start = LEFT + ZERO_SLOT + 14 if logarithmic and 0 in levels else LEFT + 12
    end = RIGHT - 14

    def place(level: float) -> float:
        if logarithmic and level <= 0:
            return LEFT + ZERO_SLOT / 2
        return start + (scale(level) - low) / (high - low) * (end - start)

    return place


def value_range(values: Iterable[float | None]) -> tuple[float, float]:
    """Return round limits around accuracies and ends of intervals, at least 20 points apart.

    Example:
        >>> value_range([0.93, 0.91, None, 0.95])
        (0.8, 1.0)
    """
    seen = [value for value in values if value is not None]
    bottom = max(math.floor(min(seen, default=0.0) * 10) / 10, 0.0)
    top = min(math.ceil(max(seen, default=1.0) * 10) / 10, 1.0)
    if top - bottom < 0.2:
        bottom, top = max(top - 0.2, 0.0), max(top, 0.2)
    return bottom, top


def value_ticks(bottom: float, top: float, height: Place) -> Markup:
    """Draw lines across the frame at round accuracies, with their numbers."""
    tenths = round((top - bottom) * 10)
    step = 0.05 if tenths <= 3 else 0.1 if tenths <= 6 else 0.2
    first = math.ceil(bottom / step - 1e-9)
    last = math.floor(top / step + 1e-9)
    return Markup("").join(
        Markup(
            '<path d="M{0},{1:.1f}H{2}" stroke="#e5e7eb"/>'
            '<text x="{3}" y="{4:.1f}" text-anchor="end">{5:.0f}</text>'
        ).format(LEFT, height(i * step), RIGHT, LEFT - 8, height(i * step) + 5, 100 * i * step)
        for i in range(first, last + 1)
    )


def _level_ticks(
    levels: Sequence[float], place: Place, tick_text: Callable[[float], str], *, logarithmic: bool
) -> Markup:
    """Draw a tick at each level, and labels where there is room: decades first, if any."""
    drawn = [
        Markup('<path d="M{0},{1}H{2}" stroke="#9ca3af" fill="none"/>').format(LEFT, BOTTOM, RIGHT)
    ]
    drawn += [
        Markup('<path d="M{:.1f},{}v5" stroke="#9ca3af"/>').format(place(level), BOTTOM)
        for level in levels
    ]
    if logarithmic and 0 in levels:
        cut = LEFT + ZERO_SLOT + 1
        drawn.append(
            Markup(
                '<path d="M{0},{1}h7" stroke="#fff" stroke-width="3"/>'
                '<path d="M{0},{2}l3,-10M{3},{2}l3,-10" stroke="#6b7280"/>'
            ).format(cut, BOTTOM, BOTTOM + 5, cut + 5)
        )
    labels: list[tuple[float, str]] = []
    decades = [level for level in levels if level > 0 and _is_decade(level)] if logarithmic else []
    first_choice = [level for level in levels if level == 0] + decades
    for level in [*first_choice, *reversed(levels)]:
        if all(abs(place(level) - taken) >= TICK_GAP for taken, _ in labels):
            labels.append((place(level), tick_text(level)))
    drawn += [
        Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            x, BOTTOM + 22, text
        )
        for x, text in labels
    ]
    return Markup("").join(drawn)


def _is_decade(level: float) -> bool:
    exponent = math.log10(level)
    return math.isclose(exponent, round(exponent), abs_tol=1e-6)


def axis_titles(level_title: str, bottom: float) -> Markup:
    """Write what the axes are, and that the one of accuracies does not start at 0 if so."""
    values = "accuracy, %" + (f" (axis starts at {100 * bottom:.0f})" if bottom > 0 else "")
    middle = (TOP + BOTTOM) / 2
    return Markup(
        '<text x="{0}" y="{1}" text-anchor="middle">{2}</text>'
        '<text transform="translate(13,{3}) rotate(-90)" text-anchor="middle">{4}</text>'
    ).format((LEFT + RIGHT) / 2, HEIGHT - 8, level_title, middle, values)


def _split(points: Sequence[Point], *, logarithmic: bool) -> list[Sequence[Point]]:
    """Return the connected runs: on a logarithmic axis, level 0 stands alone."""
    if not logarithmic:
        return [points]
    zero = [point for point in points if point.level <= 0]
    return [run for run in (zero, [p for p in points if p.level > 0]) if run]


def _band(run: Sequence[Point], style: Style, place: Place, height: Place) -> Markup:
    """Fill the intervals of a run, or draw a whisker where it is a single point."""
    known = [
        (place(p.level), p.low, p.high) for p in run if p.low is not None and p.high is not None
    ]
    if len(known) == 1:
        ((x, low, high),) = known
        return Markup('<path d="M{:.1f},{:.1f}V{:.1f}" stroke="{}" opacity=".5"/>').format(
            x, height(low), height(high), style.colour
        )
    upper = [f"{x:.1f},{height(high):.1f}" for x, _, high in known]
    lower = [f"{x:.1f},{height(low):.1f}" for x, low, _ in reversed(known)]
    return Markup('<polygon points="{}" fill="{}" opacity=".13"/>').format(
        " ".join(upper + lower), style.colour
    )


def _stroke(run: Sequence[Point], style: Style, place: Place, height: Place) -> Markup:
    spots = " ".join(f"{place(p.level):.1f},{height(p.value):.1f}" for p in run)
    return Markup(
        '<polyline points="{}" fill="none" stroke="{}" stroke-width="{}" stroke-dasharray="{}"/>'
    ).format(spots, style.colour, style.width, style.dash)


def _marker(point: Point, line: Line, x: float, height: Place) -> Markup:
    return Markup(
        '<path d="{}" transform="translate({:.1f},{:.1f})" fill="{}" stroke="#fff">'
        "<title>{}: {}</title></path>"
    ).format(line.style.marker, x, height(point.value), line.style.colour, line.name, point.note)
