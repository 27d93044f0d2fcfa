"""What fails under a process: its disk, its folder, its workers; and signals at any moment."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.watching import Start, ended, files_of, wait_for

pytestmark = pytest.mark.slow


def mounted(place: Path, *options: str) -> None:
    """Mount a file system, or skip where nobody may."""
    if not shutil.which("mount"):
        pytest.skip("there is no mount")
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(place)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a file system is not allowed here")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 60 KB."""
    place = tmp_path / "disk"
    mounted(place, "-t", "tmpfs", "-o", "size=60k", "tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def words(kind: str, recipes: Path, out: Path, *more: str) -> list[str]:
    return [kind, str(recipes / f"{kind}.toml"), "--out", str(out), "--device", "cpu", *more]


def results(out: Path) -> bytes:
    return (out / "results.csv").read_bytes()


@pytest.fixture
def whole(start: Start, recipes: Path, tmp_path: Path, kind: str) -> bytes:
    """Return what work finds that nothing disturbs."""
    out = tmp_path / "whole"
    assert ended(start(*words(kind, recipes, out)))[0] == 0
    return results(out)


def refused(outcome: tuple[int, str], *reasons: str) -> None:
    code, err = outcome
    lines = err.splitlines()
    assert (code, len(lines)) == (2, 1), err
    assert lines[0].startswith("bitproof: ")
    assert any(reason in err for reason in reasons), err


@pytest.mark.parametrize("kind", ["run", "inject"])
def test_a_full_disk_is_one_line_and_work_goes_on_once_there_is_room(
    kind: str, start: Start, recipes: Path, whole: bytes, disk: Path
) -> None:
    out = disk / "out"
    refused(ended(start(*words(kind, recipes, out))), "No space left on device")
    subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
    resume = ["--resume"] if out.exists() else []
    assert ended(start(*words(kind, recipes, out, *resume)))[0] == 0
    assert results(out) == whole
    assert not [name for name in files_of(out) if name.endswith(".tmp")]


@pytest.mark.parametrize("kind", ["run", "inject", "explore"])
def test_a_folder_that_cannot_be_written_is_one_line(
    kind: str, start: Start, recipes: Path, disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    refused(ended(start(*words(kind, recipes, disk / "out"))), "Read-only file system")


@pytest.mark.parametrize("kind", ["run", "inject"])
def test_a_folder_that_is_removed_under_work_is_one_line(
    kind: str, start: Start, recipes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    grow = {"run": "evaluation.threats.1.chips=3000", "inject": "injection.trials=300000"}
    process = start(*words(kind, recipes, out, "--set", grow[kind]))
    sign = out / ("tallies.jsonl" if kind == "run" else "parts/part-00000.parquet")
    wait_for(sign.exists, process)
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    refused(ended(process), str(out))


def children(parent: int) -> list[int]:
    """Return the processes that a process has started, but for that which tracks resources."""
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [pid for pid in map(int, listed) if "spawn_main" in command_of(pid)]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("kind", ["run", "inject"])
def test_a_worker_that_is_killed_costs_nothing(
    kind: str, start: Start, recipes: Path, tmp_path: Path, whole: bytes
) -> None:
    out = tmp_path / "out"
    process = start(*words(kind, recipes, out, "--workers", "2"))
    wait_for(lambda: children(process.pid), process)
    time.sleep(1)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    code, err = ended(process)
    assert (code, err) == (0, "")
    assert results(out) == whole


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("wait_s", [0.5, 4.0])
def test_a_signal_to_the_whole_group_is_one_line(
    name: str, wait_s: float, start: Start, recipes: Path, tmp_path: Path
) -> None:
    process = start(*words("run", recipes, tmp_path / "out", "--workers", "2"))
    wait_for(lambda: children(process.pid), process)
    time.sleep(wait_s)
    begun, number = time.monotonic(), getattr(signal, name)
    if process.poll() is None:
        os.killpg(process.pid, number)
    code, err = ended(process)
    if code == 0:
        pytest.skip("it was faster")
    word = "interrupted" if name == "SIGINT" else "terminated"
    assert code == 128 + number
    assert err == f"bitproof: {word}; what is finished is kept, go on with --resume\n"
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("kind", ["run", "inject"])
def test_of_two_that_go_on_at_once_one_does(
    kind: str, start: Start, recipes: Path, tmp_path: Path, whole: bytes
) -> None:
    out = tmp_path / "out"
    first = start(*words(kind, recipes, out))
    begun = out / ("recipe.toml" if kind == "run" else "plan.json")
    wait_for(begun.exists, first)
    first.kill()
    ended(first)
    both = [start(*words(kind, recipes, out, "--resume")) for _ in range(2)]
    outcomes = [ended(process) for process in both]
    for code, err in outcomes:
        assert code in {0, 2}, err
        if code == 2:
            refused((code, err), "in use by")
    assert 0 in {code for code, _ in outcomes}
    assert results(out) == whole


@pytest.mark.parametrize("kind", ["run"])
def test_a_report_beside_a_run_is_written_or_refused_in_one_line(
    kind: str, start: Start, recipes: Path, tmp_path: Path, whole: bytes
) -> None:
    out = tmp_path / "out"
    process = start(*words(kind, recipes, out))
    while process.poll() is None:
        code, err = ended(start("report", str(out)))
        assert code in {0, 2}, err
        assert "Traceback" not in err
        assert code == 0 or len(err.splitlines()) == 1, err
    assert ended(process)[0] == 0
    assert results(out) == whole


MOMENTS = [0.1, 0.2, 0.4, 0.8, 1.2, 1.8, 2.5, 3.5]
"""Seconds after the start; before some 0.03 s, Python itself has not got as far as our code."""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("kind", ["run", "inject", "explore", "--help"])
def test_a_signal_at_any_moment_is_one_line(
    kind: str, name: str, start: Start, recipes: Path, tmp_path: Path
) -> None:
    number = getattr(signal, name)
    word = {"SIGINT": "interrupted", "SIGTERM": "terminated"}[name]
    for moment in MOMENTS:
        out = tmp_path / f"{moment}"
        process = start(*([kind] if kind == "--help" else words(kind, recipes, out)))
        time.sleep(moment)
        process.send_signal(number)
        code, err = ended(process)
        if code == 0 or (code == -number and not err):
            continue  # it was faster, or done: Python's own last moments take no signal
        assert code == 128 + number, err
        assert err.startswith(f"bitproof: {word}"), err
        assert err.count("\n") == 1, err


def test_what_is_ignored_by_whoever_starts_it_stays_ignored() -> None:
    script = "import signal, subprocess, sys\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    script += "child = subprocess.Popen([sys.executable, '-m', 'bitproof', 'models'])\n"
    script += "import time; time.sleep(0.3); child.send_signal(signal.SIGINT)\n"
    script += "sys.exit(child.wait())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
