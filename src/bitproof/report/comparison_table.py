"""A comparison as rows of text, and as one figure."""

import re

from bitproof.report import figures as fig
from bitproof.report.compared import FRACTION, Cell
from bitproof.report.comparison import SIDE, Comparison, Difference
from bitproof.report.figures import Figure, category, layer, make_figure, number, scale
from bitproof.report.wording import confidence_text, count, span, value

ABSENT = "-"
MOST_ROWS = 40
"""Rows that a figure has."""


def comparison_table(comparison: Comparison) -> list[list[str]]:
    """Return header and rows: per cent with intervals; differences in points, and how taken."""
    first, *others = comparison.places
    header = ["measured", first]
    for name in others:
        header += [name, f"{name} - {first}, points"]
    rows = []
    for row in comparison.rows:
        cells = [row.key.text, cell_text(row.cells[0])]
        for cell, change in zip(row.cells[1:], row.differences, strict=True):
            unit = cell.unit if cell else FRACTION
            cells += [cell_text(cell), difference_text(change, unit)]
        rows.append(cells)
    return [header, *rows]


def comparison_title(comparison: Comparison) -> str:
    """Return unit and confidence of the numbers."""
    if comparison.confidence is None:
        return "per cent (intervals of the confidence that each place was made with)"
    return f"per cent ({confidence_text(comparison.confidence)} interval)"


def comparison_notes(comparison: Comparison) -> list[str]:
    """Return what a reader must know of the differences, a line each."""
    changes = [change for row in comparison.rows for change in row.differences if change]
    apart = sum(change.how == SIDE for change in changes)
    paired = sum(change.paired for change in changes)
    notes = []
    if paired or apart:
        told = f"{count(paired, 'difference')} paired by what both met, {apart} unpaired"
        notes.append(f"{told} (wider, as a rule); each interval holds by itself")
    return [*notes, *comparison.notes]


def cell_text(cell: Cell | None) -> str:
    """Return a number with its interval."""
    if cell is None:
        return ABSENT
    if cell.unit != FRACTION:
        return f"{cell.value:.3g} {cell.unit}"
    if cell.interval is None:
        return f"{100 * cell.value:.1f}"
    return f"{value(cell.interval)} ({span(cell.interval, '-')})"


def difference_text(change: Difference | None, unit: str = FRACTION) -> str:
    """Return a difference with its sign and interval, and how it was taken."""
    if change is None:
        return ABSENT
    if change.interval is None:
        if change.how:
            return "not comparable"
        return f"{change.value:+.3g}" if unit != FRACTION else f"{100 * change.value:+.1f}"
    how = change.how.removeprefix("paired by ") if change.paired else change.how
    sign = "+" if change.value > 0 else ""
    text = f"{sign}{value(change.interval)} ({span(change.interval)}), {how}"
    return re.sub(r"(?<![\d.])[-+]0(\.0+)?(?![\d.])", r"0\1", text)  # of numbers that round to it


def comparison_figure(comparison: Comparison) -> Figure:
    """Return rates of all places as points with their intervals, a row for each number."""
    shown = [row for row in comparison.rows if any(c and c.unit == FRACTION for c in row.cells)][
        :MOST_ROWS
    ]
    rows = [
        {
            "measured": row.key.text,
            "place": place,
            "value": round(100 * cell.value, 9),
            "low": round(100 * cell.interval.low, 9) if cell.interval else None,
            "high": round(100 * cell.interval.high, 9) if cell.interval else None,
        }
        for row in shown
        for place, cell in zip(comparison.places, row.cells, strict=True)
        if cell is not None and cell.unit == FRACTION
    ]
    colours = scale(comparison.places, [fig.BLUE, *fig.PALETTE])
    colour = category("place", scale=colours, legend={"orient": "bottom", "columns": 3})
    low, high = number("low"), {"field": "high"}
    spec = {
        "width": 480,
        "height": {"step": max(10, 26 // len(comparison.places))},
        "data": {"values": rows},
        "encoding": {
            "y": category("measured"),
            "yOffset": {"field": "place", "type": "nominal", "sort": None},
            "color": colour,
        },
        "layer": [
            layer("rule", encoding={"x": low, "x2": high}),
            layer("point", encoding={"x": number("value", title="%")}, filled=True, size=45),
        ],
    }
    return make_figure("comparison", "comparison", "Comparison", spec)
