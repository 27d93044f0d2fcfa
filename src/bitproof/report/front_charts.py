"""The front of clean, fault and attack accuracy."""

from collections.abc import Sequence

from bitproof.report import figures as fig
from bitproof.report.figures import Figure, Spec, layer, make_figure, number
from bitproof.report.findings import lowered
from bitproof.report.multipliers import conditions, shown
from bitproof.report.run import CLEAN, FLOAT, Condition, Run
from bitproof.report.run_charts import HEIGHT, LETTER, WIDTH, frame, tooltip
from bitproof.stats.costs import undominated

SMALL: Spec = {"fontSize": 10, "limit": 300}
"""Letters in the drawing; longer names are cut off."""
LINE = 13
"""Height of a line of them."""
FEWEST = 3
"""Networks that a front needs."""


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
    _share_labels(spots)
    words = [lowered(run.condition(*each)) for each in (fault, attack)]
    return [make_figure("front", "three ways", "Clean, faults, attacks", _front(spots, *words))]


def _share_labels(spots: list[Spec]) -> None:
    """Give points that lie so close that labels would cover each other one label."""
    ends = {name: [spot[name] for spot in spots] for name in ("clean", "fault")}
    span = {name: max(values) - min(values) or 1.0 for name, values in ends.items()}
    named = [spot for spot in spots if spot["label"]]
    for place, spot in enumerate(named):
        near = [
            other
            for other in named[place + 1 :]
            if other["label"]
            and abs(other["fault"] - spot["fault"]) / span["fault"] * HEIGHT < LINE
            and abs(other["clean"] - spot["clean"]) / span["clean"] * WIDTH < LETTER * 30
        ]
        for other in near if spot["label"] else ():
            spot["label"] += f", {other['label']}"
            other["label"] = ""


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
            "y": number("fault", title=["accuracy under", f"{fault}, %"], scale=axis),
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
