"""The matrix as a figure for papers: networks down, threats across, accuracy in colour."""

from bitproof.report import figures as fig
from bitproof.report.figures import Figure, Spec, category, layer, make_figure
from bitproof.report.matrix import ATTACKS, FAULTS, Column, Matrix, MatrixCell, matrix_of
from bitproof.report.matrix_tables import title_of
from bitproof.report.run import Run
from bitproof.report.run_charts import rates, tooltip
from bitproof.report.wording import percent

FEWEST_NETWORKS, FEWEST_THREATS = 2, 4
"""Below these, a table tells as much."""
COLOURS = ("#e8a777", "#ffffff", "#66aad1")
"""At 0, 50 and 100 %: the colour-blind tell both ends apart, and black letters stand on all."""
MISSING = "#e5e7eb"


def matrix_figures(run: Run) -> list[Figure]:
    """Return the matrix of a run with its worst cases; nothing where it is small."""
    matrix = matrix_of(run)
    if len(matrix.networks) < FEWEST_NETWORKS or len(matrix.threats) < FEWEST_THREATS:
        return []
    worst = {"worst fault": FAULTS, "worst attack": ATTACKS}
    rows = []
    for name in matrix.networks:
        for column in matrix.columns:
            cell = matrix.find(name, column.threat)
            rows.append(_row(name, _axis_text(matrix, column), cell))
        for head, families in worst.items():
            if matrix.counted(families):
                rows.append(_row(name, head, matrix.worst(name, families)))
    return [make_figure("matrix", "matrix", "Every network under every threat", _map(rows))]


def _row(network: str, threat: str, cell: MatrixCell | None) -> Spec:
    row: Spec = {"network": network, "threat": threat}
    if cell is None:
        return row | {"value": None, "low": None, "high": None, "main": "–", "sub": ""}
    ends = cell.row.interval
    sub = f"{percent(ends.low)}–{percent(ends.high)}" if ends and not cell.alike else ""
    return row | rates(cell.row.value, ends) | {"main": percent(cell.row.value), "sub": sub}


def _map(rows: list[Spec]) -> Spec:
    colour = {
        "field": "value",
        "type": "quantitative",
        "title": "accuracy, %",
        "scale": {"domain": [0, 50, 100], "range": list(COLOURS), "interpolate": "rgb"},
        "legend": {"orient": "right", "gradientLength": 160},
    }
    across = {"orient": "top", "labelAngle": -38, "labelLimit": 320, "grid": False, "ticks": False}
    down = {"labelLimit": 260, "grid": False, "ticks": False}
    text = {"color": {"value": fig.INK}}
    return {
        "data": {"values": rows},
        "width": {"step": 58},
        "height": {"step": 30},
        "encoding": {
            "x": category("threat", axis=across, sort=_in_order(rows, "threat")),
            "y": category("network", axis=down, sort=_in_order(rows, "network")),
            "tooltip": tooltip("network", "threat"),
        },
        "layer": [
            layer("rect", where="datum.value === null", encoding={}, color=MISSING),
            layer("rect", where="datum.value !== null", encoding={"color": colour}, stroke=MISSING),
            layer("text", encoding={"text": {"field": "main"}, **text}, fontSize=12, dy=-4),
            layer("text", encoding={"text": {"field": "sub"}, **text}, fontSize=8, dy=8),
        ],
    }


def _in_order(rows: list[Spec], name: str) -> list[str]:
    """Return the names of an axis as they come; layers of their own data would mix them up."""
    return list(dict.fromkeys(row[name] for row in rows))


def _axis_text(matrix: Matrix, column: Column) -> str:
    """Return a threat and its level; no two columns are called alike."""
    title = title_of(matrix, column)
    if not column.level:
        return title
    return f"{title}, {column.label.symbol} = {column.label.pretty_level(column.level)}"
