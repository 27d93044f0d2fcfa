import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitproof import __version__

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
ASK = """
import sys
sys.argv = ["bitproof", {words}]
from bitproof.cli import main
try:
    main()
except SystemExit as left:
    print("code", left.code, "torch" in sys.modules, "numpy" in sys.modules)
"""


@pytest.mark.parametrize("words", ["--help", "--version", "run", "run --help", "data", "nonsense"])
def test_what_needs_no_torch_does_not_import_it(words: str) -> None:
    script = ASK.format(words=", ".join(map(repr, words.split())))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    code = 0 if "--" in words else 2
    assert done.stdout.splitlines()[-1] == f"code {code} False False"


def test_version_is_that_of_the_package(call: Call) -> None:
    assert call("--version") == (0, f"bitproof {__version__}\n", "")


def test_help_tells_every_command(call: Call) -> None:
    outcome = call("--help")
    assert outcome.code == 0
    for command in ("demo", "run", "report", "figures", "describe", "models", "data"):
        assert f"\n  {command} " in outcome.out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["rum"], "No such command 'rum'. Did you mean 'run'?"),
        (["run"], "Missing argument"),
        (["run", "x.toml", "--devise", "cpu"], "No such option: --devise"),
        (["run", "x.toml", "more"], "unexpected extra argument"),
        (["run", "x.toml", "--out"], "requires an argument"),
        (["data", "fetsh", "x"], "No such command 'fetsh'. Did you mean 'fetch'?"),
    ],
)
def test_a_wrong_call_is_explained(words: list[str], problem: str, call: Call) -> None:
    outcome = call(*words)
    assert outcome.code == 2
    assert outcome.out == ""
    assert problem in outcome.problems[-1]


@pytest.mark.parametrize("words", ["--version", "--help"])
def test_an_output_without_room_is_one_line(words: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bitproof", words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, "bitproof: output: No space left on device\n")


def test_a_bug_keeps_its_traceback(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("bitproof.cli.models.list_models", bug)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        call("models")


STOP = "import signal; signal.raise_signal(signal.SIGINT)"
LATE = f"""
import sys, types
late = types.ModuleType("bitproof.cli.models")
late.check_models = None
late.list_models = lambda: exec({STOP!r})
sys.modules["bitproof.cli.models"] = late
sys.argv = ["bitproof", "models"]
from bitproof.cli import main
main()
"""


def test_ctrl_c_leaves_with_130_even_out_of_exec(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    done = subprocess.run(
        [sys.executable, tmp_path / "late.py"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "bitproof: interrupted\n")


def test_ctrl_c_is_left_to_others_who_want_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> str:
        signal.raise_signal(signal.SIGINT)
        return "went on"

    caught: list[int] = []
    monkeypatch.setattr("bitproof.cli.models.list_models", stop)
    before = signal.signal(signal.SIGINT, lambda number, _frame: caught.append(number))
    try:
        assert call("models").out == "went on\n"
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught == [signal.SIGINT]
    assert call("models").code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bitproof.cli.models.list_models", stop)
    assert call("models") == (130, "", "bitproof: interrupted\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "x.npz"), "bitproof: x.npz: Permission denied\n"),
        (OSError(28, "No space left on device"), "bitproof: output: No space left on device\n"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    error: OSError, line: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setattr("bitproof.cli.models.list_models", refuse)
    assert call("models") == (2, "", line)


def test_another_error_of_the_system_is_a_bug(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("bitproof.cli.models.list_models", fail)
    with pytest.raises(OSError, match="Invalid argument"):
        call("models")
