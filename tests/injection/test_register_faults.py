"""Faults in registers as a threat: the trials of a campaign, one by one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from bitproof.approx import Drum, with_multipliers
from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.evaluation import Evaluation, FloatModel, IntegerModel, TallyStore
from bitproof.faults import StuckAt
from bitproof.faults.systolic import SystolicArray
from bitproof.injection import (
    FaultGroup,
    Injection,
    RegisterFaults,
    prepare_campaign,
    register_faults,
)
from bitproof.injection.engine import Engine
from bitproof.injection.worker import Worker
from bitproof.metrics import Segmentation, Tally
from bitproof.quant import IntegerNetwork, quantize
from bitproof.stats.clusters import cluster_rate

ARRAY = SystolicArray(rows=3, columns=2)
SEED = 7
TRANSIENT = RegisterFaults(trials=24, images=12, array=ARRAY)
PERMANENT = RegisterFaults(faults="permanent", trials=21, images=12, array=ARRAY)


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(16, 6)),
        )
    return quantize(model.eval(), drawn())


def drawn() -> torch.Tensor:
    return torch.rand(20, 2, 4, 4, generator=make_generator(0, "images"))


@pytest.fixture(scope="module")
def data(network: IntegerNetwork) -> Dataset:
    labels = network(drawn()).argmax(1)
    labels[::3] = (labels[::3] + 1) % 6
    return Dataset("points", drawn(), labels, 6)


def counts(threat: RegisterFaults, network: IntegerNetwork, data: Dataset) -> list[Tally]:
    model = IntegerModel(network)
    return [
        threat.measure(model, data, level=level, trial=trial, seed=SEED)
        for level, trial in threat.tasks(data)
    ]


@pytest.mark.parametrize("threat", [TRANSIENT, PERMANENT], ids=lambda one: one.faults)
def test_counts_are_those_of_a_campaign_with_the_same_seed(
    threat: RegisterFaults, network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    kinds = [StuckAt(value=0), StuckAt(value=1)]
    groups = [{"sites": ("systolic",)}]
    if threat.faults == "permanent":
        groups = [{"sites": ("systolic",), "kind": kind} for kind in kinds]  # type: ignore[dict-item]
    injection = Injection(
        faults=tuple(FaultGroup.model_validate(group) for group in groups),
        trials=-(-threat.trials // len(groups)),
        images=12,
        array=ARRAY,
        seed=SEED,
    )
    prepare_campaign(tmp_path, network, injection, data)
    worker = Worker(tmp_path)
    columns = [worker.run(chunk) for chunk in range(len(worker.chunks))]
    by_trial = {
        int(trial): (int(right), int(sdc1), int(sdc5))
        for part in columns
        for trial, right, sdc1, sdc5 in zip(
            *(part[name] for name in ("trial", "correct", "sdc1", "sdc5")), strict=True
        )
    }
    found = counts(threat, network, data)
    assert len(found) == threat.trials
    for trial, tally in enumerate(found):
        right, sdc1, sdc5 = by_trial[trial]
        assert tally == Tally(right, 12, (("sdc1", sdc1), ("sdc5", sdc5)))
    assert len({tally.correct for tally in found}) > 1
    if threat.faults == "permanent":
        halves = [worker.faults.of_trial(trial).action for trial in range(worker.plan.n_trials)]
        held = [{*half.tolist()} for half in halves]
        assert all(len(one) == 1 for one in held)
        assert len({*map(frozenset, held[:11])}) == len({*map(frozenset, held[11:])}) == 1
        assert held[0] != held[11]


@pytest.mark.parametrize("threat", [TRANSIENT, PERMANENT], ids=lambda one: one.faults)
def test_counts_are_those_of_executing_everything_again(
    threat: RegisterFaults, network: IntegerNetwork, data: Dataset
) -> None:
    images = data.first(12)
    (engine,), faults = threat._prepare(network, images, SEED)
    assert isinstance(engine, Engine)
    golden = network(images.inputs())
    for trial, tally in enumerate(counts(threat, network, data)):
        logits = engine.reference(faults, trial)
        assert tally.correct == int((logits.argmax(1) == images.labels).sum())
        assert dict(tally.others)["sdc1"] == int((logits.argmax(1) != golden.argmax(1)).sum())


def test_images_are_taken_in_pieces(
    network: IntegerNetwork, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = counts(TRANSIENT, network, data)
    register_faults._PREPARED.clear()
    monkeypatch.setattr(register_faults, "IMAGES_AT_ONCE", 5)
    assert counts(TRANSIENT, network, data) == whole
    (prepared,) = register_faults._PREPARED.values()
    assert [len(engine.labels) for engine in prepared[0]] == [5, 5, 2]


def test_other_images_seeds_and_networks_are_not_confused(
    network: IntegerNetwork, data: Dataset
) -> None:
    model = IntegerModel(network)
    moved = Dataset("moved", data.images.flip(0), data.labels.flip(0), 6)
    other = quantize_other()

    def found(model: IntegerModel, data: Dataset, seed: int) -> list[Tally]:
        return [PERMANENT.measure(model, data, level=0.0, trial=n, seed=seed) for n in range(9)]

    arguments = [(model, data, 0), (model, data, 1), (model, moved, 0), (other, data, 0)]
    first = [found(*each) for each in arguments]
    assert [found(*each) for each in reversed(arguments)] == first[::-1]
    assert all(one != first[0] for one in first[1:])
    assert len(register_faults._PREPARED) == register_faults.KEPT


def quantize_other() -> IntegerModel:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(32, 6)).eval()
    return IntegerModel(quantize(model, drawn()))


def test_more_trials_than_faults_are_refused(network: IntegerNetwork, data: Dataset) -> None:
    """Trials beyond the last fault would be counted as harmless."""
    tiny = SystolicArray(rows=1, columns=1)
    threat = RegisterFaults(faults="permanent", trials=500, images=4, array=tiny)
    with pytest.raises(SpecError, match=r"wanted at most (\d+) trials, as many as the array") as no:
        counts(threat, network, data)
    most = int(str(no.value).split("at most ")[1].split()[0])
    faults = threat.model_copy(update={"trials": most})._prepare(network, data.first(4), SEED)[1]
    assert {*faults.trial.tolist()} == {*range(most)}
    with pytest.raises(SpecError):
        counts(threat.model_copy(update={"trials": most + 1}), network, data)


def test_levels_have_no_meaning() -> None:
    with pytest.raises(ValidationError, match="levels: wanted none"):
        RegisterFaults(levels=(1.0,))


def test_keys_differ_where_counts_can(data: Dataset) -> None:
    different = [
        TRANSIENT,
        PERMANENT,
        RegisterFaults(trials=25, images=12, array=ARRAY),  # drawn together, so other places
        RegisterFaults(trials=24, images=13, array=ARRAY),
        RegisterFaults(trials=24, images=12),
        RegisterFaults(trials=24, images=12, array=SystolicArray(rows=3, columns=2, window=2)),
    ]
    assert len({str(one.identity(data)) for one in different}) == len(different)
    same = (RegisterFaults(name=name, images=images) for name, images in (("a", 20), ("b", None)))
    assert len({str(one.identity(data)) for one in same}) == 1


def test_networks_that_multiply_through_tables_and_floats_are_not_measured(
    network: IntegerNetwork, data: Dataset
) -> None:
    tables = IntegerModel(with_multipliers(network, Drum(width=4, signed=True)))
    floats = FloatModel(nn.Sequential(nn.Flatten(), nn.Linear(32, 6)))
    for model in (tables, floats):
        found = TRANSIENT.measure(model, data, level=0.0, trial=0, seed=0)
        assert found == Tally(0, 0)
        assert TRANSIENT.rows({0.0: [found] * 24}) == []
        (told,) = TRANSIENT.warnings({0.0: [found] * 24}, {}, data)
        assert told.startswith("transient_register_faults is not measured")


def test_draws_are_the_unit_of_its_rows(network: IntegerNetwork, data: Dataset) -> None:
    evaluation = Evaluation(threats=(PERMANENT,), seed=SEED)
    store, model = TallyStore(), IntegerModel(network)
    with evaluation.open(lambda _name: model, data) as pool:
        keys = evaluation.keys(model.digest(), data)
        evaluation.measure("v", keys, pool=pool, store=store)
    found = evaluation.counts(keys, store)
    assert found is not None
    trials = found["permanent_register_faults"][0.0]
    assert trials == counts(PERMANENT, network, data)
    rows = {row.metric: row for row in evaluation.rows("v", found)}
    assert list(rows) == ["acc", "sdc1", "sdc5", "acc_std", "acc_min"]
    sdc = np.array([dict(one.others)["sdc1"] for one in trials])
    row = rows["sdc1"]
    assert (row.ci_low, row.value, row.ci_high) == cluster_rate(sdc, np.full(21, 12))
    assert (row.n, PERMANENT.label.unit) == (21, "draw")
    assert evaluation.warnings("v", found, data) == []


def test_pixels_are_counted_and_images_beside_them() -> None:
    images = torch.rand(6, 1, 4, 4, generator=make_generator(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1)).eval()
    network = quantize(model, images)
    data = Dataset.from_arrays(images, model(images).argmax(1), task=Segmentation())
    found = counts(RegisterFaults(trials=10, images=5, array=ARRAY), network, data)
    assert {(one.total, one.images) for one in found} == {(80, 5)}
    (engine,), faults = RegisterFaults(trials=10, array=ARRAY)._prepare(
        network, data.first(5), SEED
    )
    logits = [engine.reference(faults, trial) for trial in range(10)]
    right = [int((one.argmax(1) == data.labels[:5]).sum()) for one in logits]
    assert [one.correct for one in found] == right
