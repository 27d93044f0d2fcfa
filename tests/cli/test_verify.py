"""`bitproof verify` on the directories of a run and a campaign."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitproof.core.files import sha256_of_file

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""


@pytest.fixture
def run(call: Call, finished: Path) -> Path:
    """Return a copy of it in the working directory."""
    return Path(shutil.copytree(finished, "run"))


def test_a_finished_run_is_as_it_was_written_and_stays_so(call: Call, run: Path) -> None:
    before = sha256_of_file(run / "bitproof-manifest.json")
    outcome = call("verify", run)
    first, last = outcome.out.splitlines()
    assert (outcome.code, outcome.err) == (0, "")
    assert first.startswith("run: 18 files, ")
    assert first.endswith(" bytes, all as written; complete")
    assert last == f"sha256 of the manifest: {before}"
    assert call("report", run, "--interactive").code == 0
    assert call("figures", run).code == 0
    (run / "notes.txt").write_text("mine")
    assert "not in the manifest: notes.txt" in call("verify", run).out


@pytest.mark.parametrize(
    "name", ["results.csv", "report.html", "tallies.jsonl", "recipe.toml", "networks/baseline.json"]
)
def test_each_file_that_changed_is_a_line(call: Call, run: Path, name: str) -> None:
    content = bytearray((run / name).read_bytes())
    content[len(content) // 2] ^= 1
    (run / name).write_bytes(content)
    (run / "records" / "s1.json").unlink()
    (run / "records" / "mine.json").write_text("{}")
    outcome = call("verify", run)
    assert outcome.code == 2
    assert sorted(outcome.problems) == sorted(
        [
            f"bitproof: run/{name}: changed",
            "bitproof: run/records/mine.json: not listed",
            "bitproof: run/records/s1.json: missing",
        ]
    )


def test_a_report_of_changed_results_is_refused(call: Call, run: Path) -> None:
    table = (run / "results.csv").read_text()
    (run / "results.csv").write_text(table.replace("0.", "0.1", 1))
    outcome = call("report", run)
    assert outcome.code == 2
    assert "results.csv: changed since it was written" in outcome.err
    assert "make it anew with --resume" in outcome.err


def test_a_campaign_is_verified_with_its_parts(call: Call) -> None:
    words = ("--model", "digits_cnn", "--trials", "40", "--set", "injection.images=4")
    assert call("inject", *words, "--out", "c").code == 0
    outcome = call("verify", "c")
    assert outcome.code == 0
    assert "; complete" in outcome.out
    part = Path("c/parts/part-00000.parquet")
    part.write_bytes(part.read_bytes()[:-1])
    assert call("verify", "c").problems == ["bitproof: c/parts/part-00000.parquet: changed"]
    assert call("inject", *words, "--out", "c", "--resume").code == 0
    assert call("verify", "c").code == 0


def test_what_is_no_directory_of_ours_is_one_line(call: Call) -> None:
    Path("empty").mkdir()
    for name in ("empty", "nowhere"):
        outcome = call("verify", name)
        assert outcome.code == 2
        (line,) = outcome.problems
        assert line.startswith(f"bitproof: {name}: wanted the directory of a run, a campaign or")
