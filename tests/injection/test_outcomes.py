"""What single faults are said to have done, beside what a network with that word does."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bitproof.core.errors import DataError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.faults import FaultTable
from bitproof.faults.word_faults import read_words
from bitproof.injection import FaultGroup, Injection, carry_out_campaign, prepare_campaign
from bitproof.injection.outcomes import _words, rows_of, worst_faults
from bitproof.injection.read_outcomes import read_outcomes, read_trials
from bitproof.quant import AffineQuantizer, IntegerNetwork, Scheme, quantize
from bitproof.quant.grid import CodedTensor

IMAGES = 12


@pytest.fixture(scope="module")
def data() -> Dataset:
    images = torch.rand(48, 1, 5, 5, generator=make_generator(0, "images"))
    return Dataset("noise", images, torch.arange(48) % 3, 3)


@pytest.fixture(scope="module")
def network(data: Dataset) -> IntegerNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)).eval()
    weight = AffineQuantizer(bits=5, symmetric=True, signed=True, per_channel=True)
    return quantize(net, data.inputs(), Scheme(weight=weight, bias=None))


@pytest.fixture(scope="module")
def campaign(
    data: Dataset, network: IntegerNetwork, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("outcomes") / "c"
    groups = (FaultGroup(sites=("weight", "bias")), FaultGroup(sites=("activation",)))
    return run(folder, network, data, Injection(faults=groups, trials=40, images=IMAGES))


def run(folder: Path, network: IntegerNetwork, data: Dataset, injection: Injection) -> Path:
    """Carry out a campaign without its report."""
    prepare_campaign(folder, network, injection, data)
    carry_out_campaign(folder)
    return folder


def with_word(network: IntegerNetwork, row: dict[str, Any]) -> tuple[IntegerNetwork, float, float]:
    """Return the network with one bit of one stored word flipped, and both values of the word."""
    name = f"{row['layer']}.{row['site']}"
    stored = network.tensors[name]
    changed = stored.codes.clone().flatten()
    width = stored.grid.bits
    code = int(changed[row["element"]]) & ((1 << width) - 1)
    code ^= 1 << row["bit"]
    if stored.grid.signed and code >> (width - 1):
        code -= 1 << width
    changed[row["element"]] = code
    tensor = CodedTensor(changed.reshape(stored.codes.shape), stored.grid)
    values = [float(one.values().flatten()[row["element"]]) for one in (stored, tensor)]
    return replace(network, tensors={**network.tensors, name: tensor}), values[0], values[1]


def test_every_fault_did_what_a_network_with_that_word_does(
    campaign: Path, network: IntegerNetwork, data: Dataset
) -> None:
    images, labels = data.inputs(slice(0, IMAGES)), data.labels[:IMAGES]
    golden = network(images)
    right = float((golden.argmax(1) == labels).float().mean())
    rows = rows_of(read_outcomes(campaign))
    assert len(rows) == 80
    stored = [row for row in rows if row["site"] != "activation"]
    assert all(row["before"] is None for row in rows if row["site"] == "activation")
    for row in stored:
        broken, before, after = with_word(network, row)
        logits = broken(images)
        assert row["before"] == pytest.approx(before, rel=1e-5)
        assert row["after"] == pytest.approx(after, rel=1e-5)
        assert row["sdc1"] == int((logits.argmax(1) != golden.argmax(1)).sum())
        assert row["masked"] == int((logits == golden).all(1).sum())
        acc = float((logits.argmax(1) == labels).float().mean())
        assert (row["acc"], row["acc_lost"]) == (pytest.approx(acc), pytest.approx(right - acc))
        if row["sdc1"]:
            assert row["outcome"] in {"sdc1", "sdc5"}
        if row["masked"] == IMAGES:
            assert row["outcome"] == "masked"


def test_the_worst_are_those_that_change_most(campaign: Path) -> None:
    outcomes = read_outcomes(campaign)
    worst = worst_faults(outcomes, 7)
    changed = [row["sdc1"] for row in worst]
    assert changed == sorted(outcomes["sdc1"].tolist(), reverse=True)[: len(worst)]
    assert all(row["outcome"] not in {"masked", "harmless"} for row in worst)


def test_answers_that_a_detected_fault_leaves_out_are_changed_ones() -> None:
    columns = {
        "trial": np.arange(4),
        "outcome": np.array(["sdc1", "due", "sdc1", "harmless"]),
        "sdc1": np.array([1, 0, 5, 0]),
        "due": np.array([0, 32, 0, 0]),
        "acc_lost": np.array([-0.1, 0.9, 0.1, 0.0]),
    }
    assert [row["trial"] for row in worst_faults(columns)] == [1, 2, 0]


def test_words_of_many_faults_are_those_that_are_read(network: IntegerNetwork) -> None:
    random = np.random.default_rng(0)
    words = network.codes("weight", "bias")
    layers = ["0", "3"]
    rows = []
    for trial in range(60):
        for _ in range(int(random.integers(1, 5))):
            layer, site = layers[random.integers(2)], ("weight", "bias")[random.integers(2)]
            codes, bits = words[f"{layer}.{site}"]
            element = int(random.integers(min(3, codes.numel())))
            action = ("flip", "stuck0", "stuck1")[random.integers(3)]
            rows.append((trial, site, layer, element, -1, int(random.integers(bits)), action))
    table = FaultTable.from_rows(rows)
    _, after = _words(table, network)
    for number, row in enumerate(table.rows()):
        read = read_words(words, table.of_trial(row[0]))[f"{row[2]}.{row[1]}"]
        grid = network.tensors[f"{row[2]}.{row[1]}"].grid
        assert after[number] == pytest.approx(float(grid.decode(read).flatten()[row[3]]), rel=1e-5)


def test_protections_are_told(network: IntegerNetwork, data: Dataset, tmp_path: Path) -> None:
    settings = {"trials": 30, "images": IMAGES, "protections": ({"kind": "secded"},)}
    group = FaultGroup(sites=("weight",), count=2)
    run(tmp_path / "c", network, data, Injection(faults=(group,), **settings))
    rows = rows_of(read_outcomes(tmp_path / "c"))
    assert len(rows) == 60
    assert {row["protection"] for row in rows} <= {"corrected", "detected"}
    for row in rows:
        if row["protection"] == "corrected":
            assert row["outcome"] == "masked"
        else:
            assert (row["outcome"], row["due"]) == ("due", IMAGES)


def test_damaged_and_missing_parts_are_refused(campaign: Path, tmp_path: Path) -> None:
    copy = tmp_path / "c"
    shutil.copytree(campaign, copy)
    part = min((copy / "parts").glob("part-*"))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(DataError, match="part-00000"):
        read_trials(copy)
    for each in (copy / "parts").glob("part-*"):
        each.unlink()
    with pytest.raises(DataError, match="it has none"):
        read_trials(copy)
    with pytest.raises(DataError, match="holds no campaign"):
        read_outcomes(tmp_path)
