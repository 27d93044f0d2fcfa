"""Signals, in processes of their own that import no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

STOP = """
import os, signal, sys, time
from bitproof.cli.outcome import Finish, report_problems
from bitproof.cli.signals import Interrupt, LeaveAtOnce, handle, handled
from bitproof.core.stop_request import StopRequest
handle(LeaveAtOnce())
def send(name):
    signal.raise_signal(getattr(signal, name))
"""


def outcome(script: str, folder: Path | None = None) -> tuple[int, str, str]:
    """Return exit code, output and problems of a script."""
    done = subprocess.run(
        [sys.executable, "-c", STOP + script],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "code", "line"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")]
)
def test_a_signal_is_one_line_with_what_is_kept(name: str, code: int, line: str) -> None:
    assert outcome(f"send('{name}')") == (code, "", f"bitproof: {line}\n")
    script = f"""
with report_problems(Interrupt(lambda: "all is well")):
    try:
        send('{name}')
    finally:
        print("closed")
"""
    assert outcome(script) == (code, "closed\n", f"bitproof: {line}; all is well\n")


def test_a_signal_that_comes_during_an_import_ends_it_there(tmp_path: Path) -> None:
    (tmp_path / "careless.py").write_text("try:\n    send('SIGTERM')\nexcept BaseException: pass\n")
    script = """
import builtins
builtins.send = send
print("begun")
with report_problems():
    import careless
    print("not reached")
"""
    assert outcome(script, tmp_path) == (143, "begun\n", "bitproof: terminated\n")


def test_a_signal_is_not_lost_where_nothing_can_be_raised() -> None:
    script = """
class Late:
    def __del__(self):
        send("SIGINT")
with report_problems(Interrupt(lambda: "all is well")):
    late = Late()
    del late
    print("not reached")
"""
    assert outcome(script) == (130, "", "bitproof: interrupted; all is well\n")


def test_the_same_signal_twice_is_one_and_a_later_one_ends_all() -> None:
    script = """
with report_problems():
    try:
        send("SIGTERM")
    finally:
        send("SIGTERM")
        print("closed")
"""
    assert outcome(script) == (143, "closed\n", "bitproof: terminated\n")
    script = script.replace("    finally:", "    finally:\n        time.sleep(1.1)")
    assert outcome(script) == (143, "", "bitproof: terminated\n")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    script = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
handle(LeaveAtOnce())
with report_problems(Finish(StopRequest(), begun=lambda: True)):
    send("SIGTERM")
print("went on", signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)
"""
    assert outcome(script) == (0, "went on True\n", "")


FINISH = """
import bitproof.cli.outcome
bitproof.cli.outcome.PATIENCE_S = 0.3
stop = StopRequest()
with report_problems(Finish(stop, begun=lambda: {begun})):
    send("SIGTERM")
    print("asked", stop.requested)
    {step}
    stop.check()
print("not reached")
"""
KEPT = "bitproof: terminated; what is finished is kept, go on with --resume\n"


@pytest.mark.parametrize("step", ["pass", "time.sleep(60)"])
def test_work_ends_after_its_step_or_when_patience_does(step: str) -> None:
    assert outcome(FINISH.format(begun=True, step=step)) == (143, "asked True\n", KEPT)


def test_what_has_not_begun_ends_at_once() -> None:
    line = "bitproof: terminated; nothing was begun\n"
    assert outcome(FINISH.format(begun=False, step="pass")) == (143, "", line)


def test_ctrl_c_does_not_wait_for_the_step() -> None:
    script = FINISH.format(begun=True, step="pass").replace("SIGTERM", "SIGINT")
    kept = KEPT.replace("terminated", "interrupted")
    assert outcome(script) == (130, "", kept)


def test_the_signals_come_before_everything_else() -> None:
    script = "print(len({'typer', 'pydantic', 'numpy', 'torch', 'ast'} & {*sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, bitproof.__main__; {script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0\n"
