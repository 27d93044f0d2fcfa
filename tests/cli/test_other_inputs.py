"""Signals, volumes and feature tables of a user's own, all the way through the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitproof import attack
from bitproof.attacks import ATTACKS
from bitproof.core.directory import read_json
from bitproof.data import Dataset
from bitproof.quant import IntegerNetwork, load_network
from bitproof.stats import read_results

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
NETWORKS = """
from torch import nn

def signal(in_channels, n_classes):
    return nn.Sequential(
        nn.Conv1d(in_channels, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(4),
        nn.Flatten(), nn.Linear(16, n_classes),
    )

def volume(in_channels, n_classes):
    return nn.Sequential(
        nn.Conv3d(in_channels, 4, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(),
        nn.Linear(32, n_classes),
    )

def table(in_channels, n_classes):
    return nn.Sequential(nn.Linear(in_channels, 8), nn.ReLU(), nn.Linear(8, n_classes))
"""
SHAPES = {"signal": (3, 16), "volume": (1, 4, 4, 4), "table": (9,)}
RECIPE = """
name = "{kind}"
data = "npz:{kind}.npz"
model = "other_networks:{kind}"
variants = ["baseline", "robust"]
train = {{ epochs = 6, learning_rate = 0.05, batch_size = 16 }}
quantization = {{ calibration_images = 16 }}

[stages.robust]
kind = "desensitize"
epsilon = 0.05
steps = 1
optimization = {{ epochs = 1, batch_size = 32 }}

[evaluation]
threats = [
    {{ kind = "clean" }},
    {{ kind = "memory_faults", levels = [0.01], chips = 2 }},
    {{ kind = "adversarial_examples", levels = [0.05], images = 10, attack = {attack} }},
    {{ kind = "black_box_check", queries = 4, images = 8 }},
]
"""
ATTACK = '{ kind = "linf_pgd", epsilon = 0.05, steps = 2 }'


@pytest.fixture(
    params=[
        pytest.param(name, marks=[] if name == "table" else pytest.mark.slow) for name in SHAPES
    ]
)
def kind(request: pytest.FixtureRequest, call: Call, tmp_path: Path) -> str:
    """Lay data, networks and a recipe of one kind of input into the working directory."""
    name: str = request.param
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    inputs = rng.random((90, *SHAPES[name])) * 0.5
    # The class is how large the values of the first third, of the second or of the third are.
    flat = inputs.reshape(90, -1)
    third = flat.shape[1] // 3
    for row, label in enumerate(labels):
        flat[row, label * third : (label + 1) * third] += 0.5
    np.savez(tmp_path / f"{name}.npz", x=inputs.astype(np.float32), y=labels)
    (tmp_path / "other_networks.py").write_text(NETWORKS)
    (tmp_path / f"{name}.toml").write_text(RECIPE.format(kind=name, attack=ATTACK))
    return name


def test_a_run_and_a_campaign_go_through(kind: str, call: Call, tmp_path: Path) -> None:
    done = call("run", f"{kind}.toml", "--out", "run", "--device", "cpu")
    assert done.code == 0, done.err
    rows = read_results(Path("run/results.csv"))
    found = {(row.variant, row.threat, row.metric): row.value for row in rows}
    assert found["baseline", "clean", "acc"] > 0.8  # a network that learnt nothing shows nothing
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    network = load_network(tmp_path / "run" / "networks" / "baseline")
    test = data_of(kind, tmp_path)
    words = ("--site", "weight,activation", "--trials", "12", "--set", "injection.images=8")
    done = call("inject", "--network", "run/networks/baseline", "--data", f"npz:{kind}.npz", *words)
    assert done.code == 0, done.err
    assert read_json(tmp_path / "runs" / "inject" / "summary.json")["totals"][0]["trials"] == 12
    assert (tmp_path / "runs" / "inject" / "report.html").is_file()
    for name in sorted({*ATTACKS.kinds()} - {"autoattack"}):
        check_attack(name, network, test)


def check_attack(name: str, network: IntegerNetwork, data: Dataset) -> None:
    """Check that an attack moves inputs, stays in its ball, and finds what the network answers."""
    three = {"losses": ["cross_entropy", "dlr"]} if name == "linf_apgd" else {}  # classes
    method = ATTACKS.build({"kind": name, "epsilon": 0.2, **three})
    clean = data.inputs()
    found = attack(network, method, data)
    shift = (found - clean).flatten(1)
    size = shift.norm(dim=1) if "l2" in name else shift.abs().amax(1)
    assert found.shape == clean.shape
    assert 0 < float(size.max()) <= 0.2 * (1 + 1e-5), name
    before = (network(clean).argmax(1) == data.labels).float().mean()
    after = (network(found).argmax(1) == data.labels).float().mean()
    assert after <= before


def data_of(kind: str, folder: Path) -> Dataset:
    with np.load(folder / f"{kind}.npz") as stored:
        return Dataset.from_arrays(stored["x"][:12], stored["y"][:12], name=kind, n_classes=3)
