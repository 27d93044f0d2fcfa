"""The charts of approximate multipliers: accuracy against power and area."""

from collections.abc import Sequence

from bitproof.report import figures as fig
from bitproof.report.figures import Figure, Spec, category, layer, make_figure, number, scale
from bitproof.report.findings import lowered
from bitproof.report.multipliers import Approximation, approximations, conditions
from bitproof.report.run import CLEAN, Condition, Run
from bitproof.report.run_charts import RANGE, accuracy_axis, frame, rates, tooltip
from bitproof.stats.costs import pareto_front

CIRCUIT_SHAPES = {
    "signed circuit": "circle",
    "unsigned circuit": "triangle-up",
    "unsigned circuit between sign bits": "square",
    "circuit of unknown kind": "diamond",
}
LABEL_GAP = 0.07
"""Least distance of two labels, as a share of the range of values."""
FEWEST_SPOTS = 2
"""Networks that a drawing needs."""
SMALL: Spec = {"fontSize": 10, "limit": 170}
"""Letters in the drawing; longer names are cut off."""


def cost_figures(run: Run) -> list[Figure]:
    """Return accuracies against power and area, clean and under the main conditions."""
    found = approximations(run)
    clean: Condition = (CLEAN, 0.0)
    plans = [(clean, "power"), (clean, "area")]
    plans += [(each, "power") for each in conditions(run)]
    drawn = []
    for wanted, cost in plans:
        spots = _spots(run, found, wanted, cost)
        if len(spots) < FEWEST_SPOTS:
            continue
        what = "Clean accuracy"
        if wanted != clean:
            what = f"Accuracy under {lowered(run.condition(*wanted))}"
        base = run.find(run.facts.baseline, *wanted)
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
        multiplier, row = each.multiplier, run.find(each.variant, *wanted)
        amount = multiplier.power_mw if cost == "power" else multiplier.area_um2
        if amount is not None and row is not None and row.unit == "fraction":
            spot: Spec = {"name": each.variant, "cost": amount, "exact": f"on {each.exact}"}
            spot |= {"circuit": multiplier.circuit, "before": each.before}
            spots.append(spot | rates(row.value, row.interval))
    spots.sort(key=lambda spot: spot["cost"])
    front = pareto_front([(spot["cost"], spot["value"]) for spot in spots])
    named = _apart([spots[i]["value"] for i in front])
    at = {spot["name"]: (spot["cost"], spot["value"]) for spot in spots}
    for i, spot in enumerate(spots):
        spot["front"] = i in front
        spot["label"] = spot["name"] if i in front and spot["value"] in named else ""
        spot["retrained"] = spot["before"] is not None
        spot["cost2"], spot["value2"] = at.get(spot["before"], (None, None))
    return spots


def _apart(values: Sequence[float]) -> list[float]:
    """Return values whose labels do not touch, the highest first.

    A label stands above and left of its point: there, no network is cheaper and better.
    """
    least = LABEL_GAP * (max(values, default=0.0) - min(values, default=0.0))
    kept: list[float] = []
    for value in sorted(set(values), reverse=True):
        if not kept or kept[-1] - value >= least:
            kept.append(value)
    return kept


def _cost_chart(
    spots: Sequence[Spec], *, reference: tuple[str, float] | None, cost_title: str
) -> Spec:
    """Return accuracies against costs: the front is filled and joined by a staircase."""
    used = {spot["circuit"] for spot in spots}
    circuits = {words: shape for words, shape in CIRCUIT_SHAPES.items() if words in used}
    exact = list(dict.fromkeys(spot["exact"] for spot in spots))
    legend = {"orient": "bottom", "direction": "vertical"}
    kinds = scale(circuits, list(circuits.values()))
    shape = {"shape": category("circuit", scale=kinds, legend=legend)}
    joined = {"x2": {"field": "cost2"}, "y2": {"field": "value2"}}
    label = {"text": {"field": "label"}}
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
        layer("text", encoding=label, dx=-8, dy=-8, align="right", **SMALL),
    ]
    if reference is not None:
        name, value = reference
        row = {"value": 100 * value, "text": f"{name} {100 * value:.1f}"}
        ink = {"color": {"value": fig.INK}, "x": None, "tooltip": None}
        words = {**ink, "x": {"value": 0}, "text": {"field": "text"}}
        line = layer("rule", encoding=ink, strokeDash=[6, 4])
        text = layer("text", encoding=words, align="left", dx=4, dy=-5, **SMALL)
        layers += [{**each, "data": {"values": [row]}} for each in (line, text)]
    return {
        **frame(spots),
        "encoding": {
            "x": number("cost", title=cost_title, scale={"zero": True}),
            "y": accuracy_axis(spots, *([100 * reference[1]] if reference else [])),
            "color": category(
                "exact",
                scale=scale(exact, (fig.INK, fig.BLUE, *fig.PALETTE)),
                legend=legend if len(exact) > 1 else None,
            ),
            "tooltip": [*tooltip("name", "circuit"), number("cost", format=".3g")],
        },
        "layer": layers,
    }
