import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bitproof as bp
from tests.recipe.test_exploration import BARE, COSTS, RECIPE

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    text = RECIPE
    for line in (*BARE, "epochs = 4 -> epochs = 1", "images = 100 -> images = 40"):
        before, after = line.split(" -> ")
        text = text.replace(before, after)
    (tmp_path / "costs.csv").write_text(COSTS)
    path = tmp_path / "small.toml"
    path.write_text(text)
    return path


def _read_and_compare(call: Call, folder: Path) -> None:
    """Check that tables and comparisons of a search hold what its files do."""
    summary = json.loads((folder / "o" / "exploration.json").read_text())
    tables = bp.read(folder / "o")
    assert tables.kind == "search"
    assert tables["front"].column("cost") == [one["cost"] for one in summary["front"]]
    points = [point["accs"][0] for one in summary["searches"] for point in one["points"]]
    first = summary["objectives"][0]
    assert tables["points"].column(f"{first['threat']}@{first['level']:g}") == points
    used = {(row["layer"], row["multiplier"]): row["filters"] for row in tables["layers"]}
    assert used == {
        (one["layer"], name): count
        for one in summary["chosen"]["used"]
        for name, count in one["filters"].items()
    }
    shutil.copytree(folder / "o", folder / "p")
    compared = call("compare", "o", "p", "--json", "compared.json")
    assert compared.code == 0
    rows = json.loads((folder / "compared.json").read_text())["rows"]
    cost = next(row for row in rows if row["metric"] == "cost" and row["place"] == "p")
    assert (cost["value"], cost["difference"]) == (summary["chosen"]["cost"], 0.0)


@pytest.mark.slow
def test_a_search_prints_its_tables_and_is_reported_anew(
    call: Call, recipe: Path, tmp_path: Path
) -> None:
    outcome = call("explore", recipe, "--out", "o", "--set", "exploration.goal.max_drop=1.0")
    assert outcome.code == 0, outcome.err
    for words in (
        "Front: choices that no other beats",
        "Searches",
        "The choice saves",
        "images no search saw",
        "against measuring all choices",
        "report: o/report.html",
    ):
        assert words in outcome.out
    again = call("report", "o", "--interactive")
    assert again.code == 0
    assert again.out in outcome.out
    page = (tmp_path / "o" / "report.html").read_text()
    _read_and_compare(call, tmp_path)
    assert "<script>" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    summary = tmp_path / "o" / "exploration.json"
    whole = summary.read_text()
    for damaged in (
        whole[:-9],
        whole.replace('"chosen"', '"chose"'),
        "{}",
        whole.replace("mred", "mre"),
    ):
        summary.write_text(damaged)
        outcome = call("report", "o")
        assert (outcome.code, len(outcome.problems)) == (2, 1)
    summary.unlink()
    assert "wanted a finished search" in call("report", "o").problems[0]
    summary.write_text(whole)
    drawn = call("figures", "o").out.split()
    assert "o/figures/scores.svg" in drawn
    assert "o/figures/front-clean.pdf" in drawn


def test_what_is_wrong_takes_one_line(call: Call, recipe: Path) -> None:
    for words, message in (
        (("--set", "exploration.costs=published"), "exact: wanted a published cost"),
        (("--set", "exploration.keep=['conv9']"), "keep: no layer 'conv9'; wanted some of"),
        (("--shard", "3/2"), "shard: wanted K/N with K from 1 to N"),
        (("--device", "tpu"), "device: wanted auto, cpu or cuda, got 'tpu'"),
    ):
        outcome = call("explore", recipe, "--out", "o", *words)
        assert outcome.code == 2
        assert message in outcome.problems[-1]
    assert call("report", "nowhere").code == 2
