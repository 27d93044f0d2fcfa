"""The charts of scaling factors: by layer, as distributions, and failure rates against them."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from bitproof.report.figures import Figure, Spec, category, layer, make_figure, number, scale
from bitproof.report.run import Run
from bitproof.report.run_charts import Style, frame, step_chart, styles
from bitproof.report.scaling import Network, scaling_of

SUM_STEP = "step of the sums, v_w v_a"


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
