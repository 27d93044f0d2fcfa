"""The recipes of a toy run, a campaign and a search, and processes that work at them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TOY = Path(__file__).parents[1] / "recipe" / "toy.toml"
CAMPAIGN = """
recipe = 1
name = "toy-campaign"
model = { kind = "digits_cnn", width = 4 }

[data]
kind = "digits"
train_size = 128
test_size = 40

[quantization]
calibration_images = 32

[injection]
trials = 60
images = 4
"""
SEARCH = """
recipe = 1
name = "toy-search"
model = { kind = "digits_cnn", width = 4 }

[data]
kind = "digits"

[train]
epochs = 1
learning_rate = 0.1

[quantization]
activation_signed = true
activation_symmetric = true
weight = { kind = "affine", symmetric = true, signed = true }

[recover.retrain]
kind = "approximation_aware"
optimization = { epochs = 1, images_per_epoch = 32, learning_rate = 0.01 }

[multipliers]
exact = { kind = "exact", signed = true }
mild = { kind = "truncated", columns = 5, signed = true }

[exploration]
costs = "costs.csv"
images = 40
profile_images = 32
check = 4
goal = { minimize = { power = 1.0 }, max_drop = 0.9 }

[[exploration.evaluation.threats]]
kind = "clean"

[[exploration.searches]]
kind = "hawx"
budget = 6
"""
COSTS = """name,area_um2,power_mw,delay_ns
exact,700,0.4,1.5
mild,500,0.3,1.4
"""


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
