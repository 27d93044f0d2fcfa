"""The charts of a run: accuracy against levels and against cost, critical layers, training."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitproof.report import figures as fig
from bitproof.report.figures import Figure, Spec, category, layer, make_figure, number, scale
from bitproof.report.findings import Condition, lowered
from bitproof.report.multipliers import CIRCUITS, accuracy_under, conditions
from bitproof.report.pareto import Approximation, approximations, pareto_front, shown
from bitproof.report.records import StageRecord, layer_bars, stage_records
from bitproof.report.run import CLEAN, FLOAT, Run
from bitproof.stats.results import Row

WIDTH, HEIGHT = 400, 270
SOLID = (1, 0)
DASHES = ((7, 3), (2, 3), (9, 3, 2, 3), (4, 2))
SHAPES = ("triangle-up", "diamond", "triangle-down", "triangle-left", "triangle-right")
CIRCUIT_SHAPES = ("circle", "triangle-up", "square", "diamond")
RANGE = {"y": number("low"), "y2": {"field": "high"}}
"""Channels of intervals."""
BARS_SHOWN = 20
LABEL_GAP = 0.07
"""Least distance of two labels, as a share of the range of values."""
FEWEST_SPOTS = 2
"""Networks that a drawing of costs needs."""
SMALL = {"align": "right", "fontSize": 10}


@dataclass(frozen=True)
class Point:
    """One measured accuracy (a fraction) at one level, with its interval if known."""

    level: float
    text: str
    """The level, as the axis writes it."""
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Style:
    """How one line looks: differences do not rest on colour alone."""

    colour: str
    dash: Sequence[int] = SOLID
    shape: str = "circle"
    on_top: int = 0


def run_figures(run: Run) -> list[Figure]:
    """Return all figures of a run, in the order of its page."""
    records = stage_records(run.records, run.variants)
    found = [_accuracy_figure(run, threat) for threat in run.threats] + _cost_figures(run)
    found += [_critical_figure(each) for each in records if each.critical]
    trained = [each for each in records if each.training and each.training.loss]
    return fig.unique(found + ([_training_figure(trained)] if trained else []))


def styles(names: Sequence[str], fixed: Mapping[str, Style]) -> dict[str, Style]:
    """Return a style for each name; some have fixed ones."""
    free = [name for name in names if name not in fixed]
    colours, dashes, shapes = (scale(free, each)["range"] for each in (fig.PALETTE, DASHES, SHAPES))
    made = {free[i]: Style(colours[i], dashes[i], shapes[i]) for i in range(len(free))}
    return {name: (fixed | made)[name] for name in names}


def level_chart(
    lines: Mapping[str, Sequence[Point]],
    looks: Mapping[str, Style],
    *,
    level_title: str,
    logarithmic: bool,
) -> Spec:
    """Return accuracies against levels, intervals as bands.

    On a logarithmic axis, level 0 has its own place on the left, apart from the lines.

    Args:
        lines: the points of each network by rising level, in the order of the legend.
        looks: the style of each.
        level_title: what the levels are, with the unit.
        logarithmic: whether levels are spread over decades.
    """
    positive = sorted({p.level for points in lines.values() for p in points if p.level > 0})
    logarithmic = logarithmic and bool(positive)
    zero = positive[0] / max(3.0, (positive[-1] / positive[0]) ** 0.15) if logarithmic else 0.0
    rows, ticks = [], {}
    for name in sorted(lines, key=lambda name: looks[name].on_top):
        for alone in (True, False):
            part = [p for p in lines[name] if (logarithmic and p.level <= 0) is alone]
            known = sum(p.low is not None for p in part)
            for p in part:
                level = zero if alone else p.level
                ticks[level] = p.text
                row = {"name": name, "level": level, "at": p.text, "part": str(alone)}
                row |= {"interval": {0: "none", 1: "whisker"}.get(known, "band")}
                rows.append(row | _rates(p.value, p.low, p.high))
    ends = [end for points in lines.values() for p in points for end in (p.value, p.low, p.high)]

    seen = [looks[name] for name in lines]
    picked = {"condition": {"param": "picked", "value": 1}, "value": 0.15}
    colour, dash, shape = (
        category("name", scale=scale(lines, values), legend={"symbolStrokeWidth": 0})
        for values in zip(*((each.colour, each.dash, each.shape) for each in seen), strict=True)
    )
    return {
        **_frame(rows),
        "encoding": {
            "x": number(
                "level",
                title=level_title,
                scale={"type": "log" if logarithmic else "linear", "nice": False, "padding": 12},
                axis=_level_axis(ticks, logarithmic=logarithmic),
            ),
            "y": _accuracy_axis(ends),
            "color": colour,
            "detail": {"field": "part"},
            "opacity": picked,
            "tooltip": _tooltip("name", "at"),
        },
        "layer": [
            layer("area", where="datum.interval == 'band'", encoding=RANGE, fillOpacity=0.13),
            layer("rule", where="datum.interval == 'whisker'", encoding=RANGE, strokeOpacity=0.6),
            layer("line", encoding={"strokeDash": dash}),
            {
                **layer("point", encoding={"shape": shape}, filled=True, size=50),
                "params": [
                    {"name": "picked", "select": {"type": "point", "fields": ["name"]}}
                    | {"bind": "legend"}
                ],
            },
        ],
    }


def value_range(ends: Sequence[float | None]) -> list[int]:
    """Return round limits in per cent around fractions, at least 20 points apart.

    Example:
        >>> value_range([0.93, 0.91, None, 0.95])
        [80, 100]
    """
    seen = [each for each in ends if each is not None]
    bottom = max(math.floor(min(seen, default=0.0) * 10 + 1e-9) * 10, 0)
    top = min(math.ceil(max(seen, default=1.0) * 10 - 1e-9) * 10, 100)
    return [bottom, top] if top - bottom >= 20 else [max(top - 20, 0), max(top, 20)]


def _accuracy_figure(run: Run, threat: str) -> Figure:
    """Return the accuracies of the networks that the page shows, the full pipeline on top."""
    label = run.label(threat)
    lines = {}
    for name in shown(run):
        found = (run.find(name, threat, level) for level in run.levels(threat))
        rows = [row for row in found if row is not None]
        clean = run.clean(name)
        if rows and clean is not None and rows[0].level != 0:
            rows.insert(0, clean)
        if rows:
            lines[name] = [
                Point(row.level or 0.0, label.pretty_level(row.level or 0.0), *_ends(row))
                for row in rows
            ]
    fixed = {
        FLOAT: Style(fig.GREY, [12, 4], "cross"),
        run.facts.baseline: Style(fig.INK, shape="square", on_top=1),
    }
    if run.full is not None:
        fixed[run.full] = Style(fig.BLUE, on_top=2)
    levels = [level for level in run.levels(threat) if level > 0]
    chart = level_chart(
        lines,
        styles(list(lines), fixed),
        level_title="bit error rate (BER)" if label.symbol == "BER" else label.symbol,
        logarithmic=label.logarithmic or (bool(levels) and levels[-1] >= 50 * levels[0]),
    )
    return make_figure("accuracy", f"accuracy {threat}", label.title, chart)


def _cost_figures(run: Run) -> list[Figure]:
    """Return accuracies against power and area, clean and under the main conditions."""
    found = approximations(run)
    clean: Condition = (CLEAN, 0.0)
    plans = [(clean, "power"), (clean, "area")]
    plans += [(each, "power") for each in conditions(run) if each is not None]
    drawn = []
    for wanted, cost in plans:
        spots = _spots(run, found, wanted, cost)
        if len(spots) < FEWEST_SPOTS:
            continue
        what = "Clean accuracy"
        if wanted != clean:
            what = f"Accuracy under {lowered(run.condition(*wanted))}"
        base = accuracy_under(run, run.facts.baseline, wanted)
        chart = _cost_chart(
            spots,
            reference=None if base is None else (run.facts.baseline, base.value),
            cost_title=f"{cost} of one multiplier, {'mW' if cost == 'power' else 'µm²'}",
        )
        name = f"{cost} {wanted[0]}"
        drawn.append(make_figure("multipliers", name, f"{what} against {cost}", chart))
    return drawn


def _spots(run: Run, found: Sequence[Approximation], wanted: Condition, cost: str) -> list[Spec]:
    """Return a row for each network with cost and accuracy, by rising cost."""
    spots: list[Spec] = []
    for each in found:
        told, row = each.multiplier, accuracy_under(run, each.variant, wanted)
        amount = told.power_mw if cost == "power" else told.area_um2
        if amount is not None and row is not None and row.unit == "fraction":
            spot = {"name": each.variant, "cost": amount, "exact": f"on {each.exact}"}
            spot |= {"circuit": CIRCUITS[told.circuit][1], "before": each.before}
            spots.append(spot | _rates(*_ends(row)))
    spots.sort(key=lambda spot: spot["cost"])
    front = pareto_front([(spot["cost"], spot["value"]) for spot in spots])
    named = _apart([spots[i]["value"] for i in front])
    at = {spot["name"]: (spot["cost"], spot["value"]) for spot in spots}
    for i, spot in enumerate(spots):
        spot["front"] = i in front
        spot["label"] = _short(spot["name"]) if i in front and spot["value"] in named else ""
        spot["retrained"] = spot["before"] is not None
        spot["cost2"], spot["value2"] = at.get(spot["before"], (None, None))
    return spots


def _apart(values: Sequence[float]) -> list[float]:
    """Return values whose labels do not touch, the highest first.

    A label stands above and left of its point: there, no network is cheaper and better.
    """
    least, kept = LABEL_GAP * (max(values, default=0.0) - min(values, default=0.0)), []
    for value in sorted(set(values), reverse=True):
        if not kept or kept[-1] - value >= least:
            kept.append(value)
    return kept


def _cost_chart(
    spots: Sequence[Spec], *, reference: tuple[str, float] | None, cost_title: str
) -> Spec:
    """Return accuracies against costs: the front is filled and joined by a staircase."""
    ends = [spot[name] / 100 for spot in spots for name in ("value", "low", "high") if spot[name]]
    used = {spot["circuit"] for spot in spots}
    circuits = {
        words: shape
        for (_, words), shape in zip(CIRCUITS.values(), CIRCUIT_SHAPES, strict=True)
        if words in used
    }
    exact = list(dict.fromkeys(spot["exact"] for spot in spots))
    legend = {"orient": "bottom", "direction": "vertical"}
    kinds = scale(circuits, list(circuits.values()))
    shape = {"shape": category("circuit", scale=kinds, legend=legend)}
    joined = {"x2": {"field": "cost2"}, "y2": {"field": "value2"}}
    layers = [
        layer("rule", encoding=RANGE, strokeOpacity=0.35),
        layer(
            "line",
            where="datum.front",
            encoding={"color": {"value": fig.GREY}},
            interpolate="step-after",
        ),
        layer("rule", where="isValid(datum.cost2)", encoding=joined, strokeDash=[2, 2]),
        layer("point", where="!datum.front", encoding=shape, size=55),
        layer("point", where="datum.front", encoding=shape, filled=True, size=55),
        layer("point", where="datum.retrained", encoding={}, filled=False, size=190),
        layer("text", encoding={"text": {"field": "label"}}, dx=-8, dy=-8, **SMALL),
    ]
    if reference is not None:
        name, value = reference
        row = {"value": 100 * value, "text": f"{_short(name)} {100 * value:.1f}"}
        ink = {"color": {"value": fig.INK}, "x": None, "tooltip": None}
        words = {**ink, "x": {"value": 0}, "text": {"field": "text"}}
        line = layer("rule", encoding=ink, strokeDash=[6, 4])
        text = layer("text", encoding=words, align="left", dx=4, dy=-5, fontSize=10)
        layers += [{**each, "data": {"values": [row]}} for each in (line, text)]
    return {
        **_frame(spots),
        "encoding": {
            "x": number("cost", title=cost_title, scale={"zero": True}),
            "y": _accuracy_axis([*ends, reference and reference[1]]),
            "color": category(
                "exact",
                scale=scale(exact, (fig.INK, fig.BLUE, *fig.PALETTE)),
                legend=legend if len(exact) > 1 else None,
            ),
            "tooltip": [*_tooltip("name", "circuit"), number("cost", format=".3g")],
        },
        "layer": layers,
    }


def _critical_figure(record: StageRecord) -> Figure:
    bars = layer_bars(record.critical)[:BARS_SHOWN] if record.critical else []
    kinds = ("chosen at the last ranking", "not chosen")
    rows = [
        {"layer": each.name, "score": each.score, "times": each.times_chosen}
        | {"kind": kinds[not each.chosen]}
        for each in bars
    ]
    colours = scale(kinds, (fig.BLUE, "#dbe9f4"))
    spec = {
        **_frame(rows),
        "height": {"step": 18},
        "mark": {"type": "bar", "stroke": fig.BLUE},
        "encoding": {
            "x": number("score", title="gradient norm"),
            "y": category("layer"),
            "color": category("kind", scale=colours, legend={"orient": "bottom"}),
            "tooltip": [{"field": name} for name in ("layer", "score", "kind", "times")],
        },
    }
    title = f"{record.stage} in {', '.join(record.variants)}"
    return make_figure("critical", f"critical {record.stage} {record.variants[0]}", title, spec)


def _training_figure(records: Sequence[StageRecord]) -> Figure:
    """Return the loss of every stage, epoch by epoch; losses that are not finite leave a gap."""
    names = [f"{each.stage} in {each.variants[0]}" for each in records]
    rows = [
        {"stage": name, "epoch": epoch, "loss": loss if math.isfinite(loss) else None}
        for name, each in zip(names, records, strict=True)
        for epoch, loss in enumerate(each.training.loss if each.training else (), 1)
    ]
    looks = styles(names, {}).values()
    legend = {"symbolType": "stroke", "symbolSize": 300}
    colours = scale(names, [each.colour for each in looks])
    dashes = scale(names, [each.dash for each in looks])
    spec = {
        **_frame(rows),
        "mark": {"type": "line", "point": {"size": 20}},
        "encoding": {
            "x": number("epoch", axis={"tickMinStep": 1, "format": "d"}),
            "y": number("loss", scale={"zero": False}),
            "color": category("stage", legend=legend, scale=colours),
            "strokeDash": category("stage", legend=legend, scale=dashes),
            "tooltip": [{"field": name} for name in ("stage", "epoch", "loss")],
        },
    }
    return make_figure("training", "training", "Training loss by epoch", spec)


def _frame(rows: Sequence[Spec]) -> Spec:
    return {"width": WIDTH, "height": HEIGHT, "data": {"values": list(rows)}}


def _level_axis(ticks: Mapping[float, str], *, logarithmic: bool) -> Spec:
    """Return an axis that writes levels as the threat does: decades, or all of them."""
    decades = [level for level, text in ticks.items() if text == "0" or text.startswith("10")]
    values = sorted(decades if logarithmic and len(decades) > 2 else ticks)
    words = "''"
    for level in values:
        words = f"datum.value == {level!r} ? {json.dumps(ticks[level])} : {words}"
    return {"values": values, "labelExpr": words, "labelOverlap": "greedy", "grid": False}


def _accuracy_axis(ends: Sequence[float | None]) -> Spec:
    limits = {"domain": value_range(ends), "nice": False}
    return number("value", title="accuracy, %", scale=limits)


def _tooltip(*names: str) -> list[Spec]:
    rates = [number(name, format=".1f") for name in ("value", "low", "high")]
    return [*({"field": name} for name in names), *rates]


def _rates(value: float, low: float | None, high: float | None) -> dict[str, float | None]:
    """Return accuracy and interval in per cent."""
    ends = {"value": value, "low": low, "high": high}
    return {name: None if end is None else round(100 * end, 6) for name, end in ends.items()}


def _ends(row: Row) -> tuple[float, float | None, float | None]:
    return row.value, row.ci_low, row.ci_high


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"
