"""Accuracy against cost: one marker for each network, and the front as a staircase.

Readable without colour: the shape tells the kind of circuit, a filled marker lies on the front, a
ring stands for stages after the multiplier. Labels that would cover a marker or another label are
left out; resting a pointer on the marker shows them all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bitproof.report.curves import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Place,
    axis_titles,
    open_svg,
    value_range,
    value_ticks,
)
from bitproof.report.labels import LETTER, Box, place_labels
from bitproof.report.marks import MARKERS
from bitproof.report.pareto import pareto_front, thinned
from bitproof.report.run import Circuit

SHAPES: dict[Circuit, str] = {
    "signed": MARKERS[0],
    "unsigned": MARKERS[2],
    "sign_bits": MARKERS[1],
    "unknown": MARKERS[3],
}
"""Marker of each kind of circuit."""
RING = "M-7.5,0a7.5,7.5 0 1,0 15,0a7.5,7.5 0 1,0 -15,0"
REACH = 6.0
"""Half the side of the square that a marker keeps free of labels."""
MOST_TICKS = 6
MOST_LABELS = 10
INK = "#111111"


@dataclass(frozen=True)
class Spot:
    """One network: a cost, and an accuracy (a fraction) with its interval if known."""

    name: str
    cost: float
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    """Shown when a pointer rests on the marker."""
    circuit: Circuit = "signed"
    colour: str = INK
    before: str | None = None
    """Name of the same network before its last stages; a thin line joins the two."""


def scatter_chart(
    spots: Sequence[Spot], *, label: str, cost_title: str, reference: tuple[str, float] | None
) -> Markup:
    """Draw accuracies against costs.

    Args:
        spots: the networks.
        label: what is drawn, in words.
        cost_title: title of the axis of costs, with the unit.
        reference: name and accuracy of the network that all are compared with.
    """
    ends = [end for spot in spots for end in (spot.value, spot.low, spot.high)]
    bottom, top = value_range([*ends, reference[1] if reference else None])
    ticks = nice_ticks([spot.cost for spot in spots])

    def height(value: float) -> float:
        return BOTTOM - (value - bottom) / (top - bottom) * (BOTTOM - TOP)

    def place(cost: float) -> float:
        return LEFT + 8 + (cost - ticks[0]) / (ticks[-1] - ticks[0]) * (RIGHT - LEFT - 20)

    chosen = [spots[i] for i in pareto_front([(spot.cost, spot.value) for spot in spots])]
    taken = [_box(spot, place, height) for spot in spots]
    drawn = [
        open_svg(WIDTH, HEIGHT, label),
        value_ticks(bottom, top, height),
        _cost_ticks(ticks, place),
        axis_titles(cost_title, bottom),
    ]
    if reference is not None:
        drawing, box = _reference(*reference, height(reference[1]), taken)
        drawn.append(drawing)
        taken.append(box)
    drawn += [_whisker(spot, place, height) for spot in spots]
    drawn += [_staircase(chosen, place, height), *_joins(spots, place, height)]
    # Those on the front come last: they lie on top.
    rest = [spot for spot in spots if spot not in chosen]
    drawn += [_marker(spot, place, height, filled=spot in chosen) for spot in [*rest, *chosen]]
    wanted = [(spot.name, place(spot.cost), height(spot.value)) for spot in named(spots, chosen)]
    drawn += place_labels(wanted, taken, frame=Box(LEFT + 2, TOP - 12, RIGHT + 10, BOTTOM - 3))
    return Markup("\n").join([*drawn, Markup("</svg>")])


def named(spots: Sequence[Spot], chosen: Sequence[Spot]) -> list[Spot]:
    """Return whom to label, most important first: the ends, then the front, thinned out."""
    if not spots:
        return []
    ends = [
        max(spots, key=lambda spot: (spot.value, -spot.cost)),
        min(spots, key=lambda spot: (spot.cost, -spot.value)),
        min(spots, key=lambda spot: (spot.value, spot.cost)),
        max(spots, key=lambda spot: (spot.cost, spot.value)),
    ]
    inner = [spot for spot in sorted(chosen, key=lambda spot: spot.cost) if spot not in ends]
    return list(dict.fromkeys([*ends, *thinned(inner, MOST_LABELS - len(ends))]))


def nice_ticks(costs: Sequence[float]) -> list[float]:
    """Return round numbers around all costs, from 0 unless they crowd far away from it.

    Example:
        >>> nice_ticks([0.05, 0.31, 0.425])
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    """
    low, high = min(costs, default=0.0), max(costs, default=1.0)
    if 0 <= low < 0.7 * high or 0 <= low == high:
        low = 0.0
    span = max(high - low, abs(high) / 1000) or 1.0  # ticks that six digits can tell apart
    raw = span / (MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= 0.999 * raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.6g}") for i in range(first, max(last, first + 1) + 1)]


def spot_swatch(
    *, circuit: Circuit, filled: bool = False, ring: bool = False, colour: str = INK
) -> Markup:
    """Draw the sample of a marker for the legend."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 20 18" width="20" height="18" aria-hidden="true">'
        '<g transform="translate(10,9)">{}</g></svg>'
    ).format(_shape(circuit, colour, filled=filled, ring=ring))


def line_swatch(*, dash: str, width: float = 1.4) -> Markup:
    """Draw the sample of a line for the legend."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 34 12" width="34" height="12" aria-hidden="true">'
        '<path d="M1,6H33" stroke="{}" stroke-width="{}" stroke-dasharray="{}"/></svg>'
    ).format(INK, width, dash)


def _box(spot: Spot, place: Place, height: Place) -> Box:
    x, y = place(spot.cost), height(spot.value)
    return Box(x - REACH, y - REACH, x + REACH, y + REACH)


def _cost_ticks(ticks: Sequence[float], place: Place) -> Markup:
    axis = Markup('<path d="M{0},{1}H{2}" stroke="#9ca3af" fill="none"/>').format(
        LEFT, BOTTOM, RIGHT
    )
    return axis + Markup("").join(
        Markup(
            '<path d="M{0:.1f},{1}v5" stroke="#9ca3af"/>'
            '<text x="{0:.1f}" y="{2}" text-anchor="middle">{3:g}</text>'
        ).format(place(tick), BOTTOM, BOTTOM + 22, tick)
        for tick in ticks
    )


def _reference(name: str, value: float, y: float, taken: Sequence[Box]) -> tuple[Markup, Box]:
    """Draw the line of the exact network; its name stands where it covers least."""
    text = f"{name} {100 * value:.1f}"
    width = LETTER * len(text)
    spots = [
        Box(x, y + up - 10, x + width, y + up + 3)
        for up in (-5, 14)
        for x in (RIGHT - width, LEFT + 4, (LEFT + RIGHT - width) / 2)
        if y + up - 10 > 0
    ]
    box = min(spots, key=lambda spot: sum(spot.touches(other) for other in taken))
    drawing = Markup(
        '<path class="reference" d="M{},{:.1f}H{}" stroke="{}" stroke-dasharray="6 4"/>'
        '<text x="{:.1f}" y="{:.1f}" font-size="11" fill="{}">{}</text>'
    ).format(LEFT, y, RIGHT, INK, box.left, box.bottom - 3, INK, text)
    return drawing, box


def _whisker(spot: Spot, place: Place, height: Place) -> Markup:
    if spot.low is None or spot.high is None:
        return Markup("")
    return Markup(
        '<path class="whisker" d="M{:.1f},{:.1f}V{:.1f}" stroke="{}" opacity=".35"/>'
    ).format(place(spot.cost), height(spot.low), height(spot.high), spot.colour)


def _staircase(chosen: Sequence[Spot], place: Place, height: Place) -> Markup:
    """Draw the accuracy that each cost buys: level up to the next of the front, then up."""
    if not chosen:
        return Markup("")
    first, *rest = sorted(chosen, key=lambda spot: spot.cost)
    steps = [f"M{place(first.cost):.1f},{height(first.value):.1f}"]
    steps += [f"H{place(spot.cost):.1f}V{height(spot.value):.1f}" for spot in rest]
    return Markup(
        '<path class="front" d="{}H{}" fill="none" stroke="#6b7280" stroke-width="1.4"/>'
    ).format("".join(steps), RIGHT)


def _joins(spots: Sequence[Spot], place: Place, height: Place) -> list[Markup]:
    by_name = {spot.name: spot for spot in spots}
    pairs = [(by_name[s.before], s) for s in spots if s.before is not None and s.before in by_name]
    return [
        Markup(
            '<path class="join" d="M{:.1f},{:.1f}L{:.1f},{:.1f}" stroke="{}" stroke-width="0.8" '
            'stroke-dasharray="2 2"/>'
        ).format(place(one.cost), height(one.value), place(two.cost), height(two.value), two.colour)
        for one, two in pairs
    ]


def _marker(spot: Spot, place: Place, height: Place, *, filled: bool) -> Markup:
    shape = _shape(spot.circuit, spot.colour, filled=filled, ring=spot.before is not None)
    return Markup(
        '<g class="spot" transform="translate({:.1f},{:.1f})">{}<title>{}: {}</title></g>'
    ).format(place(spot.cost), height(spot.value), shape, spot.name, spot.note)


def _shape(circuit: Circuit, colour: str, *, filled: bool, ring: bool) -> Markup:
    drawn = Markup('<path d="{}" fill="{}" stroke="{}" stroke-width="1.3"/>').format(
        SHAPES[circuit], colour if filled else "#ffffff", colour
    )
    if ring:
        drawn += Markup('<path d="{}" fill="none" stroke="{}"/>').format(RING, colour)
    return drawn
