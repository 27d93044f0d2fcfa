import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bitproof.core.manifest import Manifest
from bitproof.report import (
    matrix_choices,
    matrix_lines,
    matrix_rows,
    write_matrix,
    write_report,
)
from bitproof.report.matrix_page import FIELDS, PAGE, TABLE
from bitproof.stats.results import Row
from tests.report.matrix_runs import NETWORKS, THREATS, Threatened, write_matrix_run

MakeRun = Callable[..., Path]
Look = Callable[[Path], Any]
NASTY = "<script>alert(1)</script>"
CDATA = "]]>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
INTEGERS = NETWORKS[1:]


@pytest.fixture(scope="module")
def page_path(finished_matrix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of the large run, written once; nobody changes it."""
    folder = Path(shutil.copytree(finished_matrix, tmp_path_factory.mktemp("page") / "run"))
    return write_matrix(folder)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a run whose threats have a level each, so that nothing is drawn."""
    threats = [one for one in THREATS if len(one.levels) == 1]
    return write_matrix_run(tmp_path / "run", networks=["baseline", "s1", "at"], threats=threats)


def tables(path: Path) -> Iterator[list[list[ET.Element]]]:
    """Yield the cells of every table of a page, its head first."""
    text = path.read_text(encoding="utf-8")
    for table in re.findall(r"<table>.*?</table>", text, re.DOTALL):
        root = ET.fromstring(re.sub(r"<wbr>|&nbsp;", "", table))
        yield [list(row) for row in root.iter("tr")]


def texts(row: list[ET.Element]) -> list[str]:
    return ["".join(cell.itertext()).strip() for cell in row]


def main_text(cell: ET.Element) -> str:
    """Return what a cell says in large letters."""
    small = cell.find("small")
    whole = "".join(cell.itertext())
    return whole.removesuffix("".join(small.itertext())) if small is not None else whole


def test_the_page_tells_all_there_is_to_tell(page_path: Path, look: Look) -> None:
    path = page_path
    assert path.name == "matrix.html"
    text = look(path).words
    for wanted in (
        "7 networks × 7 threats",
        "the best worst case of 7 networks is that of “randbet”",
        "Against the first network",
        "What to choose when",
        "Where power matters: “all+mul”, 45.0 % of the power of exact multipliers",
        "Not measured (–): Transient faults in registers: “mul”, “all+mul”. Nothing is filled in.",
        "Worst cases leave out what not every network met: Transient faults in registers.",
        "Over all levels",
        "Threat by threat",
        "SDC-1",
        "worst draw",
        "What it took",
        "18 trials",
        "Environment",
        "Worst case",
        "Power share",
    ):
        assert wanted in text, wanted
    assert "Partial run" not in text
    assert "float" not in text


def test_cells_of_the_heat_map_are_those_of_the_results(page_path: Path) -> None:
    path = page_path
    head, *rows = next(tables(path))
    titles = [main_text(cell) for cell in head]
    assert titles == [
        *("network", "Clean", "Random bit flips", "Transient faults in registers", "BFA"),
        *("L∞ PGD", "L∞ APGD", "One multiplier", "L∞ PGD, on chips with BER 10⁻³"),
        *("worst fault", "worst attack", "worst of all"),
    ]
    values = {(row["network"], row["threat"]): row for row in matrix_rows(page_path.parent)}
    order = ["clean", "flips", "registers", "bfa", "pgd", "apgd", "one_multiplier", "pgd_on_chip"]
    for row in rows:
        network = main_text(row[0])
        for threat, cell in zip(order, row[1:], strict=False):
            told = values.get((network, threat))
            if told is None:
                assert main_text(cell) == "–"
                continue
            assert main_text(cell) == f"{100 * told['value']:.1f}"
            ends = f"{100 * told['ci_low']:.1f}–{100 * told['ci_high']:.1f}"
            assert ends in texts([cell])[0]
            height = 2 * told["value"] - 1
            assert ("high" if height >= 0 else "low") in cell.attrib["class"].split()
            assert f"--heat:{abs(height):.2f}" in cell.attrib.get("style", "--heat:0.00")
        faults = values[network, "flips"]["value"]
        attacks = min(values[network, one]["value"] for one in ("bfa", "pgd", "apgd"))
        shown = [main_text(cell) for cell in row[-3:-1]]
        assert shown == [f"{100 * faults:.1f}", f"{100 * attacks:.1f}"]


def test_bold_cells_are_the_best_and_what_cannot_be_told_from_it(page_path: Path) -> None:
    _, *rows = next(tables(page_path))
    bold = {main_text(row[0]) for row in rows if "best" in row[2].attrib.get("class", "").split()}
    assert bold == {"randbet"}
    clean = [row[1] for row in rows if "best" in row[1].attrib.get("class", "").split()]
    assert len(clean) < len(rows)


def test_every_number_leads_to_its_threat(page_path: Path, look: Look) -> None:
    path = page_path
    page = look(path)
    page.assert_harmless()  # every place that is linked is there, once
    head, *rows = next(tables(path))
    for row in rows:
        for title, cell in zip(head[1:-3], row[1:-3], strict=True):
            link = cell.find("a")
            assert (link is None) == (main_text(cell) == "–")
            if link is not None:
                place = link.attrib["href"].removeprefix("#")
                heading = re.search(rf'<h3 id="{place}">([^<]+)<', path.read_text("utf-8"))
                assert heading is not None
                assert heading[1] == main_text(title)


def test_tables_sort_because_every_row_has_a_cell_for_each_head(page_path: Path) -> None:
    found = [table for table in tables(page_path) if table[0][0].text == "network"]
    assert len(found) == 5 + len(THREATS)
    for head, *rows in found:
        assert len(rows) >= 3
        assert {len(row) for row in rows} == {len(head)}


def test_differences_are_bold_where_their_interval_excludes_zero(page_path: Path) -> None:
    _, (_, *rows), *_ = tables(page_path)
    told = {(row["network"], row["threat"]): row for row in matrix_rows(page_path.parent)}
    assert [main_text(row[0]) for row in rows] == list(INTEGERS[1:])
    seen = set()
    for row in rows:
        wanted = told[main_text(row[0]), "flips"]
        clear = wanted["difference_low"] > 0 or wanted["difference_high"] < 0
        assert ("clear" in row[2].attrib["class"].split()) == clear
        points = main_text(row[2]).replace("−", "-")
        assert float(points) == pytest.approx(100 * wanted["difference"], abs=0.051)
        seen.add(clear)
    assert True in seen


def test_the_page_asks_for_nothing_and_runs_its_own_script_alone(
    page_path: Path, look: Look
) -> None:
    path = page_path
    page = look(path)
    page.assert_harmless()
    assert len(page.programs) == 1
    assert not re.search(r"https?://|url\(|@import", path.read_text(encoding="utf-8"))


def test_equal_runs_give_equal_pages(small: Path) -> None:
    first = write_matrix(small).read_bytes(), (small / TABLE).read_bytes()
    assert (write_matrix(small).read_bytes(), (small / TABLE).read_bytes()) == first


def test_hostile_names_stay_text(tmp_path: Path, look: Look) -> None:
    threats = [
        THREATS[0],
        *(
            Threatened(f"t{i}", family, NASTY, (1.0, 2.0), CDATA, "plain", "chip", 5)
            for i, family in enumerate(("memory_fault", "input_attack", "crossing"))
        ),
    ]
    folder = write_matrix_run(
        tmp_path / "run",
        networks=["baseline", NASTY, CDATA, f"{NASTY}+{CDATA}"],
        threats=threats,
        facts={"title": NASTY, "warnings": [CDATA], "multipliers": {CDATA: {"power_share": 0.5}}},
    )
    page = look(write_matrix(folder))
    page.assert_harmless()
    assert page.tags.count("script") == 1
    assert page.text.count(NASTY) > 10
    assert page.text.count(CDATA) > 10


def test_threats_of_one_title_are_told_apart_by_name(tmp_path: Path) -> None:
    threats = [THREATS[0]] + [
        Threatened(name, "memory_fault", "Flips", unit="chip", trials=5) for name in ("one", "two")
    ]
    folder = write_matrix_run(tmp_path / "run", networks=["baseline", "s1"], threats=threats)
    head, *_ = next(tables(write_matrix(folder)))
    assert [main_text(cell) for cell in head[2:4]] == ["Flips (one)", "Flips (two)"]


@pytest.mark.slow
def test_charts_may_be_live_and_still_ask_for_nothing(matrix_dir: Path, look: Look) -> None:
    page = look(write_matrix(matrix_dir, interactive=True))
    page.assert_harmless()
    places = [value for name, value in page.attributes if name == "data-figure"]
    assert sorted(places) == sorted(json.loads(page.script))
    assert len(places) == 3


def test_the_table_for_programs_has_what_the_page_shows(page_path: Path) -> None:
    with (page_path.parent / TABLE).open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    rows = matrix_rows(page_path.parent)
    assert len(found) == len(rows) == 7 * 8 - 2
    for text, row in zip(found, rows, strict=True):
        assert tuple(text) == tuple(row) == FIELDS
        assert text == {name: "" if one is None else str(one) for name, one in row.items()}
    json.dumps(rows, allow_nan=False)
    first = next(row for row in rows if (row["network"], row["threat"]) == ("s1", "flips"))
    assert (first["n"], first["unit"], first["trials"], first["seconds"]) == (6, "chip", 18, 4.5)
    assert (first["worst"], first["paired"], first["family"]) == (True, True, "memory_fault")


def test_the_report_writes_the_matrix_anew_where_there_is_one(small: Path) -> None:
    write_report(small)
    assert not (small / PAGE).exists()
    before = write_matrix(small).read_bytes()
    (small / PAGE).write_text("old")
    (small / TABLE).unlink()
    write_report(small)
    assert (small / PAGE).read_bytes() == before
    assert (small / TABLE).exists()


def test_page_and_table_are_listed_where_the_directory_has_a_manifest(small: Path) -> None:
    manifest = Manifest(small)
    manifest.create()
    write_matrix(small)
    assert set(manifest.entries()) == {PAGE, TABLE}


@pytest.mark.parametrize("variants", [[], ["float"], ["baseline"], ["baseline", "s1"]])
def test_small_runs_give_a_page(variants: list[str], make_run: MakeRun, look: Look) -> None:
    folder = make_run(variants=variants)
    page = look(write_matrix(folder))
    page.assert_harmless()
    assert matrix_lines(folder)[0] == ["threat", *(one for one in variants if one != "float")]
    assert bool(matrix_choices(folder)) == (len(variants) == 2)


def test_a_run_without_rows_gives_a_page(make_run: MakeRun, look: Look) -> None:
    page = look(write_matrix(make_run(rows=[])))
    page.assert_harmless()
    assert "Partial run" in page.words
    assert "This run has no results yet." in page.words


def test_a_run_with_clean_accuracies_alone_gives_a_page(make_run: MakeRun, look: Look) -> None:
    rows = [Row(one, "clean", 0.0, "acc", 0.9, 0.8, 0.95, 50) for one in ("baseline", "s1")]
    text = look(write_matrix(make_run(rows=rows, variants=["baseline", "s1"]))).words
    assert "“baseline”, 90.0 % (80.0 to 95.0) clean." in text


def test_draws_that_come_out_alike_are_no_interval(make_run: MakeRun, look: Look) -> None:
    rows = [
        Row(name, threat, level, "acc", value, value - half, value + half, 2)
        for name, value in (("baseline", 0.5), ("s1", 0.75))
        for threat, level, half in (("clean", 0.0, 0.01), ("random_flips", 0.125, 0.0))
    ]
    folder = make_run(rows=rows, variants=["baseline", "s1"])
    path = write_matrix(folder)
    page = look(path)
    # Two cells; the worst fault, twice, and the worst of all that they are; all levels.
    assert page.text.count("all alike") == 2 * 5
    assert "All alike: all of them gave the same accuracy" in page.words
    _, *cells = next(tables(path))
    assert not [row for row in cells if "best" in row[2].attrib["class"].split()]
    assert matrix_lines(folder)[2] == ["random_flips BER 1.25e-1", "50.0 ±?", "75.0 ±?"]
    lines = matrix_choices(folder)
    assert lines[-1].startswith("±?: all draws of a cell came out alike")
    assert "none of the 2 networks can be told" in lines[1]


def test_an_unfinished_run_says_so(small: Path, look: Look) -> None:
    facts = json.loads((small / "run.json").read_text())
    facts |= {"finished": None, "variants": [*facts["variants"], "later"]}
    (small / "run.json").write_text(json.dumps(facts))
    text = look(write_matrix(small)).words
    assert "Partial run" in text
    assert "No results yet for later." in text


def test_equal_networks_are_timed_once(small: Path, look: Look) -> None:
    facts = json.loads((small / "run.json").read_text())
    facts["networks"] = {"s1": "same", "at": "same"}
    (small / "run.json").write_text(json.dumps(facts))
    assert "as s1" in look(write_matrix(small)).words


def test_the_console_has_a_row_for_each_threat_and_worst_case(matrix_dir: Path) -> None:
    header, *rows = matrix_lines(matrix_dir)
    assert header == ["threat", *INTEGERS]
    assert [row[0] for row in rows] == [
        *("clean", "flips BER 3e-3", "registers", "bfa flips 5", "pgd eps 4/255"),
        *("apgd eps 1/255", "one_multiplier", "pgd_on_chip eps 2/255"),
        *("worst fault", "worst attack", "worst of all", "AUC flips", "AUC bfa", "AUC pgd"),
    ]
    assert all(len(row) == len(header) for row in rows)
    told = {(row["network"], row["threat"]): row for row in matrix_rows(matrix_dir)}
    one = told["at", "flips"]
    half = 50 * (one["ci_high"] - one["ci_low"])
    at = header.index("at")
    assert rows[1][at] == rows[8][at] == f"{100 * one['value']:.1f} ±{half:.1f}"
    assert rows[2][header.index("mul")] == "-"
    assert "±" not in rows[-1][at]


def test_choices_on_the_console_are_plain_and_say_what_is_left_out(matrix_dir: Path) -> None:
    lines = matrix_choices(matrix_dir)
    assert any(line.startswith('Where faults matter most: "randbet", ') for line in lines)
    assert lines[-1] == "Worst cases leave out registers: not measured on mul, all+mul."
    assert all(line.isascii() for line in lines)
