import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import altair as alt

from bitproof.report.drawing import draw_figures, run_figures
from bitproof.report.matrix_charts import matrix_figures
from bitproof.report.matrix_page import matrix_rows
from bitproof.report.run import read_run
from tests.report.matrix_runs import THREATS, write_matrix_run


def test_the_figure_has_every_cell_and_the_worst_cases(finished_matrix: Path) -> None:
    (figure,) = matrix_figures(read_run(finished_matrix))
    spec = json.loads(figure.spec)
    assert alt.Chart.from_dict(spec).to_dict()
    drawn = spec["data"]["values"]
    assert len(drawn) == 7 * (8 + 2)
    assert sum(row["value"] is None for row in drawn) == 2
    cells = {(row["network"], row["threat"]): row for row in drawn}
    for row in matrix_rows(finished_matrix):
        if row["threat"] == "flips":
            for head in ("Random bit flips, BER = 3×10⁻³", "worst fault"):
                assert cells[row["network"], head]["main"] == f"{100 * row['value']:.1f}"


def test_rows_and_columns_stand_as_on_the_page(finished_matrix: Path) -> None:
    (figure,) = matrix_figures(read_run(finished_matrix))
    encoding = json.loads(figure.spec)["encoding"]
    assert encoding["y"]["sort"][:3] == ["baseline", "s1", "randbet"]
    assert encoding["x"]["sort"][0] == "Clean"
    assert encoding["x"]["sort"][-2:] == ["worst fault", "worst attack"]


def test_it_is_among_the_figures_of_a_run_and_not_on_its_page(tmp_path: Path) -> None:
    single = [one for one in THREATS if not any(one.levels)]
    threats = [*single, *(replace(single[-1], name=name) for name in ("again", "and again"))]
    folder = write_matrix_run(tmp_path / "run", networks=["baseline", "s1"], threats=threats)
    paths = draw_figures(folder, formats=["svg"])
    assert [path.name for path in paths] == ["matrix.svg", "matrix.csv"]
    words = {element.text for element in ET.parse(paths[0]).iter() if element.text}
    assert {"baseline", "s1", "worst fault"} <= words
    assert run_figures(read_run(folder)) == []


def test_small_runs_have_no_such_figure(tmp_path: Path) -> None:
    few = write_matrix_run(tmp_path / "few", threats=THREATS[:4])
    alone = write_matrix_run(tmp_path / "alone", networks=["float", "baseline"])
    assert matrix_figures(read_run(few)) == matrix_figures(read_run(alone)) == []
