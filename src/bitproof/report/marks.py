"""How a variant looks, and the small drawings: legend samples, sparklines and bars.

Lines differ in colour, dash and marker, so that neither colour sight nor a colour printer is
needed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

PALETTE = ("#0072b2", "#c2570c", "#00795c", "#9c4f96", "#8a6d00", "#2f8fc4", "#7a4a2b", "#5b5bd6")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2")
MARKERS = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
    "M-3.6,-3.6h7.2v7.2h-7.2z",
    "M0,-4.8L4.6,3.6H-4.6z",
    "M0,-5L5,0L0,5L-5,0z",
    "M0,4.8L4.6,-3.6H-4.6z",
    "M-1.6,-4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z",
    "M-5,-3l2,-2l3,3l3,-3l2,2l-3,3l3,3l-2,2l-3,-3l-3,3l-2,-2l3,-3z",
    "M-5,-2.4h10v4.8h-10z",
)


@dataclass(frozen=True)
class Style:
    """How one line looks."""

    colour: str
    dash: str
    marker: str
    width: float = 1.6


def styles(names: Sequence[str], *, reference: str, plain: str, strong: str | None) -> list[Style]:
    """Return a style for each name; `reference`, `plain` and `strong` have fixed ones.

    Example:
        >>> styles(["float", "none"], reference="none", plain="float", strong=None)[1].colour
        '#111111'
    """
    found = []
    turn = 0
    for name in names:
        if name == reference:
            found.append(Style("#111111", "", MARKERS[1], 2.4))
        elif name == plain:
            found.append(Style("#6b7280", "12 4", MARKERS[-1]))
        elif name == strong:
            found.append(Style(PALETTE[0], "", MARKERS[0], 3.0))
        else:
            colour = PALETTE[1 + turn % (len(PALETTE) - 1)]
            marker = MARKERS[2 + turn % (len(MARKERS) - 3)]
            found.append(Style(colour, DASHES[1 + turn % (len(DASHES) - 1)], marker))
            turn += 1
    return found


def swatch(style: Style) -> Markup:
    """Draw the sample of a line for the legend."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 34 12" width="34" height="12" aria-hidden="true">'
        '<path d="M1,6H33" stroke="{0}" stroke-width="{1}" stroke-dasharray="{2}"/>'
        '<path d="{3}" transform="translate(17,6)" fill="{0}"/></svg>'
    ).format(style.colour, style.width, style.dash, style.marker)


def sparkline(values: Sequence[float], *, label: str) -> Markup:
    """Draw a small line without axes; values that are not finite leave a gap."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Markup("")
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    step = 112 / max(len(values) - 1, 1)
    spots = [
        (4 + step * i, 24 - 20 * (value - low) / span) if math.isfinite(value) else None
        for i, value in enumerate(values)
    ]
    path, pen = [], "M"
    for spot in spots:
        if spot is not None:
            path.append(f"{pen}{spot[0]:.1f},{spot[1]:.1f}")
        pen = "M" if spot is None else "L"
    last = next(spot for spot in reversed(spots) if spot is not None)
    return Markup(
        '<svg class="spark" viewBox="0 0 120 28" width="120" height="28" role="img" '
        'aria-label="{}"><path d="{}" fill="none" stroke="#0072b2" stroke-width="1.6"/>'
        '<circle cx="{:.1f}" cy="{:.1f}" r="2.6" fill="#0072b2"/></svg>'
    ).format(label, "".join(path), *last)


def bar(share: float, *, marked: bool) -> Markup:
    """Draw a horizontal bar over `share` of its cell, solid if `marked`, else only an outline."""
    return Markup(
        '<svg class="bar" viewBox="0 0 200 12" preserveAspectRatio="none" aria-hidden="true">'
        '<rect x="0.5" y="1" width="{:.1f}" height="10" fill="{}" stroke="#0072b2" '
        'vector-effect="non-scaling-stroke"/></svg>'
    ).format(max(199 * share, 0.5), "#0072b2" if marked else "#dbe9f4")
