"""The charts of a run: accuracy against levels, critical layers, training."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitproof.report import figures as fig
from bitproof.report.figures import Figure, Spec, category, layer, make_figure, number, scale
from bitproof.report.multipliers import shown
from bitproof.report.records import StageRecord, layer_bars, stage_records
from bitproof.report.run import FLOAT, Run
from bitproof.report.run_tables import clean_on
from bitproof.stats.intervals import Interval, wilson
from bitproof.stats.threats import ThreatLabel

SOLID = (1, 0)
DASHES = ((7, 3), (2, 3), (9, 3, 2, 3), (4, 2))
SHAPES = ("triangle-up", "diamond", "triangle-down", "triangle-left", "triangle-right")
WIDTH, HEIGHT = 400, 270
RANGE = {"y": number("low"), "y2": {"field": "high"}}
"""Channels of intervals."""
BARS_SHOWN = 20
LETTER = 6.0
"""Width of a letter of an axis, roughly."""


@dataclass(frozen=True)
class Style:
    """How one line looks: differences do not rest on colour alone."""

    colour: str
    dash: Sequence[int] = SOLID
    shape: str = "circle"
    on_top: int = 0


def accuracy_figures(run: Run) -> list[Figure]:
    """Return accuracies against the levels of each threat, of the networks that the page shows."""
    names, threats = shown(run), [one for one in run.threats if any(run.levels(one))]
    return [each for threat in threats for each in accuracy_figure(run, threat, names)]


def accuracy_figure(run: Run, threat: str, names: Sequence[str]) -> list[Figure]:
    """Return the accuracies of some networks, the full pipeline on top; nothing without any."""
    label = run.label(threat)
    lines = {}
    for name in names:
        found = (run.find(name, threat, level) for level in run.levels(threat))
        rows = [row for row in found if row is not None]
        clean = run.clean(name)
        if rows and clean is not None and rows[0].level != 0:
            rows.insert(0, clean)
        if rows:
            lines[name] = [point(label, row.level or 0.0, row.value, row.interval) for row in rows]
        same = clean_on(run, name, threat)
        if rows and rows[0].level == 0 and same is not None:
            counted = wilson(same.correct, same.total)
            lines[name][0] = point(label, 0.0, counted.value, counted)
    if not lines:
        return []
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
    return [make_figure("accuracy", f"accuracy {threat}", label.title, chart)]


def stage_figures(run: Run) -> list[Figure]:
    """Return what stages wrote down: critical layers, and losses by epoch."""
    records = stage_records(run.records, run.variants)
    trained = [each for each in records if each.loss]
    found = [_critical_figure(each) for each in records if each.critical]
    return found + ([_training_figure(trained)] if trained else [])


def styles(names: Sequence[str], fixed: Mapping[str, Style]) -> dict[str, Style]:
    """Return a style for each name; some have fixed ones."""
    free = [name for name in names if name not in fixed]
    looks = [scale(free, each)["range"] for each in (fig.PALETTE, DASHES, SHAPES)]
    made = dict(zip(free, (Style(*each) for each in zip(*looks, strict=True)), strict=True))
    return {name: made.get(name) or fixed[name] for name in names}


def level_chart(
    lines: Mapping[str, Sequence[Spec]],
    looks: Mapping[str, Style],
    *,
    level_title: str,
    logarithmic: bool,
) -> Spec:
    """Return accuracies against levels, intervals as bands.

    On a logarithmic axis, level 0 has its own place on the left, apart from the lines.

    Args:
        lines: the `point`s of each network by rising level, in the order of the legend.
        looks: the style of each.
        level_title: what the levels are, with the unit.
        logarithmic: whether levels are spread over decades.
    """
    positive = sorted({p["level"] for points in lines.values() for p in points} - {0.0})
    logarithmic = logarithmic and bool(positive)
    zero = positive[0] / max(3.0, (positive[-1] / positive[0]) ** 0.15) if logarithmic else 0.0
    rows, ticks = [], {}
    for name in sorted(lines, key=lambda name: looks[name].on_top):
        for p in lines[name]:
            alone = logarithmic and not p["level"]
            row = {**p, "name": name, "level": p["level"] or zero, "part": str(alone)}
            ticks[row["level"]] = p["at"]
            rows.append(row)

    def look(values: Sequence[Any]) -> Spec:
        return category("name", scale=scale(lines, values), legend={"symbolStrokeWidth": 0})

    seen = [looks[name] for name in lines]
    dash, shape = look([each.dash for each in seen]), look([each.shape for each in seen])
    legend = {"name": "picked", "select": {"type": "point", "fields": ["name"]}, "bind": "legend"}
    picked = {"condition": {"param": "picked", "value": 1}, "value": 0.15}
    return {
        **frame(rows),
        "encoding": {
            "x": number(
                "level",
                title=level_title,
                scale={"type": "log" if logarithmic else "linear", "nice": False, "padding": 12},
                axis=_level_axis(ticks, logarithmic=logarithmic),
            ),
            "y": accuracy_axis(rows),
            "color": look([each.colour for each in seen]),
            "detail": {"field": "part"},
            "opacity": picked,
            "tooltip": tooltip("name", "at"),
        },
        "layer": [
            layer("area", encoding=RANGE, fillOpacity=0.13),
            layer("rule", encoding=RANGE, strokeOpacity=0.4),
            layer("line", encoding={"strokeDash": dash}),
            {"params": [legend]} | layer("point", encoding={"shape": shape}, filled=True, size=50),
        ],
    }


def step_chart(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    edge: Spec,
    share: Spec,
    looks: Mapping[str, Spec],
) -> Spec:
    """Return distributions as steps from edge to edge of their bins.

    Args:
        lines: edges, and the share in each bin as a fraction, by name.
        edge: what more the horizontal axis says.
        share: what more the vertical axis says; it is in per cent.
        looks: channels of names, such as their colour.
    """
    rows = [
        {"name": name, "edge": at, "value": round(100 * value, 9)}
        for name, (edges, shares) in lines.items()
        for at, value in zip(edges, (*shares, shares[-1]), strict=True)
    ]
    return {
        **frame(rows),
        "mark": {"type": "line", "interpolate": "step-after"},
        "encoding": {
            "x": number("edge", scale={"domain": [-1, 1], "nice": False}, **edge),
            "y": number("value", **share),
            **looks,
            "tooltip": [{"field": "name"}, number("edge"), number("value", format=".4~g")],
        },
    }


def _critical_figure(record: StageRecord) -> Figure:
    bars = layer_bars(record.critical)[:BARS_SHOWN] if record.critical else []
    kinds = ("chosen at the last ranking", "not chosen")
    rows = [
        {"layer": name, "score": score, "times": times, "kind": kinds[not chosen]}
        for name, score, chosen, times in bars
    ]
    colours = scale(kinds, (fig.BLUE, "#dbe9f4"))
    spec = {
        **frame(rows, {"step": 18}),
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
        for epoch, loss in enumerate(each.loss or (), 1)
    ]
    looks = styles(names, {}).values()
    legend = {"symbolType": "stroke", "symbolSize": 300}
    colours = scale(names, [each.colour for each in looks])
    dashes = scale(names, [each.dash for each in looks])
    spec = {
        **frame(rows),
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


def _level_axis(ticks: Mapping[float, str], *, logarithmic: bool) -> Spec:
    """Return an axis that writes levels as the threat does: decades, or all of them."""
    words = "''"
    for level in _labelled(ticks, logarithmic=logarithmic):
        words = f"datum.value == {level!r} ? {json.dumps(ticks[level])} : {words}"
    return {"values": sorted(ticks), "labelExpr": words, "labelOverlap": False, "grid": False}


def _labelled(ticks: Mapping[float, str], *, logarithmic: bool) -> list[float]:
    """Return the levels whose labels fit beside each other.

    Those at both ends come first, then the one after the break, then whole decades.
    """
    if not ticks:
        return []
    places = {level: math.log10(level) if logarithmic else level for level in ticks}
    order = sorted(ticks)
    low, high = places[order[0]], places[order[-1]]
    scale_ = (WIDTH - 24) / (high - low) if high > low else 0.0
    first = [order[0], order[-1], *order[1:2]]
    decades = [level for level in order if ticks[level].startswith("10")]
    kept: list[float] = []
    for level in dict.fromkeys([*first, *decades, *order]):
        half = LETTER * len(ticks[level]) / 2
        apart = (
            abs(places[level] - places[other]) * scale_ - half - LETTER * len(ticks[other]) / 2
            for other in kept
        )
        if all(gap >= LETTER for gap in apart):
            kept.append(level)
    return kept


def frame(rows: Sequence[Spec], height: int | Spec = HEIGHT) -> Spec:
    """Return the start of a spec: size and data."""
    return {"width": WIDTH, "height": height, "data": {"values": list(rows)}}


def point(label: ThreatLabel, level: float, value: float, interval: Interval | None) -> Spec:
    """Return one measured accuracy (a fraction) at one level."""
    return {"level": level, "at": label.pretty_level(level), **rates(value, interval)}


def rates(value: float, interval: Interval | None) -> Spec:
    """Return a rate and its interval in per cent."""
    low, high = (interval.low, interval.high) if interval else (None, None)
    ends = {"value": value, "low": low, "high": high}
    return {name: None if end is None else round(100 * end, 9) for name, end in ends.items()}


def tooltip(*names: str) -> list[Spec]:
    """Return what a pointer shows of a row: some fields, then rate and interval."""
    numbers = [number(name, format=".4~g") for name in ("value", "low", "high")]
    return [*({"field": name} for name in names), *numbers]


def accuracy_axis(rows: Sequence[Spec], *others: float) -> Spec:
    """Return the axis of accuracies, with all values and intervals on it."""
    ends = [row[name] for row in rows for name in ("value", "low", "high") if row[name] is not None]
    limits = {"domain": value_range([*ends, *others]), "nice": False}
    return number("value", title="accuracy, %", scale=limits)


def value_range(ends: Sequence[float]) -> list[int]:
    """Return round limits around values in per cent, at least 20 points apart.

    Example:
        >>> value_range([93.0, 91.0, 95.0])
        [80, 100]
    """
    bottom = max(math.floor(min(ends, default=0.0) / 10 + 1e-9) * 10, 0)
    top = min(math.ceil(max(ends, default=100.0) / 10 - 1e-9) * 10, 100)
    return [bottom, top] if top - bottom >= 20 else [max(top - 20, 0), max(top, 20)]
