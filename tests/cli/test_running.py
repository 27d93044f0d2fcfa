import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bitproof.cli.running import DEMO, shipped_recipe
from bitproof.evaluation import Clean, TallyStore
from bitproof.models import save_weights
from bitproof.recipe import read_recipe

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""


def edit(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_a_run_prints_its_table_and_where_the_report_is(
    call: Call, toy: Path, finished: Path, tmp_path: Path
) -> None:
    outcome = call("run", toy, "--device", "cpu")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    for variant in ("float", "baseline", "s1+s2+s3"):
        assert any(line.startswith(f"│ {variant} ") for line in lines)
    assert "report: runs/toy/report.html" in lines
    assert any(line.startswith("evaluate s1+s2+s3: 7/7") for line in lines)
    here, there = tmp_path / "runs" / "toy" / "results.csv", finished / "results.csv"
    assert here.read_bytes() == there.read_bytes()


def test_an_interrupted_run_says_how_to_go_on_and_does(
    call: Call, toy: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))
    original = TallyStore.add

    def add(*args: Any, **names: Any) -> None:
        if next(calls) == 9:
            raise KeyboardInterrupt
        original(*args, **names)

    with monkeypatch.context() as patch:
        patch.setattr(TallyStore, "add", add)
        outcome = call("run", toy, "--out", "out", "--device", "cpu")
    assert outcome.code == 130
    assert outcome.problems == [
        "bitproof: interrupted; what is finished is kept, go on with --resume"
    ]
    again = call("run", toy, "--out", "out", "--device", "cpu")
    assert (again.code, again.problems) == (
        2,
        ["bitproof: out: holds a run already; go on with --resume, or choose another --out"],
    )
    assert call("run", toy, "--out", "out", "--device", "cpu", "--resume").code == 0
    assert Path("out/results.csv").read_bytes() == (finished / "results.csv").read_bytes()


@pytest.mark.slow
def test_a_full_disk_is_one_line(
    call: Call, toy: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_APPEND:  # the log
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        outcome = call("run", toy, "--out", "out", "--device", "cpu")
    assert (outcome.code, outcome.problems) == (
        2,
        ["bitproof: out/tallies.jsonl: cannot write (No space left on device)"],
    )
    assert call("run", toy, "--out", "out", "--device", "cpu", "--resume").code == 0
    assert Path("out/results.csv").read_bytes() == (finished / "results.csv").read_bytes()


def test_what_is_set_is_stored_and_decides_what_the_run_is(call: Call, toy: Path) -> None:
    words = ("run", toy, "--device", "cpu", "--set", "name=other", "--set", "variants=['float']")
    assert call(*words, "--set", "data.test_size=30").code == 0
    recipe = read_recipe(Path("runs/other/recipe.toml"))
    assert (recipe.variants, recipe.data.model_dump()["test_size"]) == (("float",), 30)
    one_problem(
        call(*words, "--resume"),
        "runs/other: belongs to another recipe. data.test_size: 30 before, 40 now",
    )


def test_a_wrong_set_is_one_line(call: Call, toy: Path) -> None:
    one_problem(
        call("run", toy, "--set", "evaluation.sed=5"),
        "--set evaluation.sed=5: evaluation.sed: no such field. Did you mean 'seed'?",
    )
    one_problem(call("demo", "--set", "seed"), "--set seed: wanted KEY=VALUE")
    assert not Path("runs").exists()


def test_every_problem_of_a_recipe_is_a_line_with_its_place(call: Call, toy: Path) -> None:
    edit(edit(toy, "epochs = 1\nlearning", "epocs = 1\nlearning"), "chips = 2", "chips = 0")
    outcome = call("run", toy)
    assert outcome.code == 2
    assert outcome.problems == [
        f"bitproof: {toy}:13: train.epocs: no such field. Did you mean 'epochs'?",
        f"bitproof: {toy}:46: evaluation.threats.1.chips: "
        "should be greater than or equal to 1, got 0",
    ]
    assert not Path("runs").exists()


def one_problem(outcome: Any, start: str) -> None:
    assert outcome.code == 2
    (line,) = outcome.problems
    assert line.startswith(f"bitproof: {start}"), line
    assert "Traceback" not in outcome.out


def test_a_missing_recipe_is_one_line(call: Call) -> None:
    one_problem(call("run", "no.toml"), "no.toml: cannot read the recipe (No such file")
    one_problem(call("run", "."), ".: cannot read the recipe (Is a directory)")


def test_a_syntax_error_is_one_line(call: Call, toy: Path) -> None:
    edit(toy, "chips = 2", "chips = = 2")
    one_problem(call("run", toy), f"{toy}:46: not valid TOML: Invalid value")


def test_missing_data_is_one_line(call: Call, toy: Path, tmp_path: Path) -> None:
    edit(toy, 'kind = "digits"\ntrain_size = 128\ntest_size = 40', 'kind = "cifar10"')
    one_problem(call("run", toy), "cifar10: not found: no --data-dir, and BITPROOF_DATA is not set")
    one_problem(call("run", toy, "--data-dir", tmp_path), "cifar10: not found: looked for /")
    one_problem(call("run", toy, "--data-dir", "no"), f"data folder {tmp_path}/no does not exist")


def test_a_truncated_data_file_is_one_line(
    call: Call, toy: Path, tmp_path: Path, data_dir: Path
) -> None:
    edit(toy, 'kind = "digits"\ntrain_size = 128\ntest_size = 40', 'kind = "cifar10"')
    content = (data_dir / "mini" / "cifar10-mini.npz").read_bytes()
    (tmp_path / "data" / "mini").mkdir(parents=True)
    (tmp_path / "data" / "mini" / "cifar10-mini.npz").write_bytes(content[:-1000])
    one_problem(call("run", toy), f"{tmp_path}/data/mini/cifar10-mini.npz: ")


def test_weights_that_do_not_fit_are_one_line_with_every_key(call: Call, toy: Path) -> None:
    save_weights(torch.nn.Linear(2, 2), toy.with_name("w.safetensors"))
    edit(toy, 'name = "toy"', 'name = "toy"\nweights = "w.safetensors"')
    outcome = call("run", toy)
    one_problem(outcome, f"{toy.with_name('w.safetensors')}: the weights do not fit the model: ")
    assert "missing 'bn1.running_mean'" in outcome.err
    assert "unexpected 'bias'" in outcome.err


def test_missing_weights_are_one_line(call: Call, toy: Path) -> None:
    edit(toy, 'name = "toy"', 'name = "toy"\nweights = "w.safetensors"')
    one_problem(call("run", toy), "weights: no file 'w.safetensors'; looked for ")


def test_damaged_weights_are_one_line(call: Call, toy: Path) -> None:
    edit(toy, 'name = "toy"', 'name = "toy"\nweights = "w.safetensors"')
    toy.with_name("w.safetensors").write_bytes(b"\x10")
    one_problem(call("run", toy), f"{toy.with_name('w.safetensors')}: cannot be read as .safeten")


def test_a_model_that_cannot_be_imported_is_one_line(call: Call, toy: Path) -> None:
    edit(toy, '{ kind = "digits_cnn", width = 4 }', '"nowhere.models:net"')
    one_problem(call("run", toy), "factory 'nowhere.models:net': no module 'nowhere'")


def test_a_loss_that_is_no_number_is_one_line(call: Call, toy: Path) -> None:
    edit(toy, '{ kind = "digits_cnn", width = 4 }', '{ kind = "lenet5", padding = 4 }')
    edit(toy, "learning_rate = 0.05", "learning_rate = 1e6\nbatch_size = 8")
    one_problem(call("run", toy), "training: the loss became ")
    assert Path("runs/toy/recipe.toml").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_one_line(call: Call, toy: Path) -> None:
    one_problem(call("run", toy, "--device", "cuda"), "device: cuda was asked for, this torch sees")
    one_problem(call("run", toy, "--device", "gpu"), "device: wanted auto, cpu or cuda, got 'gpu'")
    assert not Path("runs").exists()


def test_a_place_that_cannot_be_written_is_one_line(call: Call, toy: Path) -> None:
    one_problem(call("run", toy, "--out", toy), f"{toy}: wanted a run directory, this is a file")
    one_problem(call("run", toy, "--out", toy / "x"), f"{toy}/x: cannot lock (Not a directory)")
    one_problem(call("run", toy, "--out", "/proc/x"), "/proc/x: cannot lock (")
    one_problem(call("run", toy, "--out", "x" * 300), "xxx")


def test_a_changed_recipe_is_one_line_with_every_field(
    call: Call, toy: Path, finished: Path
) -> None:
    shutil.copytree(finished, "out")
    edit(edit(toy, "train_size = 128", "train_size = 120"), "chips = 2", "chips = 3")
    one_problem(
        call("run", toy, "--out", "out", "--resume"),
        "out: belongs to another recipe. data.train_size: 128 before, 120 now; "
        "evaluation.threats.1.chips: 2 before, 3 now",
    )


def test_report_is_written_anew(call: Call, finished: Path) -> None:
    shutil.copytree(finished, "out")
    page = Path("out/report.html").read_bytes()
    Path("out/report.html").unlink()
    outcome = call("report", "out")
    assert outcome.code == 0
    assert Path("out/report.html").read_bytes() == page
    assert "report: out/report.html" in outcome.out.splitlines()


def test_a_report_may_have_live_charts(call: Call, finished: Path) -> None:
    shutil.copytree(finished, "live")
    assert 'id="specs"' not in Path("live/report.html").read_text(encoding="utf-8")
    assert call("report", "live", "--interactive").code == 0
    assert 'id="specs"' in Path("live/report.html").read_text(encoding="utf-8")


def test_figures_are_written_for_papers(call: Call, finished: Path) -> None:
    shutil.copytree(finished, "drawn")
    outcome = call("figures", "drawn", "--out", "paper")
    paths = [Path(line) for line in outcome.out.splitlines()]
    assert outcome.code == 0
    assert {path.suffix for path in paths} == {".svg", ".png", ".pdf", ".csv"}
    less = call("figures", "drawn", "--out", "less", "--format", "pdf").out.splitlines()
    assert {Path(line).suffix for line in less} == {".pdf", ".csv"}
    one_problem(call("figures", "drawn", "--format", "gif"), "format: wanted some of svg, png, pdf")
    assert all(path.parent == Path("paper") and path.stat().st_size > 0 for path in paths)
    one_problem(call("figures", "nowhere"), "nowhere: wanted a run directory")


def test_a_report_on_nothing_is_one_line(call: Call, finished: Path) -> None:
    Path("empty").mkdir()
    one_problem(call("report", "empty"), "empty: wanted a run directory, there is no run.json")
    one_problem(call("report", "nowhere"), "nowhere: wanted a run directory")
    shutil.copytree(finished, "half")
    Path("half/results.csv").unlink()
    one_problem(call("report", "half"), "half/results.csv: wanted the result table of a run")


def test_warnings_of_the_run_are_printed(
    call: Call, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clean, "warnings", lambda *_: ["[is] masked"])
    outcome = call("run", toy, "--device", "cpu")
    assert "warning: baseline: [is] masked" in outcome.out.splitlines()


@pytest.mark.slow
def test_the_demo_makes_room_for_itself_and_for_nothing_else(
    call: Call, toy: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitproof.cli.running.shipped_recipe", lambda _name: toy)
    shutil.copytree(finished, "runs/demo")
    Path("runs/demo/results.csv").unlink()
    assert call("demo", "--device", "cpu").code == 0
    assert Path("runs/demo/results.csv").exists()
    one_problem(call("demo", "--out", "runs/demo"), "runs/demo: holds a run already")
    assert call("demo", "--device", "cpu", "--resume").code == 0


def test_the_recipe_of_the_demo_is_there() -> None:
    assert read_recipe(shipped_recipe(DEMO)).data.kind == "digits"


# From here on in processes of their own.


def start(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bitproof", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["train", "evaluate"])
def test_ctrl_c_ends_a_process_with_one_line(phase: str, toy: Path, tmp_path: Path) -> None:
    if phase == "train":
        edit(toy, "[train]\nepochs = 1\n", "[train]\nepochs = 100000\n")
        sign = tmp_path / "out" / "run.json"
    else:
        edit(toy, "chips = 2", "chips = 100000")
        sign = tmp_path / "out" / "tallies.jsonl"
    process = start("run", toy, "--out", tmp_path / "out", "--device", "cpu")
    wait_for(sign.exists, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "bitproof: interrupted; what is finished is kept, go on with --resume\n"
    assert (tmp_path / "out" / "recipe.toml").exists()
    assert not list((tmp_path / "out").rglob("*.tmp"))


@pytest.mark.slow
def test_sigterm_in_training_costs_nothing(toy: Path, tmp_path: Path) -> None:
    edit(toy, "[train]\nepochs = 1\n", "[train]\nepochs = 300\n")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start("run", toy, "--out", whole, "--device", "cpu").communicate(timeout=120)
    process = start("run", toy, "--out", cut, "--device", "cpu")
    wait_for((cut / "run.json").exists, process)
    time.sleep(0.5)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err == "bitproof: terminated; what is finished is kept, go on with --resume\n"
    assert (cut / "checkpoints" / "float.safetensors").exists()
    again = start("run", toy, "--out", cut, "--device", "cpu", "--resume")
    again.communicate(timeout=120)
    assert (cut / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 64 KiB, or skip where nobody may mount one."""
    if not shutil.which("mount"):
        pytest.skip("there is no mount")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)  # files may still be mapped


@pytest.mark.slow
def test_a_disk_that_is_full_leaves_a_run_that_goes_on(
    call: Call, toy: Path, finished: Path, tiny_disk: Path
) -> None:
    out = tiny_disk / "out"
    outcome = call("run", toy, "--out", out, "--device", "cpu")
    one_problem(outcome, f"{out}/")
    assert "No space left on device" in outcome.err
    subprocess.run(["mount", "-o", "remount,size=10m", str(tiny_disk)], check=True)
    assert call("run", toy, "--out", out, "--device", "cpu", "--resume").code == 0
    assert (out / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()


@pytest.mark.slow
def test_two_processes_make_one_run(toy: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for count in (1, 2):
        words = ["-m", "bitproof", "run", str(toy), "--out", str(tmp_path / str(count))]
        done = subprocess.run(
            [*torchrun, f"--nproc-per-node={count}", *words, "--device", "cpu"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=120,
        )
        assert done.stdout.count("report: ") == 1  # the leader talks, nobody else
    files = [
        sorted(path.relative_to(tmp_path / n) for path in (tmp_path / n).rglob("*")) for n in "12"
    ]
    assert files[0] == files[1]


@pytest.mark.slow
def test_two_runs_in_one_folder_exclude_each_other(call: Call, toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    edit(toy, "chips = 2", "chips = 2000")
    first = start("run", toy, "--out", out, "--device", "cpu")
    wait_for((out / "tallies.jsonl").exists, first)
    second = call("run", toy, "--out", out, "--device", "cpu", "--resume")
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert (second.code, first.returncode) == (2, 130)
    (line,) = second.problems
    assert line.startswith(f"bitproof: {out}: in use by pid {first.pid} on host ")
    assert not (out / ".lock").exists()
