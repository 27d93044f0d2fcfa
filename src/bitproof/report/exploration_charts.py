"""The charts of a search over multipliers: fronts, scores, predictions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bitproof.report import figures as fig
from bitproof.report.exploration_tables import objective_title
from bitproof.report.figures import Figure, Spec, category, layer, make_figure, number, scale
from bitproof.report.run_charts import frame, tooltip

SHADES = ("#ffffff", "#fde0c5", "#facba6", "#f8b58b", "#f2855d", "#e74c3c", "#b3202c", "#7a0d1c")
"""From no harm to much of it."""
STEPS = (1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1)
"""Ends of the ranges of harm, as shares of the most harmful choice."""
MOST_LAYERS = 60
"""Layers of a map; of more, those with the most harm."""
Summary = Mapping[str, Any]


def exploration_figures(summary: Summary) -> list[Figure]:
    """Return all figures of a search, in the order of its page."""
    found = [_front(summary, number) for number in range(len(summary["objectives"]))]
    if len(summary["objectives"]) > 1:
        found.append(_joint(summary))
    found.append(_score_map(summary))
    found += [_prediction(each) for each in summary["predictors"] if each["spearman"]]
    return fig.unique(found)


def _front(summary: Summary, place: int) -> Figure:
    """Return every measured choice: cost against accuracy under one threat, fronts as lines."""
    title = objective_title(summary["objectives"][place])
    spots: list[Spec] = []
    for search in summary["searches"]:
        best = -1.0
        ordered = sorted(search["points"], key=lambda one: (one["cost"], -one["accs"][place]))
        for point in ordered:
            acc = point["accs"][place]
            spots.append(
                {
                    "search": search["search"],
                    "cost": 100 * point["cost"],
                    "acc": 100 * acc,
                    "power": 100 * point["power"],
                    "area": 100 * point["area"],
                    "front": acc > best,
                }
            )
            best = max(best, acc)
    names = [search["search"] for search in summary["searches"]]
    colours = scale(names, (fig.BLUE, *fig.PALETTE))
    legend = {"orient": "bottom"}
    exact = {
        "cost": 100.0,
        "acc": 100 * summary["exact"]["accs"][place][1],
        "label": "exact products",
    }
    ink = {"color": {"value": fig.INK}, "tooltip": None}
    mark = layer("point", encoding=ink, shape="cross", size=80, filled=True)
    word = layer("text", encoding={**ink, "text": {"field": "label"}}, dy=-10, align="right")
    spec = {
        **frame(spots),
        "encoding": {
            "x": number("cost", title="cost, % of exact products", scale={"zero": False}),
            "y": number("acc", title=f"accuracy, {title}, %", scale={"zero": False}),
            "color": category("search", scale=colours, legend=legend),
            "tooltip": [
                *tooltip("search"),
                *(number(name, format=".2f") for name in ("cost", "acc", "power", "area")),
            ],
        },
        "layer": [
            layer("line", where="datum.front", encoding={}, interpolate="step-after"),
            layer("point", where="!datum.front", encoding={}, size=25, opacity=0.5),
            layer("point", where="datum.front", encoding={}, filled=True, size=55),
            *({**each, "data": {"values": [exact]}} for each in (mark, word)),
        ],
    }
    return make_figure("front", f"front {title}", f"Cost and accuracy: {title}", spec)


def _joint(summary: Summary) -> Figure:
    """Return the joint front: accuracy under two threats, cost as colour."""
    first, second = summary["objectives"][0], summary["objectives"][1]
    shown = summary["objectives"][2] if len(summary["objectives"]) > 2 else None
    spots = [
        {
            "search": row["search"],
            "first": 100 * row["accs"][0],
            "second": 100 * row["accs"][1],
            "cost": 100 * row["cost"],
            "third": 100 * row["accs"][2] if shown else 0.0,
        }
        for row in summary["front"]
    ]
    size = (
        {"size": number("third", title=f"accuracy, {objective_title(shown)}, %")} if shown else {}
    )
    axis = {"zero": False, "padding": 14}
    colour = {
        "field": "cost",
        "type": "quantitative",
        "title": "cost, % of exact products",
        "scale": {"scheme": "viridis"},
        "legend": {"orient": "bottom", "gradientLength": 200},
    }
    fields = ("first", "second", "third", "cost") if shown else ("first", "second", "cost")
    spec = {
        **frame(spots),
        "encoding": {
            "x": number("first", title=f"accuracy, {objective_title(first)}, %", scale=axis),
            "y": number("second", title=f"accuracy, {objective_title(second)}, %", scale=axis),
            "color": colour,
            **size,
            "tooltip": [*tooltip("search"), *(number(name, format=".2f") for name in fields)],
        },
        "layer": [layer("point", encoding={}, filled=True, opacity=0.9)],
    }
    return make_figure("front", "joint front", "Choices that no other beats in everything", spec)


def _score_map(summary: Summary) -> Figure:
    """Return layers down and multipliers across: harm in colour, as a share of the worst."""
    layers = [one for one in summary["scores"]["layers"] if one["chooses"]]
    if len(layers) > MOST_LAYERS:
        worst = sorted(layers, key=lambda one: -max(one["harm"]))[:MOST_LAYERS]
        layers = [one for one in layers if one in worst]
    names = [one["name"] for one in summary["multipliers"]]
    totals = [sum(one["harm"][n] for one in layers) for n in range(len(names))]
    order = sorted(range(len(names)), key=lambda n: totals[n])
    ranges = ["none", *(f"to {100 * end:g} %" for end in STEPS), f"over {100 * STEPS[-1]:g} %"]
    rows = [
        {
            "layer": one["layer"],
            "multiplier": names[n],
            "harm": one["harm"][n],
            "range": ranges[_range(one["harm"][n])],
            "means": 100 * one["from_means"][n],
        }
        for one in layers
        for n in order
    ]
    colour = category(
        "range",
        scale=scale(ranges, SHADES),
        legend={"title": "share of harm", "orient": "right", "columns": 1},
    )
    spec = {
        **frame(rows, {"step": 16}),
        "width": {"step": 30},
        "encoding": {
            "x": category("multiplier", axis={"orient": "top", "labelAngle": -60, "grid": False}),
            "y": category("layer", axis={"grid": False}),
            "color": colour,
            "tooltip": [
                *tooltip("layer", "multiplier"),
                number("harm", format=".2e"),
                number("means", title="from means, %", format=".0f"),
            ],
        },
        "layer": [layer("rect", encoding={}, stroke="#e5e7eb")],
    }
    return make_figure("scores", "scores", "Harm of each multiplier in each layer", spec)


def _range(harm: float) -> int:
    """Return the range of a share of harm."""
    return 0 if harm <= 0 else 1 + sum(harm > end for end in STEPS)


def _prediction(predictor: Mapping[str, Any]) -> Figure:
    """Return predicted against measured values of choices at random."""
    rows = [
        {"predicted": 100 * predicted, "measured": 100 * measured}
        for predicted, measured in predictor["points"]
    ]
    values = [value for row in rows for value in row.values()]
    low, high = math.floor(min(values)), math.ceil(max(values))
    domain = {"domain": [low, high], "nice": False}
    ends: Sequence[Spec] = [{"at": low}, {"at": high}]
    line = layer(
        "line",
        encoding={
            "x": number("at", scale=domain),
            "y": number("at", scale=domain),
            "tooltip": None,
        },
        color=fig.GREY,
        strokeDash=[6, 4],
    )
    name = predictor["predictor"]
    unit = "%" if name == "accuracy" else "% of exact products"
    spec = {
        **frame(rows),
        "layer": [
            {**line, "data": {"values": ends}},
            layer(
                "point",
                encoding={
                    "x": number("predicted", title=f"predicted {name}, {unit}", scale=domain),
                    "y": number("measured", title=f"measured {name}, {unit}", scale=domain),
                    "tooltip": [number(n, format=".2f") for n in ("predicted", "measured")],
                },
                filled=True,
                color=fig.BLUE,
                opacity=0.7,
            ),
        ],
    }
    return make_figure("predictors", f"predicted {name}", f"Predicted and measured {name}", spec)
