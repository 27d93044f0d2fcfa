"""Drawings of a campaign as inline SVG: bars with whiskers, and how an estimate converged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bitproof.report import campaign_wording as wording
from bitproof.report.campaign_summary import Convergence, Row
from bitproof.stats.intervals import Interval

WIDTH, HEIGHT = 480, 270
LEFT, RIGHT, TOP, BOTTOM = 62, 464, 12, 218
MOST_POINTS = 200
"""Points of a curve; more could not be told apart."""
BLUE, SOFT = "#0072b2", "#e5e7eb"


@dataclass(frozen=True)
class Bar:
    """One bar with its number."""

    name: str
    rate: Interval | None
    trials: int
    drawing: Markup
    fit: Interval | None = None


def bars(rows: Sequence[tuple[str, Row]], outcome: str) -> tuple[list[Bar], float]:
    """Return a bar for each row, and the rate at the right end of all of them."""
    rates = [row.rates.get(outcome) if row.trials else None for _, row in rows]
    end = scale_end([rate for rate in rates if rate is not None])
    drawn = [
        Bar(name, rate, row.trials, whisker_bar(rate, end), row.fit)
        for (name, row), rate in zip(rows, rates, strict=True)
    ]
    return drawn, end


def outcome_bars(row: Row, outcomes: Sequence[str]) -> tuple[list[Bar], float]:
    """Return a bar for each outcome of one row, and the rate at their right end."""
    rates = [(name, row.rates[name]) for name in outcomes if name in row.rates and row.trials]
    end = scale_end([rate for _, rate in rates])
    return [
        Bar(wording.outcome_name(name), rate, row.trials, whisker_bar(rate, end))
        for name, rate in rates
    ], end


def scale_end(rates: Sequence[Interval]) -> float:
    """Return a round number that all bars fit below, and whiskers too unless they dwarf them.

    Example:
        >>> scale_end([Interval(0.01, 0.02, 0.034)]), scale_end([Interval(0.0, 0.001, 0.4)])
        (0.04, 0.004)
    """
    highest = max((rate.value for rate in rates), default=0.0)
    widest = max((rate.high for rate in rates), default=0.0)
    wanted = min(widest, 4 * highest) if highest > 0 else widest
    if wanted <= 1e-12:
        return 1.0
    power = 10.0 ** math.floor(math.log10(wanted) + 1e-9)
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
    return min(next(step * power for step in steps if step * power >= wanted * (1 - 1e-9)), 1.0)


def whisker_bar(rate: Interval | None, end: float) -> Markup:
    """Draw a rate as a bar from 0 to `end`, its interval as a whisker, cut off at `end`."""
    if rate is None:
        return Markup("")
    low, value, high = (round(200 * min(each / end, 1.0), 1) for each in rate)
    return Markup(
        '<svg class="bar" viewBox="0 0 200 12" preserveAspectRatio="none" aria-hidden="true">'
        '<path d="M0,2H{0:g}V10H0z" fill="#7db8dc"/>'
        '<path d="M{1:g},6H{2:g}M{1:g},3v6M{2:g},3v6" class="w"/></svg>'
    ).format(value, low, high)


def convergence_chart(series: Convergence, margin: float | None, label: str) -> Markup:
    """Draw an estimate with its band against trials, and the planned margin around its end."""
    points = _thinned(series)
    if not points:
        return Markup("")
    last = points[-1][1]
    half = (last.high - last.low) / 2
    # A margin that dwarfs the band would hide it.
    margins = [last.value - margin, last.value + margin] if margin and margin <= 8 * half else []
    bottom, top = _range(points, margins)
    first, final = math.log10(points[0][0]), math.log10(points[-1][0])
    width = (final - first) or 1.0

    def x(trials: int) -> float:
        return LEFT + 8 + (math.log10(trials) - first) / width * (RIGHT - LEFT - 20)

    def y(rate: float) -> float:
        return BOTTOM - (rate - bottom) / (top - bottom) * (BOTTOM - TOP)

    line = " ".join(f"{x(n):.1f},{y(each.value):.1f}" for n, each in points)
    upper = [f"{x(n):.1f},{y(each.high):.1f}" for n, each in points]
    lower = [f"{x(n):.1f},{y(each.low):.1f}" for n, each in reversed(points)]
    drawn = [
        Markup(
            '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" '
            'font-family="system-ui,sans-serif" font-size="14" fill="#374151">'
        ).format(WIDTH, HEIGHT, label),
        *(_value_tick(rate, y(rate), step) for rate, step in _value_ticks(bottom, top)),
        Markup('<path d="M{0},{1}H{2}" stroke="#9ca3af"/>').format(LEFT, BOTTOM, RIGHT),
        *(_trial_tick(n, x(n)) for n in _trial_ticks(points[0][0], points[-1][0])),
        # A drawing in the drawing cuts off what leaves it.
        Markup('<svg x="{0}" y="{1}" width="{2}" height="{3}" viewBox="{0} {1} {2} {3}">').format(
            LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP
        ),
        Markup('<polygon points="{}" fill="{}" opacity=".2"/>').format(
            " ".join(upper + lower), BLUE
        ),
        Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/></svg>').format(
            line, BLUE
        ),
        *(
            Markup('<path d="M{},{:.1f}H{}" stroke="#c2570c" stroke-dasharray="6 4"/>').format(
                LEFT, y(end), RIGHT
            )
            for end in margins
            if bottom <= end <= top
        ),
        Markup('<path d="M{0:.1f},{1:.1f}V{2:.1f}" stroke="{3}" stroke-width="2"/>').format(
            x(points[-1][0]), y(last.low), y(last.high), BLUE
        ),
        Markup(
            '<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="{}"><title>{}: {} %</title></circle>'
        ).format(x(points[-1][0]), y(last.value), BLUE, label, wording.value(last)),
        Markup(
            '<text x="{0}" y="{1}" text-anchor="middle">trials</text>'
            '<text transform="translate(13,{2}) rotate(-90)" text-anchor="middle">'
            "rate, %</text></svg>"
        ).format((LEFT + RIGHT) / 2, HEIGHT - 8, (TOP + BOTTOM) / 2),
    ]
    return Markup("\n").join(drawn)


def _thinned(series: Convergence) -> list[tuple[int, Interval]]:
    """Return the points after the first trial, every so many of them, the last one always."""
    ends = zip(series.low, series.value, series.high, strict=True)
    points = [(n, Interval(*each)) for n, each in zip(series.trials, ends, strict=True) if n > 0]
    step = -(-len(points) // MOST_POINTS) or 1
    return points[::-1][::step][::-1]


def _range(points: Sequence[tuple[int, Interval]], margins: Sequence[float]) -> tuple[float, float]:
    """Return limits around the later points; what came before may leave the drawing."""
    later = [each for n, each in points if n >= points[-1][0] / 10]
    low = min([*(each.low for each in later), *margins])
    high = max([*(each.high for each in later), *margins])
    pad = 0.1 * (high - low)
    bottom, top = max(low - pad, 0.0), min(high + pad, 1.0)
    if bottom < 0.4 * top:
        bottom = 0.0
    return (bottom, top) if top - bottom > 1e-9 else (max(bottom - 0.01, 0.0), bottom + 0.01)


def _value_ticks(bottom: float, top: float) -> list[tuple[float, float]]:
    """Return round rates between the limits, each with their step."""
    rough = (top - bottom) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(bottom / step - 1e-9), math.floor(top / step + 1e-9)
    return [(i * step, step) for i in range(first, last + 1)]


def _value_tick(rate: float, y: float, step: float) -> Markup:
    decimals = max(-math.floor(math.log10(100 * step) + 1e-9), 0)
    return Markup(
        '<path d="M{0},{1:.1f}H{2}" stroke="{3}"/>'
        '<text x="{4}" y="{5:.1f}" text-anchor="end">{6:.{7}f}</text>'
    ).format(LEFT, y, RIGHT, SOFT, LEFT - 6, y + 5, 100 * rate, decimals)


def _trial_ticks(first: int, last: int) -> list[int]:
    """Return decades between the first and the last number of trials, or these two."""
    decades = range(math.ceil(math.log10(first) - 1e-9), math.floor(math.log10(last) + 1e-9) + 1)
    ticks = [10**exponent for exponent in decades]
    return ticks if len(ticks) >= 2 else sorted({first, last})


def _trial_tick(trials: int, x: float) -> Markup:
    return Markup(
        '<path d="M{0:.1f},{1}v5" stroke="#9ca3af"/>'
        '<text x="{0:.1f}" y="{2}" text-anchor="middle">{3}</text>'
    ).format(x, BOTTOM, BOTTOM + 22, wording.grouped(trials))
