"""A recipe's own modules lie beside it, wherever the command is given and whoever computes."""

import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """
name = "own"
model = "own_net:make"
variants = ["float", "baseline"]
task = { kind = "own", function = "own_judge:right" }

[data]
kind = "digits"
train_size = 64
test_size = 20

[train]
epochs = 1
learning_rate = 0.05

[quantization]
calibration_images = 32

[[evaluation.threats]]
kind = "clean"

[[evaluation.threats]]
kind = "memory_faults"
levels = [1e-2]
chips = 2
images = 20
"""
NET = """
from torch import nn
from own_layers import HIDDEN

def make(image_size, n_classes):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(image_size**2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, n_classes)
    )
"""
JUDGE = "def right(outputs, labels):\n    return outputs.argmax(1) == labels\n"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (folder / "own.toml").write_text(RECIPE)
    (folder / "own_net.py").write_text(NET)
    (folder / "own_layers.py").write_text("HIDDEN = 8\n")
    (folder / "own_judge.py").write_text(JUDGE)
    return folder / "own.toml"


@pytest.mark.slow
def test_workers_and_resumed_runs_find_it_as_well(recipe: Path) -> None:
    def bitproof(*words: str) -> str:
        command = [sys.executable, "-m", "bitproof", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    words = ("run", str(recipe), "--out", "run", "--device", "cpu")
    bitproof(*words, "--workers", "2")
    found = Path("run/results.csv").read_bytes()
    assert b"random_flips" in found
    Path("run/results.csv").unlink()
    Path("run/tallies.jsonl").unlink()
    bitproof(*words, "--workers", "2", "--resume")
    assert Path("run/results.csv").read_bytes() == found
    assert "baseline" in bitproof("analyze", "run")
