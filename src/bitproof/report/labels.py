"""Labels of points that cover neither each other nor a point."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup

SIZE = 11
"""Font size, in units of the drawing."""
LETTER = 6.4
"""Width of a letter of that size: wider than nearly all of them."""
LONGEST = 28
"""Letters of a label; longer names end in dots."""
DIRECTIONS = ((1, 0), (0, -1), (-1, 0), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1))
DISTANCES = (9.0, 17.0, 27.0, 39.0, 52.0)
"""How far away a label may stand; beyond the first, a thin line leads to its point."""

GAP = 5.0
"""Between a point and the line to its label: the point's marker."""


class Box(NamedTuple):
    """A rectangle; `top` is the smaller number, as everywhere in a drawing."""

    left: float
    top: float
    right: float
    bottom: float

    def touches(self, other: "Box") -> bool:
        """Return whether the two share some area.

        Example:
            >>> Box(0, 0, 2, 2).touches(Box(1, 1, 3, 3)), Box(0, 0, 1, 1).touches(Box(1, 0, 2, 1))
            (True, False)
        """
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def inside(self, frame: "Box") -> bool:
        """Return whether all of this lies in `frame`."""
        return (
            self.left >= frame.left
            and self.right <= frame.right
            and self.top >= frame.top
            and self.bottom <= frame.bottom
        )


def place_labels(
    wanted: Sequence[tuple[str, float, float]], taken: Sequence[Box], *, frame: Box
) -> list[Markup]:
    """Draw the labels that find room, each at its nearest free place.

    Args:
        wanted: text and point of each, most important first.
        taken: what must stay free.
        frame: what labels must not leave.
    """
    full, drawn = list(taken), []
    for name, x, y in wanted:
        text = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
        free = (
            (box, far)
            for box, far in _places(LETTER * len(text), x, y)
            if box.inside(frame) and not any(box.touches(other) for other in full)
        )
        found = next(free, None)
        if found is not None:
            box, far = found
            full.append(box)
            drawn.append(_label(text, box, (x, y), leader=far))
    return drawn


def _places(width: float, x: float, y: float) -> Iterator[tuple[Box, bool]]:
    """Yield places around a point, near ones first, and whether they need a line to it."""
    for distance in DISTANCES:
        for across, down in DIRECTIONS:
            # Diagonal labels stand closer sideways: the line to them would be long otherwise.
            shift = 7.0 if across and down else distance
            left = x + across * shift - width * (1 - across) / 2
            middle = y + down * distance
            box = Box(left, middle - SIZE / 2 - 0.5, left + width, middle + SIZE / 2 + 0.5)
            yield box, distance > DISTANCES[0]


def _label(text: str, box: Box, point: tuple[float, float], *, leader: bool) -> Markup:
    x, y = point
    middle = (box.top + box.bottom) / 2
    drawn = Markup("")
    if leader:
        edge_x = min(max(x, box.left), box.right)
        edge_y = middle if edge_x != x else box.bottom if middle < y else box.top
        share = GAP / max(math.hypot(edge_x - x, edge_y - y), GAP)
        start_x, start_y = x + share * (edge_x - x), y + share * (edge_y - y)
        drawn = Markup(
            '<path class="leader" d="M{:.1f},{:.1f}L{:.1f},{:.1f}" stroke="#9ca3af" '
            'stroke-width="0.7"/>'
        ).format(start_x, start_y, edge_x, edge_y)
    anchor = "end" if box.right < x else "start" if box.left > x else "middle"
    at = {"end": box.right, "start": box.left, "middle": (box.left + box.right) / 2}[anchor]
    return drawn + Markup(
        '<text class="label" x="{:.1f}" y="{:.1f}" font-size="{}" text-anchor="{}" '
        'fill="#111827" stroke="#fff" stroke-width="2.5" paint-order="stroke">{}</text>'
    ).format(at, middle + 4, SIZE, anchor, text)
