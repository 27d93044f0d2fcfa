"""The charts of weights: what the flip of each bit does to them, and how they are distributed."""

import json
import math
from collections.abc import Callable, Mapping, Sequence

from bitproof.report import figures as fig
from bitproof.report.figures import Figure, Spec, category, layer, make_figure, number, scale
from bitproof.report.run import Run
from bitproof.report.run_charts import SOLID, Style, frame, step_chart, styles
from bitproof.report.weights import NetworkWeights, network_weights
from bitproof.stats.threats import ThreatLabel

POWERS = ThreatLabel(notation="scientific")
"""Writes powers of ten."""


def weight_figures(run: Run) -> list[Figure]:
    """Return squared errors by bit, and distributions, where the run has written them down."""
    found = network_weights(run)
    if not found:
        return []
    fixed = {run.facts.baseline: Style(fig.INK, shape="square")}
    if run.full is not None:
        fixed[run.full] = Style(fig.BLUE)
    looks = styles([each.variant for each in found], fixed)
    charts = (
        ("flip error", "Squared error by bit", _error_chart),
        ("weight distribution", "Distribution of the weights", _distribution_chart),
    )
    return [make_figure("weights", name, title, draw(found, looks)) for name, title, draw in charts]


def _error_chart(found: Sequence[NetworkWeights], looks: Mapping[str, Style]) -> Spec:
    """Return squared changes by bit: points as measured, lines by the formula."""
    kept = _distinct(found, lambda each: each.flips.measured)
    rows = [
        {"name": each.variant, "bit": bit, "measured": measured, "formula": formula}
        for each in _dashed_last(kept, looks)
        for bit, (measured, formula) in enumerate(
            zip(each.flips.measured, each.flips.formula, strict=True)
        )
    ]
    sizes = [size for each in kept for size in (*each.flips.measured, *each.flips.formula)]
    squared: Spec = {
        "title": "mean squared change of a weight",
        "scale": {"type": "log", "nice": False, "padding": 12},
        "axis": _decades(min(sizes), max(sizes)),
    }
    bits = list(range(max(len(each.flips.measured) for each in kept)))
    numbers = (number(name, format=".4~g") for name in ("measured", "formula"))
    line = {"y": number("formula", **squared), "strokeDash": _look(kept, looks, "dash")}
    point = {"y": number("measured", **squared), "shape": _look(kept, looks, "shape")}
    return {
        **frame(rows),
        "encoding": {
            "x": number(
                "bit",
                title="flipped bit, 0 the least significant",
                scale={"nice": False, "zero": False, "padding": 12},
                axis={"values": bits, "format": "d", "grid": False},
            ),
            "color": _look(kept, looks, "colour", legend={"symbolStrokeWidth": 0}),
            "tooltip": [{"field": "name"}, {"field": "bit"}, *numbers],
        },
        "layer": [
            layer("line", encoding=line),
            layer("point", encoding=point, filled=True, size=50),
        ],
    }


def _distribution_chart(found: Sequence[NetworkWeights], looks: Mapping[str, Style]) -> Spec:
    """Return the share of the weights in each bin, as steps from edge to edge."""
    kept = _distinct(found, lambda each: each.redundancy.distribution)
    legend = {"symbolType": "stroke", "symbolSize": 300}
    return step_chart(
        {
            each.variant: (each.redundancy.edges, each.redundancy.distribution)
            for each in _dashed_last(kept, looks)
        },
        edge={
            "title": "weight over the largest of its tensor",
            "axis": {"values": [-1, -0.5, 0, 0.5, 1]},
        },
        share={"title": "weights in a bin, %"},
        looks={
            "color": _look(kept, looks, "colour", legend=legend),
            "strokeDash": _look(kept, looks, "dash", legend=legend),
        },
    )


def _distinct(
    found: Sequence[NetworkWeights], drawn: Callable[[NetworkWeights], tuple[float, ...]]
) -> list[NetworkWeights]:
    """Return networks whose lines differ: of those with equal ones, the first."""
    first: dict[tuple[float, ...], NetworkWeights] = {}
    for each in found:
        first.setdefault(drawn(each), each)
    return list(first.values())


def _dashed_last(
    found: Sequence[NetworkWeights], looks: Mapping[str, Style]
) -> list[NetworkWeights]:
    """Return networks in an order in which lines that coincide can all be seen."""
    return sorted(found, key=lambda each: looks[each.variant].dash != SOLID)


def _look(
    found: Sequence[NetworkWeights], looks: Mapping[str, Style], part: str, **more: Spec
) -> Spec:
    """Return the channel that shows a part of the styles."""
    names = [each.variant for each in found]
    return category("name", scale=scale(names, [getattr(looks[n], part) for n in names]), **more)


def _decades(low: float, high: float) -> Spec:
    """Return an axis with the powers of ten between two sizes; as it comes, if they are few."""
    values = [10.0**k for k in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    if len(values) < 2:
        return {"format": ".2~e"}
    words = "''"
    for value in values:
        written = json.dumps(POWERS.pretty_level(value), ensure_ascii=False)
        words = f"datum.value == {value!r} ? {written} : {words}"
    return {"values": values, "labelExpr": words}
