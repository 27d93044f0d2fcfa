import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import gethostname

import pytest

from bitproof.core.errors import ResumeError, StorageError
from bitproof.core.lock import claim, hold

Holder = Callable[..., "subprocess.Popen[str]"]
Shard = tuple[int, int] | None

HOLDER = """
import subprocess, sys
from pathlib import Path
from bitproof.core.lock import claim

with claim(Path(sys.argv[1]), shard=eval(sys.argv[2])):
    child = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    sys.stdin.readline()
    child.kill()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    """Return what starts a process that holds the folder, and a program started meanwhile."""
    with ExitStack() as stack:

        def start(shard: Shard = None) -> "subprocess.Popen[str]":
            command = [sys.executable, "-c", HOLDER, str(tmp_path), repr(shard)]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
            stack.enter_context(process)
            assert process.stdout
            child = int(process.stdout.readline())
            stack.callback(kill, child)
            stack.callback(process.kill)
            return process

        yield start


def kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return


def enter(folder: Path, shard: Shard = None) -> None:
    with claim(folder, shard=shard):
        pass


def test_a_second_run_is_refused_and_the_first_goes_on(tmp_path: Path, holder: Holder) -> None:
    first = holder()
    with pytest.raises(ResumeError, match=r"wait for its end, stop it, or .* --out") as caught:
        enter(tmp_path)
    assert f"in use by pid {first.pid} on host {gethostname()} since 20" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert first.poll() is None
    first.communicate("end\n")
    assert first.returncode == 0
    enter(tmp_path)


def test_a_killed_run_releases_the_folder(tmp_path: Path, holder: Holder) -> None:
    first = holder()
    first.kill()
    first.wait()
    enter(tmp_path)  # although the program that it started still runs
    enter(tmp_path, (1, 2))


@pytest.mark.parametrize(
    ("first", "second"), [(None, (1, 4)), ((1, 4), None), ((1, 4), (1, 4)), (None, None)]
)
def test_runs_that_exclude_each_other(tmp_path: Path, first: Shard, second: Shard) -> None:
    with claim(tmp_path, shard=first):
        with pytest.raises(ResumeError, match=f"in use by pid {os.getpid()} on host"):
            enter(tmp_path, second)
        with pytest.raises(ResumeError):  # the first refusal released nothing
            enter(tmp_path, second)
    enter(tmp_path, second)


def test_shards_run_beside_each_other(tmp_path: Path) -> None:
    with claim(tmp_path, shard=(1, 5)), claim(tmp_path, shard=(2, 5)):
        with pytest.raises(ResumeError, match=r"\(shard 1 of 5\), pid \d+ on host .* \(shard 2"):
            enter(tmp_path)
        with (
            claim(tmp_path, shard=(3, 5)),
            claim(tmp_path, shard=(4, 5)),
            pytest.raises(ResumeError, match=r"\(shard 3 of 5\) and others;"),
        ):
            enter(tmp_path)
    enter(tmp_path)


def test_a_refused_shard_leaves_no_lock(tmp_path: Path) -> None:
    with claim(tmp_path, shard=(1, 2)), pytest.raises(ResumeError):
        enter(tmp_path, (1, 2))
    enter(tmp_path)


def test_the_dead_are_not_blamed(tmp_path: Path, holder: Holder) -> None:
    for shard in (None, (1, 3), (2, 3)):
        process = holder(shard)
        process.kill()
        process.wait()
    with claim(tmp_path, shard=(3, 3)), pytest.raises(ResumeError) as caught:
        enter(tmp_path)
    assert re.findall(r"pid (\d+)", str(caught.value)) == [str(os.getpid())]


def test_a_lock_without_a_name_still_holds(tmp_path: Path) -> None:
    for text in (b"", b"\xff\xfe", b"99999999999999999999 x", b"a b c"):
        with claim(tmp_path, shard=None):
            (tmp_path / ".lock").write_bytes(text)
            with pytest.raises(ResumeError, match="in use by"):
                enter(tmp_path)


def test_an_error_releases_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), claim(tmp_path, shard=None):
        raise KeyError
    enter(tmp_path)
    assert (tmp_path / ".lock").read_bytes() == b""


@pytest.mark.parametrize("now", [0.0, 4e9])
def test_clocks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    with claim(tmp_path, shard=None):
        for name in ("time", "monotonic"):
            monkeypatch.setattr(time, name, lambda: now)
        for path in tmp_path.iterdir():
            os.utime(path, (now, now))
        with pytest.raises(ResumeError):
            enter(tmp_path)
    for path in tmp_path.iterdir():
        os.utime(path, (now, now))
    enter(tmp_path)
    enter(tmp_path, (1, 2))


def test_a_folder_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file: cannot lock \((Not a directory|File exists)"):
        enter(tmp_path / "file")
    (tmp_path / "odd" / ".lock").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"cannot lock \(Is a directory"):
        enter(tmp_path / "odd")
    with pytest.raises(StorageError, match="cannot lock"), hold(tmp_path / "odd" / ".lock"):
        pass


def test_errors_of_the_run_pass_unchanged(tmp_path: Path) -> None:
    for error in (OSError(5, "disk"), BlockingIOError(11, "pipe")):
        with pytest.raises(OSError, match=r"disk|pipe") as caught, claim(tmp_path, shard=None):
            raise error
        assert caught.value is error


def test_a_lock_file_that_its_holder_removes_is_made_anew(tmp_path: Path) -> None:
    with claim(tmp_path, shard=None):
        waiting = os.open(tmp_path / ".lock", os.O_RDWR)
        (tmp_path / ".lock").unlink()
    os.close(waiting)
    with claim(tmp_path, shard=None), pytest.raises(ResumeError, match="in use by pid"):
        enter(tmp_path)
