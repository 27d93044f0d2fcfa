"""The heat map of a campaign: layers down, bits across, one outcome in colour.

Colours stand for fixed ranges, half a decade wide, so that they mean the same in every report.
"""

from bisect import bisect_left
from dataclasses import dataclass

from bitproof.report import campaign_wording as wording
from bitproof.report.campaign_slices import Slice
from bitproof.report.campaign_summary import MAIN, Row

LIMITS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
"""Upper ends of all colours but the last, as fractions."""


@dataclass(frozen=True)
class HeatCell:
    """One cell; `colour` names a class of the style sheet."""

    colour: str
    main: str
    sub: str
    note: str
    """All that is known, shown when a pointer rests on the cell."""


@dataclass(frozen=True)
class HeatRow:
    """One layer, or all of them."""

    name: str
    cells: tuple[HeatCell, ...]
    """One for each bit, and one for all bits."""
    whole: bool = False
    """All layers."""


@dataclass(frozen=True)
class HeatMap:
    """One kind of fault at one kind of site."""

    title: str
    bits: tuple[int, ...]
    rows: tuple[HeatRow, ...]
    untried: int
    """Cells without trials."""

    @property
    def size(self) -> int:
        """Cells of one layer and one bit."""
        return len(self.bits) * sum(not row.whole for row in self.rows)


def heat_map(part: Slice, *, confidence: float, outcome: str = MAIN) -> HeatMap | None:
    """Return the map of one slice, None where it has no cells."""
    if not part.cells:
        return None
    columns: list[int | None] = [*part.bit_numbers, None]
    lines: list[str | None] = [*part.layer_names, None]
    shown = wording.confidence_text(confidence)
    rows = tuple(
        HeatRow(
            layer if layer is not None else "all layers",
            tuple(_cell(part.row(layer, bit), layer, bit, outcome, shown) for bit in columns),
            whole=layer is None,
        )
        for layer in lines
    )
    untried = sum(cell.colour == "none" for row in rows if not row.whole for cell in row.cells[:-1])
    return HeatMap(part.title, part.bit_numbers, rows, untried)


def colour(rate: float) -> str:
    """Return the class of a rate: h0 for none, h1 to h9 for rising ranges.

    Example:
        >>> colour(0.0), colour(1e-4), colour(0.02), colour(1.0)
        ('h0', 'h1', 'h6', 'h9')
    """
    return "h0" if rate <= 0 else f"h{1 + bisect_left(LIMITS, rate)}"


def legend() -> list[tuple[str, str]]:
    """Return each colour with the range in per cent that it stands for.

    Example:
        >>> legend()[1], legend()[-2]
        (('h1', 'to 0.01'), ('h9', 'over 30'))
    """
    ranges = [f"to {100 * limit:g}" for limit in LIMITS]
    names = ["0", *ranges, f"over {100 * LIMITS[-1]:g}"]
    return [*((f"h{i}", name) for i, name in enumerate(names)), ("none", "not tried")]


def _cell(
    row: Row | None, layer: str | None, bit: int | None, outcome: str, confidence: str
) -> HeatCell:
    place = f"{layer or 'all layers'}, {'all bits' if bit is None else f'bit {bit}'}"
    rate = row.rates.get(outcome) if row is not None else None
    if row is None and None in (layer, bit):
        return HeatCell("", "", "", f"{place}: not in the summary")
    if row is None or row.trials == 0 or rate is None:
        return HeatCell("none", "", "not tried", f"{place}: not tried{_of(row)}")
    told = f"{wording.value(rate)} % ({confidence}: {wording.span(rate)} %)"
    trials = wording.grouped(row.trials)
    return HeatCell(
        colour(rate.value),
        wording.value(rate),
        wording.span(rate, "–"),
        f"{place}: {told}; trials: {trials}{_of(row)}",
    )


def _of(row: Row | None) -> str:
    """Return how many places there are."""
    if row is None or row.population is None:
        return ""
    return f", places: {wording.grouped(row.population)}"
