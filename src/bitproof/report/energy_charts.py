"""The chart of accuracy against the energy of memory accesses."""

from collections.abc import Sequence

from bitproof.report import figures as fig
from bitproof.report.energy import line_name, points_of_page
from bitproof.report.figures import Figure, Spec, category, layer, make_figure, number, scale
from bitproof.report.operating_points import OperatingPoint
from bitproof.report.run import Run
from bitproof.report.run_charts import (
    RANGE,
    Style,
    accuracy_axis,
    frame,
    rates,
    styles,
    tooltip,
)
from bitproof.report.wording import share
from bitproof.stats.intervals import mean_interval


def energy_figures(run: Run) -> list[Figure]:
    """Return accuracies against energy, where rates of memory faults were measured on all chips."""
    points = points_of_page(run)
    if not points:
        return []
    names = [line_name(each, points) for each in points]
    fixed = {run.facts.baseline: Style(fig.INK, shape="square")}
    if run.full is not None:
        fixed[run.full] = Style(fig.BLUE)
    chart = _energy_chart(points, names, styles(names, fixed))
    return [make_figure("energy", "energy", "Accuracy against energy of memory accesses", chart)]


def _energy_chart(
    points: Sequence[OperatingPoint], names: Sequence[str], looks: dict[str, Style]
) -> Spec:
    """Return a line for each network, a diamond at its lowest safe voltage."""
    pairs = list(zip(points, names, strict=True))
    rows = [row for each, name in pairs for row in _line(each, name)]
    diamonds = [_diamond(*pair) for pair in pairs if pair[0].rate.ber.value > 0]
    seen = [looks[name] for name in names]
    colours = scale(names, [each.colour for each in seen])
    dashes = {"strokeDash": category("name", scale=scale(names, [each.dash for each in seen]))}
    shapes = {"shape": category("name", scale=scale(names, [each.shape for each in seen]))}
    marked = layer("point", encoding={}, shape="diamond", size=180, strokeWidth=2)
    return {
        **frame(rows),
        "encoding": {
            "x": number(
                "energy",
                title="energy of an access, that of an 8-bit word without errors = 1",
                scale={"zero": False, "nice": False, "padding": 12},
            ),
            "y": accuracy_axis([*rows, *diamonds]),
            "color": category("name", scale=colours, legend={"symbolStrokeWidth": 0}),
            "tooltip": [*tooltip("name", "at", "voltage"), number("energy", format=".3f")],
        },
        "layer": [
            layer("rule", encoding=RANGE, strokeOpacity=0.4),
            layer("line", encoding=dashes),
            layer("point", encoding=shapes, filled=True, size=50),
            {**marked, "data": {"values": diamonds}},
        ],
    }


def _line(point: OperatingPoint, name: str) -> list[Spec]:
    """Return the accuracies of a network by rising energy, without bit errors last."""
    columns = point.counts.accs.T
    found = [
        _spot(point, name, level, rates(interval.value, interval if len(column) > 1 else None))
        for level, column in zip(point.levels, columns, strict=False)
        if (interval := mean_interval(column.tolist()))
    ]
    return [*reversed(found), _spot(point, name, 0.0, rates(point.clean.acc, None))]


def _diamond(point: OperatingPoint, name: str) -> Spec:
    return _spot(point, name, point.rate.ber.value, rates(point.rate.acc, None))


def _spot(point: OperatingPoint, name: str, ber: float, accuracy: Spec) -> Spec:
    """Return one place of the drawing."""
    voltage = point.cost.table.voltage_at(ber)
    place = {"energy": round(point.cost.energy_at(voltage), 9), "voltage": f"{voltage:.3f} V/Vmin"}
    return {"name": name, "at": f"BER {share(ber)}", **place, **accuracy}
