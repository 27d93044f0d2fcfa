"""The charts of scaling factors, and the front of clean, attack and fault accuracy."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from bitproof.report import figures as fig
from bitproof.report.figures import Figure, Spec, category, layer, make_figure, number, scale
from bitproof.report.findings import lowered
from bitproof.report.multipliers import conditions, shown
from bitproof.report.run import CLEAN, FLOAT, Condition, Run
from bitproof.report.run_charts import Style, frame, step_chart, styles, tooltip
from bitproof.report.scaling import Network, scaling_of
from bitproof.stats.costs import undominated

SMALL: Spec = {"fontSize": 10, "limit": 170}
"""Letters in the drawing; longer names are cut off."""
SUM_STEP = "step of the sums, v_w v_a"
FEWEST = 3
"""Networks that a front needs."""


def scaling_figures(run: Run) -> list[Figure]:
    """Return scaling factors by layer, and failure rates against them, where they are known."""
    networks = scaling_of(run).networks
    if not networks:
        return []
    looks = styles([each.name for each in networks], {})
    charts = [
        ("scaling by layer", "Step of sums", _layers(networks, looks, "product")),
        ("flip over rms", "Flips over rms", _layers(networks, looks, "relative_flip")),
        ("words read", "What layers read", _distributions(networks, looks)),
    ]
    if all(each.failures for each in networks):
        charts.append(("failure rates", "Failure rates", _failures(networks, looks)))
    return [make_figure("scaling", *chart) for chart in charts]


def front_figures(run: Run) -> list[Figure]:
    """Return clean against fault accuracy with attack accuracy as colour, and what is undominated.

    Only where networks met both faults and attacks.
    """
    kinds = {run.label(threat).family: (threat, level) for threat, level in conditions(run)}
    if not {"memory_fault", "input_attack"} <= kinds.keys():
        return []
    fault, attack = kinds["memory_fault"], kinds["input_attack"]
    spots = _spots(run, fault, attack)
    if len(spots) < FEWEST:
        return []
    front = undominated([(spot["clean"], spot["fault"], spot["attack"]) for spot in spots])
    for place, spot in enumerate(spots):
        spot["front"] = place in front
        spot["label"] = spot["name"] if place in front else ""
    words = [lowered(run.condition(*each)) for each in (fault, attack)]
    return [make_figure("front", "three ways", "Clean, faults, attacks", _front(spots, *words))]


def _layers(networks: Sequence[Network], looks: Mapping[str, Style], field: str) -> Spec:
    """Return one figure of each layer, a line a network."""
    title = "root mean square flip over rms" if field == "relative_flip" else SUM_STEP
    rows = [
        {"name": each.name, "layer": one.layer, "place": place, "value": getattr(one, field)}
        for each in networks
        for place, one in enumerate(each.layers, start=1)
        if getattr(one, field) > 0
    ]
    return {
        **frame(rows),
        "encoding": {
            "x": number("place", title="layer, in order of execution", axis={"format": "d"}),
            "y": number("value", title=title, scale={"type": "log", "nice": False, "padding": 12}),
            "color": _look(looks, "colour"),
            "tooltip": [{"field": "name"}, {"field": "layer"}, number("value", format=".3g")],
        },
        "layer": [
            layer("line", encoding={"strokeDash": _look(looks, "dash")}),
            layer("point", encoding={}, filled=True, size=25),
        ],
    }


def _distributions(networks: Sequence[Network], looks: Mapping[str, Style]) -> Spec:
    """Return the distribution of what layers read, the mean over layers, as steps."""
    lines = {}
    for each in networks:
        shares = [
            fmean(bins) for bins in zip(*(one.distribution for one in each.layers), strict=True)
        ]
        edges = [(2 * i - len(shares)) / len(shares) for i in range(len(shares) + 1)]
        lines[each.name] = (edges, shares)
    return step_chart(
        lines,
        edge={"title": "word over the largest that its layer reads"},
        share={"title": "words in a bin, %", "scale": {"type": "symlog"}},
        looks={"color": _look(looks, "colour"), "strokeDash": _look(looks, "dash")},
    )


def _failures(networks: Sequence[Network], looks: Mapping[str, Style]) -> Spec:
    """Return failure rates against the step of the sums, a point for each layer and network."""
    rows = []
    for each in networks:
        for one in each.layers:
            if one.layer in each.failures and one.product > 0:
                low, value, high = (100 * end for end in each.failures[one.layer].rate)
                rows.append(
                    {
                        **{"name": each.name, "layer": one.layer, "product": one.product},
                        **{"low": low, "value": value, "high": high},
                    }
                )
    ends = {"y": number("low"), "y2": {"field": "high"}}
    log = {"type": "log", "nice": False, "padding": 12}
    return {
        **frame(rows),
        "encoding": {
            "x": number("product", title=SUM_STEP, scale=log),
            "y": number("value", title="failure rate, %"),
            "color": _look(looks, "colour"),
            "tooltip": [{"field": "name"}, {"field": "layer"}, number("value", format=".3g")],
        },
        "layer": [
            layer("rule", encoding=ends, strokeOpacity=0.3),
            layer("point", encoding={"shape": _look(looks, "shape")}, filled=True, size=40),
        ],
    }


def _look(looks: Mapping[str, Style], part: str) -> Spec:
    """Return the channel that shows a part of the styles."""
    return category("name", scale=scale(looks, [getattr(each, part) for each in looks.values()]))


def _spots(run: Run, fault: Condition, attack: Condition) -> list[Spec]:
    """Return a row for each network that met all three."""
    spots: list[Spec] = []
    for name in shown(run):
        cells = ((CLEAN, 0.0), fault, attack)
        rows = [run.find(name, *cell) for cell in cells]
        values = [100 * row.value for row in rows if row is not None]
        if name != FLOAT and len(values) == len(cells):
            spots.append(
                {"name": name, **dict(zip(("clean", "fault", "attack"), values, strict=True))}
            )
    return spots


def _front(spots: Sequence[Spec], fault: str, attack: str) -> Spec:
    text = {"text": {"field": "label"}, "color": {"value": fig.INK}}
    axis = {"zero": False, "padding": 14}
    colour = {
        "field": "attack",
        "type": "quantitative",
        "title": f"accuracy under {attack}, %",
        "scale": {"scheme": "viridis"},
        "legend": {"orient": "bottom", "gradientLength": 200, "titleLimit": 400},
    }
    return {
        **frame(spots),
        "encoding": {
            "x": number("clean", title="clean accuracy, %", scale=axis),
            "y": number("fault", title=f"accuracy under {fault}, %", scale=axis),
            "color": colour,
            "tooltip": [
                *tooltip("name"),
                *(number(n, format=".1f") for n in ("clean", "fault", "attack")),
            ],
        },
        "layer": [
            layer("point", where="!datum.front", encoding={}, size=60),
            layer("point", where="datum.front", encoding={}, filled=True, size=80),
            layer("text", encoding=text, dx=-8, dy=-8, align="right", **SMALL),
        ],
    }
