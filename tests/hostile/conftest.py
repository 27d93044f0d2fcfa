"""Recipes in a folder, and processes that work at them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile.recipes import CAMPAIGN, COSTS, SEARCH, TOY


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """Return a folder with the three recipes."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "run.toml").write_text(TOY.read_text())
    (folder / "inject.toml").write_text(CAMPAIGN)
    (folder / "explore.toml").write_text(SEARCH)
    (folder / "costs.csv").write_text(COSTS)
    return folder


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts `bitproof WORDS...` in a process group of its own."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "bitproof", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
