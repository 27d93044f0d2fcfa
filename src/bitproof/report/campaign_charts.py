"""The charts of a campaign: layer by bit in colour, rates as bars, accuracy, convergence."""

from bisect import bisect_left
from collections.abc import Mapping

from bitproof.report import figures as fig
from bitproof.report import wording
from bitproof.report.campaign_summary import (
    CampaignSummary,
    Convergence,
    GroupFacts,
    Slice,
    TrialRates,
    slices,
)
from bitproof.report.figures import Figure, Spec, category, layer, make_figure, number, scale
from bitproof.report.run_charts import frame, level_chart, point, rates, styles, tooltip
from bitproof.stats.intervals import Interval
from bitproof.stats.threats import ThreatLabel

LIMITS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
"""Upper ends of all colours of a map but the last: the same in every report."""
COLOURS = (
    *("#ffffff", "#ffffcc", "#ffeda0", "#fed976", "#feb24c"),
    *("#fd8d3c", "#fc4e2a", "#d7131c", "#ad0026", "#6d0024"),
)
RANGES = ("0", *(f"to {100 * limit:g}" for limit in LIMITS), f"over {100 * LIMITS[-1]:g}")
UNTRIED = "not tried"
NOT_TRIED = "#b3b9c3"
UNKNOWN = "#e3e6ea"
"""What a colour fades to as its interval grows: not white, which is a rate of zero."""
SURE = (("2.5", 0.025, 1.0), ("5", 0.05, 0.8), ("10", 0.1, 0.58), ("20", 0.2, 0.36))
"""Half an interval in points, as a fraction, and how opaque a cell is that is known so well."""
UNSURE = ("more", 0.16)
DARK_ENOUGH = 0.5
"""Opacity below which dark colours have dark letters."""
RIGHT = {"title": "SDC-1, %", "orient": "right", "columns": 1}
"""The legend of rates in colour."""
SOFT = "#7db8dc"
DARK = RANGES[7:]
"""Ranges whose colours need white letters."""
BAR_END = 4
"""Whiskers longer than so many times the longest bar are cut off: they would dwarf all bars."""
TOOLTIP = ("layer", "bit", "main", "sub", "trials", "places")
"""Fields of a cell that a pointer shows."""
MOST_POINTS = 200
"""Points of a curve; more could not be seen."""
RATES = ThreatLabel("memory_fault", "Faults", "rate", "scientific")


def campaign_figures(summary: CampaignSummary) -> list[Figure]:
    """Return all figures of a campaign, in the order of its page."""
    parts = slices(summary)
    found = [_outcomes(summary, row) for row in summary.totals if row.trials]
    found += [_heat_map(part) for part in parts if part.cells]
    for part in parts:
        layers = {name: part.row(name, None) for name in part.layer_names}
        bits = {f"bit {bit}": part.row(None, bit) for bit in part.bit_numbers}
        for what, each in (("layer", layers), ("bit", bits)):
            bars = {
                name: rate
                for name, row in each.items()
                if row is not None and (rate := row.rate()) is not None
            }
            if bars:
                title = f"{part.title}, by {what}"
                found.append(_bars("vulnerability", f"{what} {part.title}", title, bars))
    found += _array_maps(summary)
    found += _rates(summary)
    found += [_convergence(summary, each) for each in summary.convergence if any(each.trials)]
    return fig.unique(found)


def range_of(rate: float) -> str:
    """Return the range of a rate, in per cent: what its colour stands for.

    Example:
        >>> range_of(0.0), range_of(1e-4), range_of(0.02), range_of(1.0)
        ('0', 'to 0.01', 'to 3', 'over 30')
    """
    return RANGES[0 if rate <= 0 else 1 + bisect_left(LIMITS, rate)]


def _outcomes(summary: CampaignSummary, row: TrialRates) -> Figure:
    """Return the outcomes that do harm: where most trials are masked, that bar would hide them."""
    harmful = [name for name in summary.outcomes if name in row.rates and name != "masked"]
    bars = {wording.outcome_name(name): row.rates[name] for name in harmful}
    label = summary.label(row.group)
    return _bars("outcomes", f"outcomes {label}", label, bars, "share of images, %")


def _bars(
    section: str, name: str, title: str, bars: Mapping[str, Interval], axis: str = "SDC-1, %"
) -> Figure:
    """Return rates as bars with their intervals as whiskers."""
    highest = max((rate.value for rate in bars.values()), default=0.0)
    end = max((rate.high for rate in bars.values()), default=1.0)
    end = 100 * (min(end, BAR_END * highest) if highest > 0 else end)
    rows = [
        {"name": text, **rates(rate.value, rate._replace(high=min(rate.high, end / 100)))}
        for text, rate in bars.items()
    ]
    limits = {"domain": [0, end or 1], "nice": True}
    low, high = number("low"), number("high")
    shown = number("value", title=axis, scale=limits, axis={"tickCount": 5})
    spec = {
        **frame(rows, {"step": 18}),
        "encoding": {"y": category("name"), "tooltip": tooltip("name")},
        "layer": [
            layer("bar", encoding={"x": shown}, color=SOFT),
            layer("rule", encoding={"x": low, "x2": {"field": "high"}}),
            layer("tick", encoding={"x": low}, size=7, thickness=1),
            layer("tick", encoding={"x": high}, size=7, thickness=1),
        ],
    }
    return make_figure(section, name, title, spec)


def _heat_map(part: Slice) -> Figure:
    """Return layers down and bits across: the rate in colour and words, its interval below."""
    columns = [*map(str, part.bit_numbers), "all"]
    layers = part.lines(part.bit_numbers)
    rows = [
        _cell(row) | {"layer": "all layers" if cells is layers[-1][1] else layer, "bit": bit}
        for layer, cells in layers
        for bit, row in zip(columns, cells, strict=True)
        if row is not None or (bit != "all" and cells is not layers[-1][1])
    ]
    light = {"test": "datum.light", "value": "#fff"}
    ink = {"condition": light, "value": fig.INK}
    across = {"orient": "top", "labelAngle": 0, "grid": False}
    spec = {
        **frame(rows, {"step": 27}),
        "width": {"step": 54},
        "encoding": {
            "x": category("bit", title="bit", axis=across),
            "y": category("layer", axis={"grid": False}),
            "tooltip": [{"field": name} for name in TOOLTIP],
        },
        "layer": [
            *_cells(),
            layer("text", encoding={"text": {"field": "main"}, "color": ink}, fontSize=12, dy=-4),
            layer("text", encoding={"text": {"field": "sub"}, "color": ink}, fontSize=8, dy=7),
        ],
    }
    return make_figure("maps", f"map {part.title}", part.title, spec)


def _array_maps(summary: CampaignSummary) -> list[Figure]:
    """Return the processing elements of an array where they stand, the rate in colour."""
    found = []
    for group in dict.fromkeys(row.group for row in summary.elements):
        rows = [row for row in summary.elements if row.group == group]
        spots = [
            {"row": row.row, "column": row.column, **_cell(row)}
            for row in rows
            if row.row is not None and row.column is not None
        ]
        size = max((max(spot["row"], spot["column"]) for spot in spots), default=0) + 1
        step = {"step": max(6, min(24, 420 // size))}
        spec = {
            **frame(spots, step),
            "width": step,
            "encoding": {
                "x": {"field": "column", "type": "ordinal", "axis": {"orient": "top"}},
                "y": {"field": "row", "type": "ordinal"},
                "tooltip": [{"field": n} for n in ("row", "column", "main", "sub", "trials")],
            },
            "layer": _cells(),
        }
        title = summary.label(group)
        found.append(make_figure("array", f"array {title}", title, spec))
    return found


def _cell(row: TrialRates | None) -> Spec:
    rate = row.rate() if row is not None else None
    counts = {"trials": row.trials if row else 0, "places": row.population if row else None}
    if rate is None:
        sure = {"sure": SURE[0][0], "light": False}
        return {"range": UNTRIED, "main": "", "sub": UNTRIED, **sure, **counts}
    shown = {"main": wording.value(rate), "sub": wording.span(rate, "–")}
    name, opacity = sureness(rate)
    light = range_of(rate.value) in DARK and opacity >= DARK_ENOUGH
    return {"range": range_of(rate.value), "sure": name, "light": light, **shown, **counts}


def sureness(rate: Interval) -> tuple[str, float]:
    """Return how well a rate is known, in points, and how opaque its cell is.

    Example:
        >>> sureness(Interval(0.0, 0.0, 0.04)), sureness(Interval(0.2, 1.0, 1.0))
        (('2.5', 1.0), ('more', 0.16))
    """
    half = (rate.high - rate.low) / 2
    found = ((name, opacity) for name, most, opacity in SURE if half <= most)
    return next(found, UNSURE)


def _cells() -> list[Spec]:
    """Return cells whose colour fades as their interval grows."""
    colours = scale([*RANGES, UNTRIED], [*COLOURS, NOT_TRIED])
    classes = {**{name: opacity for name, _, opacity in SURE}, UNSURE[0]: UNSURE[1]}
    faded = category(
        "sure",
        scale={"type": "ordinal", **scale(classes, list(classes.values()))},
        legend={"title": "known to ± points", "orient": "right", "columns": 1}
        | {"symbolType": "square", "symbolFillColor": COLOURS[6], "symbolStrokeWidth": 0},
    )
    shown = {"color": category("range", scale=colours, legend=RIGHT), "opacity": faded}
    pale = f"datum.sure != '{SURE[0][0]}'"
    below = layer("rect", where=pale, encoding={"tooltip": None}, color=UNKNOWN)
    return [below, layer("rect", encoding=shown, stroke="#e5e7eb")]


def _rates(summary: CampaignSummary) -> list[Figure]:
    """Return accuracy against the fault rate, a line for each kind of fault; none without rates."""
    kinds: dict[str, list[tuple[GroupFacts, TrialRates]]] = {}
    for group in summary.groups:
        total = summary.total(group.group)
        if group.rate and total is not None and total.trials and total.acc:
            name = f"{wording.settings(group.kind)} in {' or '.join(group.sites)}"
            kinds.setdefault(name, []).append((group, total))
    if not kinds:
        return []
    golden = summary.campaign.golden_acc
    start = [] if golden is None else [point(RATES, 0.0, golden.value, golden)]
    lines = {}
    for name, members in kinds.items():
        points = {group.rate or 0.0: total.acc for group, total in members}
        lines[name] = start + [
            point(RATES, rate, acc.value, acc)
            for rate, acc in sorted(points.items())
            if acc is not None
        ]
    title = "fault rate, per place (bit error rate)"
    chart = level_chart(lines, styles(list(lines), {}), level_title=title, logarithmic=True)
    return [make_figure("rates", "accuracy by rate", "Accuracy against the rate of faults", chart)]


def _convergence(summary: CampaignSummary, series: Convergence) -> Figure:
    """Return an estimate with its band against trials, and the planned margin around its end."""
    ends = zip(series.trials, series.low, series.value, series.high, strict=True)
    points = [(n, Interval(*each)) for n, *each in ends if n > 0]
    step = -(-len(points) // MOST_POINTS) or 1
    points = points[::-1][::step][::-1]
    rows = [{"trials": n, **rates(rate.value, rate)} for n, rate in points]
    last = points[-1][1]
    margin, half = summary.campaign.margin, (last.high - last.low) / 2
    # A margin that dwarfs the band would hide it.
    margins = [last.value - margin, last.value + margin] if margin and margin <= 8 * half else []
    later = [rate for n, rate in points if n >= points[-1][0] / 10]
    top = 110 * max([*(rate.high for rate in later), *margins, 1e-6])
    low = 90 * min([*(rate.low for rate in later), *margins])
    low = low if low > 0.4 * top else 0
    limits = {"domain": [low, min(top, 100)], "clamp": True}
    band = {"y": number("low", title="rate, %", scale=limits), "y2": {"field": "high"}}
    ticks = {"format": "~s", "grid": False, "labelOverlap": "greedy", "tickCount": 5}
    trials = number("trials", scale={"type": "log", "nice": False}, axis=ticks)
    shown = [{"margin": 100 * end} for end in margins if end >= low / 100]
    spec = {
        **frame(rows),
        "layer": [
            layer("area", encoding={"x": trials, **band}, opacity=0.2, color=fig.BLUE),
            layer("line", encoding={"x": trials, "y": number("value")}, color=fig.BLUE),
            {"data": {"values": shown}}
            | layer("rule", encoding={"y": number("margin")}, color=fig.ORANGE, strokeDash=[6, 4]),
        ],
    }
    title = f"{summary.label(series.group)}: {wording.outcome_name(series.outcome)}"
    return make_figure("convergence", f"convergence {title}", title, spec)
