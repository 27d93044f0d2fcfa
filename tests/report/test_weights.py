import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import altair as alt
import pytest

from bitproof.core.errors import DataError
from bitproof.report import write_report
from bitproof.report.drawing import draw_figures, run_figures
from bitproof.report.figures import Figure, static
from bitproof.report.run import Run, read_run, read_unfinished_run
from bitproof.report.weight_charts import weight_figures
from bitproof.report.weights import network_weights, weight_table

MakeRun = Callable[..., Path]
Look = Callable[[Path], Any]
TITLE = "What a flipped bit does to a weight"
LADDER = ("float", "baseline", "normal", "rquant", "clipping")


def figures_of(step: float, *, bits: int = 8, relevance: float = 0.2) -> dict[str, Any]:
    """Return what a run writes down of one network, with grids of this step."""
    squares = [(step * 2**bit) ** 2 for bit in range(bits)]
    return {
        "flips": {
            **{"words": 1000, "measured": squares, "formula": squares, "ber": 0.01},
            **{"measured_sum": 0.01 * sum(squares), "formula_sum": 0.01 * sum(squares)},
            "simulated": 0.0101 * sum(squares),
        },
        "redundancy": {
            **{"range": [-127 * step, 120 * step], "edges": [-1.0, -0.25, 0.25, 1.0]},
            **{"distribution": [relevance, 1 - 2 * relevance, relevance]},
            **{"weight_relevance": relevance, "ber": 0.01, "relative_error": 0.0202},
            "relu_relevance": 0.48,
        },
    }


def write(folder: Path, contents: dict[str, Any]) -> Path:
    (folder / "statistics").mkdir()
    for variant, content in contents.items():
        (folder / "statistics" / f"{variant}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def ladder(make_run: MakeRun) -> Path:
    """Return a run of a ladder, with the figures of three networks."""
    contents = {
        "normal": figures_of(0.01),
        "rquant": figures_of(0.005),
        "clipping": figures_of(0.001, relevance=0.45),
    }
    return write(make_run(variants=LADDER), contents)


def drawn(run: Run) -> dict[str, dict[str, Any]]:
    return {each.name: json.loads(each.spec) for each in weight_figures(run)}


def test_the_page_explains_bit_errors(ladder: Path, look: Look) -> None:
    text = look(write_report(ladder)).words
    assert TITLE in text
    part = text.split(TITLE)[2]
    for wanted in ("Squared error by bit", "Distribution of the weights", "−1.27 to 1.2", "2.02 %"):
        assert wanted in part
    table = weight_table(read_run(ladder))
    assert table is not None
    # The root of 0.01 x 0.005**2 x (4**8 - 1) / 3.
    assert [cell.text for cell in table.rows[1]] == [
        *("rquant", "−0.635 to 0.6", "0.0739\nsimulated 0.0743", "2.02 %", "20.0 %", "48.0 %")
    ]


def test_a_page_without_such_figures_is_as_before(make_run: MakeRun) -> None:
    folder = make_run(variants=LADDER)
    before = write_report(folder).read_text(encoding="utf-8")
    assert TITLE not in before
    write(folder, {})
    assert write_report(folder).read_text(encoding="utf-8") == before
    assert weight_table(read_run(folder)) is None
    assert not weight_figures(read_run(folder))


def test_the_section_is_all_that_figures_add(make_run: MakeRun) -> None:
    folder = make_run(variants=LADDER)
    before = write_report(folder).read_text(encoding="utf-8")
    write(folder, {"normal": figures_of(0.01)})
    after = write_report(folder).read_text(encoding="utf-8")
    start = after.index('<section>\n<h2 id="weights">' + TITLE)
    end = after.index("</section>\n", start) + len("</section>\n")
    listed = f'<li><a href="#weights">{TITLE}</a></li>\n'
    assert (after[: start - 1] + after[end:]).replace(listed, "", 1) == before


def test_lines_are_the_formula_and_points_what_was_measured(ladder: Path) -> None:
    spec = drawn(read_run(ladder))["flip-error"]
    line, points = spec["layer"]
    assert (line["mark"]["type"], line["encoding"]["y"]["field"]) == ("line", "formula")
    assert (points["mark"]["type"], points["encoding"]["y"]["field"]) == ("point", "measured")
    assert line["encoding"]["y"]["scale"]["type"] == "log"
    rows = spec["data"]["values"]
    assert [row["bit"] for row in rows if row["name"] == "rquant"] == list(range(8))
    assert {row["name"]: row["measured"] for row in rows if row["bit"] == 7} == pytest.approx(
        {"normal": 1.28**2, "rquant": 0.64**2, "clipping": 0.128**2}
    )
    assert spec["encoding"]["color"]["scale"]["domain"] == ["normal", "rquant", "clipping"]


def test_steps_of_the_distribution_reach_from_edge_to_edge(ladder: Path) -> None:
    spec = drawn(read_run(ladder))["weight-distribution"]
    rows = [row for row in spec["data"]["values"] if row["name"] == "clipping"]
    assert [(row["edge"], row["value"]) for row in rows] == [
        *((-1.0, 45.0), (-0.25, 10.0), (0.25, 45.0), (1.0, 45.0))
    ]


def test_networks_with_equal_lines_share_one_and_keep_their_rows(make_run: MakeRun) -> None:
    folder = write(
        make_run(variants=LADDER),
        {"normal": figures_of(0.01), "rquant": figures_of(0.01, relevance=0.3)},
    )
    run = read_run(folder)
    names = {
        name: {row["name"] for row in spec["data"]["values"]} for name, spec in drawn(run).items()
    }
    assert names == {"flip-error": {"normal"}, "weight-distribution": {"normal", "rquant"}}
    table = weight_table(run)
    assert table is not None
    assert [row[0].text for row in table.rows] == ["normal", "rquant"]


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_specs_are_sound_at_every_width(bits: int, make_run: MakeRun) -> None:
    folder = write(make_run(variants=LADDER), {"normal": figures_of(0.01, bits=bits)})
    figures = weight_figures(read_run(folder))
    assert len(figures) == 2
    for each in figures:
        assert alt.Chart.from_dict(json.loads(each.spec)).to_dict()
        ET.fromstring(static(each))


def test_figures_are_exported_for_papers(ladder: Path) -> None:
    names = {path.name for path in draw_figures(ladder)}
    assert {"flip-error.svg", "flip-error.pdf", "weight-distribution.png"} <= names
    sections = [each.section for each in run_figures(read_run(ladder))]
    assert sections.index("accuracy") < sections.index("weights")


def test_all_networks_of_a_run_under_way_are_known(ladder: Path) -> None:
    run = read_unfinished_run(ladder)
    assert [each.variant for each in network_weights(run)] == ["normal", "rquant", "clipping"]


def changed(part: str, **values: Any) -> dict[str, Any]:
    content = figures_of(0.01)
    content[part] |= values
    return content


@pytest.mark.parametrize(
    "content",
    [
        *([], "text", {}, {"flips": {}}),
        changed("flips", measured=[]),
        changed("flips", measured=[0.0] * 8),
        changed("flips", formula=[1.0]),
        changed("flips", simulated=float("nan")),
        changed("redundancy", edges=[-1.0, 1.0]),
        changed("redundancy", range=[float("-inf"), 1.0]),
        changed("redundancy", weight_relevance=2.0),
    ],
)
def test_what_is_something_else_is_passed_over(content: Any, make_run: MakeRun, look: Look) -> None:
    folder = write(make_run(variants=LADDER), {"normal": content})
    assert TITLE not in look(write_report(folder)).words


def test_a_file_that_is_no_json_is_named(make_run: MakeRun) -> None:
    folder = write(make_run(variants=LADDER), {})
    (folder / "statistics" / "normal.json").write_text("rubbish")
    with pytest.raises(DataError, match=r"statistics/normal.json: wanted JSON"):
        read_run(folder)


def test_a_network_without_relus_has_a_dash(make_run: MakeRun) -> None:
    folder = write(
        make_run(variants=LADDER), {"normal": changed("redundancy", relu_relevance=None)}
    )
    table = weight_table(read_run(folder))
    assert table is not None
    assert table.rows[0][-1].text == "–"


def test_hostile_names_stay_text(make_run: MakeRun, look: Look) -> None:
    nasty = "<script>alert(1)<script>"
    folder = write(make_run(variants=["baseline", nasty]), {nasty: figures_of(0.01)})
    page = look(write_report(folder))
    page.assert_harmless()
    assert nasty in page.text.split(TITLE)[2]
    figures: list[Figure] = weight_figures(read_run(folder))
    assert all(nasty not in static(each) for each in figures)
