"""`bitproof analyze`: what it prints and keeps, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bitproof.core.files import write_text
from bitproof.core.rng import make_generator
from bitproof.data import DATA
from bitproof.models.digits_cnn import DigitsCNN
from bitproof.quant import quantize, save_network
from bitproof.recipe.analysis import losses_of
from bitproof.report.run import Facts, Run
from bitproof.report.run_page import write_report
from bitproof.stats import Row
from bitproof.stats.threats import ThreatLabel
from bitproof.train import Optimization, train_

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with five networks on digits; weights of the last are all zero but biases."""
    train = DATA.build({"kind": "digits"}).load(None).train
    folder = tmp_path_factory.mktemp("nets")
    for number in range(5):
        model: nn.Module = DigitsCNN(width=8).build(
            in_channels=1, image_size=8, n_classes=10, generator=make_generator(number)
        )
        optimization = Optimization(epochs=3, learning_rate=0.1, weight_decay=1e-3 * number)
        train_(model, train, optimization, generator=make_generator(1))
        save_network(quantize(model.eval(), train.inputs(slice(64))), folder / f"net{number}")
    return folder


def test_steps_alone(call: Call, nets: Path) -> None:
    outcome = call("analyze", nets / "net0", nets / "net1", "--data", "digits")
    assert outcome.code == 0
    assert "Geometric means over layers" in outcome.out
    assert "net1: product" in outcome.out
    assert "rank correlation" not in outcome.out


@pytest.mark.slow
def test_failure_rates_and_their_correlation(call: Call, nets: Path, tmp_path: Path) -> None:
    kept = tmp_path / "analysis.json"
    names = [nets / f"net{number}" for number in range(5)]
    options = ("--data", "digits", "--trials", 8, "--images", 8, "--json", kept)
    outcome = call("analyze", *names, *options)
    assert outcome.code == 0
    content = json.loads(kept.read_text())
    assert [each["name"] for each in content["networks"]] == [f"net{n}" for n in range(5)]
    layers = [layer["layer"] for layer in content["networks"][0]["layers"]]
    assert list(content["networks"][0]["failures"]) == layers
    over = {each["over"]: each["n"] for each in content["correlations"]}
    assert over["layers"] == 5 * len(layers)
    assert over["networks"] == 5
    lines = [line for line in outcome.out.splitlines() if line.startswith("rank correlation")]
    assert len(lines) == len(content["correlations"])
    again = tmp_path / "again.json"
    call("analyze", *names, *options[:-1], again)
    assert again.read_text() == kept.read_text()


def test_a_run_keeps_it_and_its_report_shows_it(call: Call, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    assert "Scaling factors" not in (run / "report.html").read_text()
    assert call("analyze", run).code == 0
    write_report(run)
    assert "Scaling factors" in (run / "report.html").read_text()
    write_text(run / "analysis.json", '{"networks": [{"name": 3}]}')
    write_report(run)  # what is something else is passed over
    assert "Scaling factors" not in (run / "report.html").read_text()


def test_losses_are_shares_of_clean_accuracy_at_the_widest_level() -> None:
    label = ThreatLabel("memory_fault", "Flips", "BER")
    facts = Facts.model_validate(
        {
            "schema": 1,
            "threats": {"flips": asdict(label), "pgd": asdict(ThreatLabel("input_attack"))},
        }
    )
    accs = {("a", 0.1): 0.8, ("a", 0.2): 0.4, ("b", 0.1): 0.9, ("b", 0.2): 0.9}
    rows = [Row(name, "clean", 0.0, "acc", 0.8 if name == "a" else 0.9) for name in "ab"]
    rows += [Row(name, "flips", level, "acc", acc) for (name, level), acc in accs.items()]
    rows += [Row("a", "flips", 0.2, "acc_min", 0.1), Row("a", "pgd", 0.1, "acc", 0.1)]
    found = losses_of(Run(facts, tuple(rows), None, {}))
    assert found == {"flips 0.2": {"a": pytest.approx(0.5), "b": pytest.approx(0.0)}}


def test_networks_of_other_data_are_refused(call: Call, nets: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "networks").mkdir(parents=True)
    assert call("analyze", run).code == 2
    assert call("analyze", nets / "nothing", "--data", "digits").code == 2
    small = nets.parent / "small"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    save_network(quantize(model, torch.rand(4, 1, 8, 8)), small)
    outcome = call("analyze", small, "--data", "digits")
    assert outcome.code == 2
    assert "wanted a network for digits (10 classes), this one answers 3" in outcome.err
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 10)).eval()
    save_network(quantize(model, torch.rand(4, 1, 3, 3)), small)
    for command in ("analyze", "flip"):
        outcome = call(command, small, "--data", "digits")
        assert outcome.code == 2
        assert "wanted a network for digits (images of 1 x 8 x 8)" in outcome.err
    outcome = call("inject", "--network", small, "--data", "digits", "--out", tmp_path / "c")
    assert outcome.code == 2
    assert "this one takes others" in outcome.err
    outcome = call("analyze", nets / "net0")
    assert outcome.code == 2
    assert "wanted a data set" in outcome.err
