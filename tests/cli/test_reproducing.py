import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitproof.reproduce import Job
from bitproof.reproduce.behaviour import behaviour_of

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
TINY = Path(__file__).parents[1] / "reproduce" / "tiny"
SMALL = ("reproduce", "--size", "small")
RESULTS = Path("results") / "small" / "resq-matrix"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the shipped recipes be one small job."""
    folder = tmp_path / "recipes"
    shutil.copytree(TINY, folder / "small" / "resq-matrix")
    monkeypatch.setattr("bitproof.reproduce.jobs.recipes_folder", lambda: folder)
    return folder / "small" / "resq-matrix"


def test_cells_are_made_and_told(call: Call, tiny: Path, tmp_path: Path) -> None:
    outcome = call(*SMALL)
    assert (outcome.code, outcome.err) == (0, "")
    assert "22 done, 0 stale, 0 partial, 0 missing" in outcome.out
    assert "nothing left to do" in outcome.out
    assert len(list((tmp_path / RESULTS).glob("*.*.json"))) == 22
    status = call("reproduce", "--status")
    assert status.code == 0
    assert "22 done" in status.out
    assert "largest gain in attack resilience: theirs +10.35 points [S]" in status.out
    assert call("reproduce", "--document", "page.md").out == "written: page.md\n"
    assert "#### tiny-digits" in (tmp_path / "page.md").read_text()
    (tmp_path / RESULTS / "tiny-digits.baseline.clean.acc.json").write_text("{}")
    for words in (["--status"], ["--document", "page.md"], ["--size", "small"]):
        damaged = call("reproduce", *words)
        assert damaged.code == 2
        assert len(damaged.problems) == 1
        assert "tiny-digits.baseline.clean.acc.json: wanted a finished cell" in damaged.err


def test_the_list_names_jobs_and_counts_cells(call: Call, tiny: Path) -> None:
    outcome = call("reproduce", "resq-matrix", "--list")
    assert outcome.code == 0
    assert "tiny-digits" in outcome.out
    assert "22" in outcome.out


def test_time_over_is_no_failure(call: Call, tiny: Path, tmp_path: Path) -> None:
    outcome = call(*SMALL, "--minutes", "0")
    assert (outcome.code, outcome.err) == (0, "")
    assert "0 done, 0 stale, 0 partial, 22 missing" in outcome.out
    assert "22 cells left; what is finished is kept" in outcome.out
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["resq-matrxi"], "reproduce: no table 'resq-matrxi'. Did you mean 'resq-matrix'?"),
        (["--size", "smal"], "--size: wanted one of full, small, got 'smal'"),
        (["--size", "small", "--cell", "*.s7.*"], "--cell: no cell is called like '*.s7.*'"),
        (["--size", "small", "--minutes", "-1"], "Invalid value for '--minutes'"),
    ],
)
def test_a_wrong_word_is_told(words: list[str], problem: str, call: Call, tiny: Path) -> None:
    outcome = call("reproduce", *words)
    assert outcome.code == 2
    assert problem in outcome.problems[-1]


def test_full_size_is_refused_where_it_would_take_for_ever(
    call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    outcome = call("reproduce")
    assert outcome.code == 2
    assert len(outcome.problems) == 1
    assert "--size small" in outcome.err
    assert call("reproduce", "--device", "cpu").code == 0


def stop_by(number: signal.Signals) -> Callable[..., None]:
    """Return a run that gets a signal, and stops as soon as it is asked to."""

    def run(*_args: object, stop: Any, **_options: object) -> None:
        os.kill(os.getpid(), number)
        stop.check()

    return run


def test_sigterm_stops_work_and_keeps_what_is_finished(
    call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("bitproof.reproduce.job_runner.run_recipe", stop_by(signal.SIGTERM))
    outcome = call(*SMALL)
    assert outcome.code == 143
    assert outcome.err == (
        "bitproof: terminated; what is finished is kept; the same command goes on\n"
    )
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_leaves_with_130(call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitproof.reproduce.job_runner.run_recipe", stop_by(signal.SIGINT))
    outcome = call(*SMALL)
    assert outcome.code == 130
    assert outcome.err == (
        "bitproof: interrupted; what is finished is kept; the same command goes on\n"
    )


def test_a_wrong_recipe_names_its_line(call: Call, tiny: Path) -> None:
    plans = tiny / "table.toml"
    plans.write_text(plans.read_text().replace("seeds", "seed"))
    outcome = call("reproduce", "--list")
    assert outcome.code == 2
    assert any("table.toml:2: " in line for line in outcome.problems)


@pytest.mark.slow
def test_one_cell_can_be_asked_for(call: Call, tiny: Path, tmp_path: Path) -> None:
    outcome = call(*SMALL, "--cell", "*.s1.clean.gain")
    assert "1 done, 0 stale, 0 partial, 0 missing" in outcome.out
    (path,) = (tmp_path / RESULTS).glob("*.*.json")
    assert json.loads(path.read_text())["metric"] == "gain"


def test_torchrun_is_refused_in_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = call("reproduce", "--size", "small")
    assert outcome.code == 2
    assert outcome.problems == [
        "bitproof: reproduce: not for torchrun; start it once for each GPU, with "
        "CUDA_VISIBLE_DEVICES: the processes share jobs and seeds"
    ]


def test_behaviour_is_stamped_and_checked(
    call: Call, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[str] = []

    def in_this_process(jobs: list[Job], data_dir: Path | None) -> list[tuple[Job, str]]:
        (job,) = jobs
        known.extend([] if known else [behaviour_of(job, data_dir)])
        return [(job, known[0])]

    # Others start processes for that: tests/reproduce.
    monkeypatch.setattr("bitproof.reproduce.checking.behaviours", in_this_process)
    first = call(*SMALL, "--check", "--stamp")
    assert (first.code, "tiny-digits: new" in first.out) == (0, True)
    again = call(*SMALL, "--check", "--json", "digests.json")
    assert (again.code, "1 equal" in again.out) == (0, True)
    (digest,) = json.loads((tmp_path / "digests.json").read_text()).values()
    path = tmp_path / RESULTS / "behaviour.json"
    path.write_text(path.read_text().replace(digest, "0" * 16))
    changed = call(*SMALL, "--check")
    assert (changed.code, "1 changed" in changed.out) == (1, True)


@pytest.mark.parametrize("words", [("--against", "HEAD~1"), ("--stamp",), ("--json", "d.json")])
def test_an_option_of_the_check_never_starts_work(
    words: tuple[str, ...], call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("check", "check_against"):
        monkeypatch.setattr(f"bitproof.cli.reproducing.{name}", lambda *_: [])
    monkeypatch.setattr("bitproof.cli.reproducing.work", lambda *_, **__: pytest.fail("works"))
    assert call(*SMALL, *words).code == 0
