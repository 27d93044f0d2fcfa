"""Campaigns on tasks other than a classification, end to end, and what they refuse to begin."""

import csv
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import DataError, SpecError
from bitproof.data import Dataset
from bitproof.faults.ecc import Secded
from bitproof.faults.kinds import Burst
from bitproof.faults.table import FaultTable
from bitproof.injection import FaultGroup, Injection
from bitproof.injection.engine import Engine
from bitproof.metrics import (
    OUTCOMES,
    Binary,
    Classification,
    Regression,
    Segmentation,
    Sequence,
    Task,
)
from bitproof.quant import IntegerNetwork, quantize
from bitproof.recipe import inject
from bitproof.report import read_summary
from bitproof.stats.stopping import FixedLooks

IMAGES = 12


class SmallUNet(nn.Module):
    """Down, up and a skip."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1, 6, 3, padding=1)
        self.down = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.bottom = nn.Conv2d(8, 6, 3, padding=1)
        self.leave = nn.Conv2d(12, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.enter(x).relu()
        deep = self.bottom(self.down(skip).relu()).relu()
        n, c, h, w = deep.shape
        wide = deep[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)
        found: Tensor = self.leave(torch.cat([skip, wide], 1))
        return found


class Tagger(nn.Module):
    """A class for every place of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.places(x)
        return found


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(IMAGES, *shape, generator=torch.Generator().manual_seed(seed))


def made(model: nn.Module, inputs: Tensor, scale: float = 0.5) -> IntegerNetwork:
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * scale
    return quantize(model.eval(), inputs)


def labels_near(network: IntegerNetwork, inputs: Tensor) -> Tensor:
    """Return the network's own numbers, somewhat off."""
    outputs = network(inputs)
    return outputs + 0.2 * outputs.std() * images(*outputs.shape[1:], seed=5)


def segmentation() -> tuple[IntegerNetwork, Dataset]:
    inputs = images(1, 8, 8)
    network = made(SmallUNet(), inputs)
    masks = network(inputs).argmax(1)
    masks[:, 0] = -100
    masks[:, 4, :4] = (masks[:, 4, :4] + 1) % 3
    return network, Dataset.from_arrays(inputs, masks, n_classes=3)


def sequence() -> tuple[IntegerNetwork, Dataset]:
    inputs = images(6, 5)
    network = made(Tagger(), inputs)
    return network, Dataset.from_arrays(inputs, network(inputs).argmax(2))


def dense(outputs: int, *end: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(7, 10), nn.ReLU(), nn.Linear(10, outputs), *end)


def regression() -> tuple[IntegerNetwork, Dataset]:
    inputs = images(7)
    network = made(dense(2), inputs)
    return network, Dataset.from_arrays(inputs, labels_near(network, inputs))


def binary() -> tuple[IntegerNetwork, Dataset]:
    inputs = images(7)
    network = made(dense(1), inputs)
    outputs = network(inputs)
    network_labels = (outputs[:, 0] > 0).long()
    network_labels[0] = 1 - network_labels[0]
    return network, Dataset.from_arrays(inputs, network_labels, n_classes=2)


MAKERS: dict[str, tuple[Callable[[], tuple[IntegerNetwork, Dataset]], Task]] = {
    "segmentation": (segmentation, Segmentation(tolerance=0.05)),
    "sequence": (sequence, Sequence()),
    "regression": (regression, Regression(tolerance=0.3)),
    "binary": (binary, Binary()),
}


@pytest.fixture(params=MAKERS)
def case(request: pytest.FixtureRequest) -> tuple[IntegerNetwork, Dataset, Task]:
    make, task = MAKERS[request.param]
    return *make(), task


def test_counts_equal_those_of_running_every_fault_in_full(
    case: tuple[IntegerNetwork, Dataset, Task],
) -> None:
    network, data, task = case
    engine = Engine(network, data.inputs(), data.labels, task=task)
    weights = {n.removesuffix(".weight"): t for n, t in network.tensors.items() if "weight" in n}
    places = [
        (layer, element)
        for layer, tensor in weights.items()
        for element in range(0, tensor.codes.numel(), max(tensor.codes.numel() // 6, 1))
    ]
    rows: list[Any] = [
        (trial, "weight", layer, element, -1, bit, "flip")
        for trial, ((layer, element), bit) in enumerate(product(places, (7, 6)))
    ]
    faults = FaultTable.from_rows(rows)
    found = engine.run(faults, list(range(len(rows))))
    golden = network(data.inputs())
    for trial, counts in enumerate(found):
        outputs = engine.reference(faults, trial)
        wanted = [
            *task.judge(outputs, golden, data.labels).sum(0).tolist(),
            *task.counts(outputs, data.labels).sum(0).tolist(),
        ]
        assert counts.tolist() == wanted
    assert (found[:, 1] > 0).any()


def test_segmentation_campaign_has_a_layer_table_and_miou(tmp_path: Path) -> None:
    network, data = segmentation()
    told: list[str] = []

    class Said:
        def say(self, line: str) -> None:
            told.append(line)

        def track(self, items: Any, **_facts: Any) -> Any:
            return items

    out = tmp_path / "campaign"
    injection = Injection(trials=40, images=IMAGES)
    summary = inject(network, data, injection, out=out, progress=Said())
    assert told[0].startswith("task: segmentation (3 classes, 8 x 8 pixels; SDC-1: over 1 %")
    assert summary["outcomes"] == ["masked", "sdc1", "sdc10", "sdc20", "due"]
    assert summary["campaign"]["task"]["kind"] == "segmentation"
    assert [row["layer"] for row in summary["layers"]] == ["enter", "down", "bottom", "leave"]
    (total,) = summary["totals"]
    low, value, high = total["metrics"]["miou"]
    assert 0 < low < value < high <= 1
    golden = summary["campaign"]["golden"]["miou"]
    assert value <= golden
    assert total["rates"]["sdc20"][1] <= total["rates"]["sdc10"][1] <= total["rates"]["sdc1"][1]
    assert summary["campaign"]["golden_acc"][1] == pytest.approx(1 - 4 / 56)
    assert read_summary(out).totals[0].metrics["miou"].value == pytest.approx(value)
    with (out / "results.csv").open() as file:
        written = {row["outcome"] for row in csv.DictReader(file)}
    assert {"miou", "exact", "sdc1"} <= written
    assert "sdc5" not in written
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "More than 1 % of the pixels are given another class." in page
    assert "segmentation (" in page
    assert "SDC-5" not in page


def test_interval_of_pixel_accuracy_is_between_images() -> None:
    network, data = segmentation()
    low, value, high = inject(network, data, Injection(trials=10, images=IMAGES))["campaign"][
        "golden_acc"
    ]
    pixels = 56 * IMAGES
    assert high - low > 2 * 1.96 * (value * (1 - value) / pixels) ** 0.5


def test_regression_campaign_counts_moves_beyond_the_tolerance() -> None:
    network, data = regression()
    wide, narrow = (
        inject(network, data, Injection(trials=80, images=IMAGES), task=Regression(tolerance=t))
        for t in (50.0, 0.02)
    )
    assert narrow["outcomes"] == ["masked", "sdc1", "sdc10", "sdc20", "due"]
    rates = [one["totals"][0]["rates"]["sdc1"][1] for one in (wide, narrow)]
    assert rates[0] < rates[1]
    assert wide["campaign"]["task"] == {"kind": "regression", "tolerance": 50.0}
    assert wide["campaign"]["golden_acc"][1] == 1.0


def test_binary_network_with_one_output_has_its_accuracy() -> None:
    network, data = binary()
    summary = inject(network, data, Injection(trials=20, images=IMAGES))
    assert summary["campaign"]["golden_acc"][1] == pytest.approx(1 - 1 / IMAGES)
    assert summary["campaign"]["task"]["kind"] == "binary"


def test_network_that_ends_in_a_softmax_is_read_as_probabilities() -> None:
    inputs = images(7)
    network = made(dense(4, nn.Softmax(dim=1)), inputs, scale=0.35)
    data = Dataset.from_arrays(inputs, network(inputs).argmax(1), n_classes=4)
    injection = Injection(trials=200, images=IMAGES)
    summary = inject(network, data, injection)
    assert summary["campaign"]["task"] == {"kind": "classification", "probabilities": True}
    again = inject(network, data, injection, task=Classification(probabilities=False))
    rates, softened = (one["totals"][0]["rates"]["sdc10"][1] for one in (summary, again))
    assert rates > softened


def first_is_low(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs[:, 0] < outputs[:, 1]) == (labels > 0)


def test_own_judgement_leaves_out_what_it_cannot_tell() -> None:
    inputs = images(7)
    network = made(dense(3), inputs)
    data = Dataset.from_arrays(inputs, torch.arange(IMAGES) % 3)
    summary = inject(network, data, Injection(trials=30, images=IMAGES), task=first_is_low)
    assert summary["outcomes"] == ["masked", "sdc1", "due"]
    right = first_is_low(network(inputs), data.labels).double().mean()
    assert summary["campaign"]["golden_acc"][1] == pytest.approx(float(right))


def test_classification_keeps_its_plan_and_columns(tmp_path: Path) -> None:
    inputs = images(7)
    network = made(dense(3), inputs)
    data = Dataset.from_arrays(inputs, torch.arange(IMAGES) % 3)
    summary = inject(network, data, Injection(trials=20, images=IMAGES), out=tmp_path / "c")
    assert "task" not in summary["campaign"]
    assert '"task"' not in (tmp_path / "c" / "plan.json").read_text()
    assert summary["outcomes"] == list(OUTCOMES)


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        (torch.arange(IMAGES) % 5, None, "wants labels from 0 to 2, as there are outputs"),
        (torch.arange(IMAGES) % 2, Binary(), "task 'binary' wants one output an image"),
        (images(2), None, "wanted outputs and labels of a task"),
    ],
)
def test_wrong_labels_are_refused_before_anything_is_written(
    tmp_path: Path, labels: Tensor, task: Task | None, message: str
) -> None:
    inputs = images(7)
    network = made(dense(3), inputs)
    with pytest.raises(DataError, match=message):
        inject(network, Dataset.from_arrays(inputs, labels), task=task, out=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_stop_rule_cannot_watch_what_is_not_counted(tmp_path: Path) -> None:
    network, data = regression()
    injection = Injection(trials=20, images=4, stop=FixedLooks(margin=0.05), stop_on="sdc5")
    with pytest.raises(SpecError, match="stop_on: wanted an outcome of task 'regression'"):
        inject(network, data, injection, out=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_only_correct_takes_images_that_are_exact() -> None:
    network, data = sequence()
    spoilt = data.labels.clone()
    spoilt[::2, 0] = (spoilt[::2, 0] + 1) % 4
    data = Dataset.from_arrays(data.images, spoilt, n_classes=4)
    injection = Injection(trials=8, images=IMAGES // 2, only_correct=True)
    assert inject(network, data, injection)["campaign"]["golden_acc"][1] == 1.0
    with pytest.raises(SpecError, match="that the network gets right"):
        inject(network, data, Injection(trials=8, images=IMAGES // 2 + 1, only_correct=True))


def test_a_detected_error_makes_every_part_of_an_answer_wrong() -> None:
    network, data = segmentation()
    doubled = FaultGroup(sites=("weight",), kind=Burst(length=2))
    injection = Injection(faults=(doubled,), trials=12, images=4, protections=(Secded(),))
    (total,) = inject(network, data, injection)["totals"]
    assert total["rates"]["due"][1] == 1.0
    assert (total["acc"][1], total["metrics"]["miou"][1], total["metrics"]["exact"][1]) == (0, 0, 0)
