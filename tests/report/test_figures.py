import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import altair as alt
import pytest

from bitproof import report
from bitproof.core.errors import DataError
from bitproof.report.campaign_charts import campaign_figures
from bitproof.report.campaign_summary import read_summary
from bitproof.report.drawing import draw_figures, run_figures
from bitproof.report.figures import (
    VEGA_LITE,
    Figure,
    figure_csv,
    make_figure,
    static,
    write_figures,
)
from bitproof.report.marks import series_of
from bitproof.report.run import read_run

MakeRun = Callable[..., Path]
NASTY = "<script>alert(1)</script>"
SIGNATURES = {".svg": b"<svg ", ".png": b"\x89PNG", ".pdf": b"%PDF", ".csv": b""}


@pytest.fixture
def all_figures(run_dir: Path, make_campaign: MakeRun) -> list[Figure]:
    """Return the figures of a run and of a campaign."""
    summary = read_summary(make_campaign(n_layers=3, rates=(1e-3, 1e-2)))
    return run_figures(read_run(run_dir)) + campaign_figures(summary)


def test_specs_are_what_vega_lite_expects(all_figures: list[Figure]) -> None:
    # Altair brings the schema, and checks against it.
    assert alt.SCHEMA_VERSION.startswith(f"v{VEGA_LITE}.")
    for each in all_figures:
        spec = json.loads(each.spec)
        assert alt.Chart.from_dict(spec).to_dict()


def test_figures_are_files_for_papers_with_the_same_bytes_each_time(
    make_campaign: MakeRun, tmp_path: Path
) -> None:
    folder = make_campaign(n_layers=2, bits=2)
    paths = draw_figures(folder)
    assert paths[0] == folder / "figures" / "outcomes-flip-in-weight.svg"
    assert all(path.read_bytes().startswith(SIGNATURES[path.suffix]) for path in paths)
    again = draw_figures(folder, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    assert [path.name for path in again] == [path.name for path in paths]


def test_a_csv_beside_each_figure_has_what_is_drawn(
    all_figures: list[Figure], tmp_path: Path
) -> None:
    for each in all_figures:
        rows = list(csv.DictReader(io.StringIO(figure_csv(each))))
        data: list[dict[str, object]] = []
        spec = json.loads(each.spec)
        for part in [spec, *spec.get("layer", [])]:
            data += part.get("data", {}).get("values", [])
        assert len(rows) == len(data) > 0, each.name
        for row, drawn in zip(rows, data, strict=True):
            for name, value in drawn.items():
                assert row[name] == ("" if value is None else str(value))
    bars = next(each for each in all_figures if each.name == "outcomes-flip-in-weight")
    paths = write_figures([bars], tmp_path, ["pdf"])
    assert [path.name for path in paths] == [f"{bars.name}.pdf", f"{bars.name}.csv"]
    with pytest.raises(DataError, match="wanted some of svg, png, pdf, got 'gif'"):
        write_figures([bars], tmp_path, ["gif"])


def test_drawings_are_sound_xml_and_names_stay_text(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(variants=["baseline", NASTY])
    figures = run_figures(read_run(folder))
    for each in figures:
        inside = static(each)
        assert NASTY not in inside
        assert "http" not in inside
        assert "url(" not in inside
        ET.fromstring(inside)
    path, *_ = write_figures(figures[:1], tmp_path)
    texts = [element.text for element in ET.parse(path).iter() if element.text]
    assert NASTY in texts


def test_a_label_that_ends_its_attribute_does_not(all_figures: list[Figure]) -> None:
    one = all_figures[0]
    figure = Figure(one.section, one.name, '"><script>', one.spec)
    assert ET.fromstring(static(figure)).get("aria-label") == '"><script>'


def test_no_figure_asks_for_anything(all_figures: list[Figure]) -> None:
    told = " ".join(each.spec for each in all_figures)
    assert '"url"' not in told
    assert "http" not in told


@pytest.mark.slow
def test_the_program_of_a_live_page_is_sound(make_run: MakeRun, tmp_path: Path) -> None:
    from bitproof.report.figures import live_program  # noqa: PLC0415

    path = tmp_path / "bundle.mjs"
    path.write_text(live_program(), encoding="utf-8")
    try:
        done = subprocess.run(["node", "--check", path], check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no node")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", ["\x1b[31m", "\0", "\b\f", "\\\x1f", "\ufffe\uffff", "\ud800"])
def test_characters_that_no_svg_may_hold_end_no_process(text: str) -> None:
    bar = {"mark": "point", "data": {"values": [{"a": f"a{text}b\\u0001"}]}, "title": text}
    figure = make_figure("s", "n", "t", {**bar, "encoding": {"x": {"field": "a"}}})
    assert json.loads(figure.spec)["data"]["values"][0]["a"].endswith("b\\u0001")
    ET.fromstring(static(figure))


def test_marks_of_a_page_have_values_and_the_number_of_their_line(run_dir: Path) -> None:
    figures = {each.name: each for each in run_figures(read_run(run_dir))}
    one = figures["accuracy-random-flips"]
    names = series_of(json.loads(one.spec))
    root = ET.fromstring(static(one))
    titles = [element.text or "" for element in root.iter("title")]
    rows = json.loads(one.spec)["data"]["values"]
    assert len(titles) == len(rows) == 6 * 7
    row = next(row for row in rows if row["name"] == "s2" and row["at"] == "10⁻³")
    told = f"s2, 10⁻³, {row['value']:.4g} ({row['low']:.4g} to {row['high']:.4g})"
    assert told in titles
    lines = {element.get("data-s") for element in root.iter() if element.get("data-s")}
    assert lines == {str(number) for number in range(len(names))}
    assert "§" not in static(one)


def test_drawings_for_papers_are_free_of_what_pages_need(run_dir: Path, tmp_path: Path) -> None:
    figures = run_figures(read_run(run_dir))
    path = next(path for path in write_figures(figures[:1], tmp_path) if path.suffix == ".svg")
    assert "<title" not in path.read_text()
    assert "§" not in path.read_text()


@pytest.mark.parametrize("text", ["§0§", '"><title>', "<b>&amp;", "a §1§ b"])
def test_names_that_look_like_marks_stay_names(text: str, make_run: MakeRun) -> None:
    for one in run_figures(read_run(make_run(variants=["baseline", text]))):
        root = ET.fromstring(static(one))
        assert {element.get("data-s") for element in root.iter()} <= {None, "0", "1"}
        for element in root.iter("title"):
            assert not len(element)


def test_the_script_of_a_page_is_sound() -> None:
    path = Path(report.__file__).parent / "templates" / "report.js"
    assert "</" not in path.read_text(encoding="utf-8")
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    done = subprocess.run([node, "--check", path], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
