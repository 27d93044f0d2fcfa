"""What tests of this folder share: processes that are watched, and what lies in directories."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

Start = Callable[..., subprocess.Popen[str]]
"""The fixture `start` of conftest.py."""


def ended(process: subprocess.Popen[str], timeout_s: float = 200) -> tuple[int, str]:
    """Return exit code and problems of a process."""
    _, err = process.communicate(timeout=timeout_s)
    return process.returncode, err


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is the case, while the process lives."""
    limit = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


def files_of(folder: Path) -> set[str]:
    """Return the names of all files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
