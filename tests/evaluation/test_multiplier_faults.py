"""Gate faults in multipliers, as a threat."""

from pathlib import Path

import numpy as np
import pytest

from bitproof.approx import CircuitMultiplier, Drum, with_multipliers
from bitproof.circuits import Design, DrumCircuit, ExactCircuit, VotedCircuit
from bitproof.core.errors import SpecError
from bitproof.data import Dataset
from bitproof.evaluation import FloatModel, IntegerModel, MultiplierFaults
from bitproof.evaluation import multiplier_faults as module
from bitproof.evaluation.store import TallyStore
from bitproof.faults.broken_multipliers import cycles_of, run_broken
from bitproof.faults.systolic import SystolicArray
from bitproof.metrics import OUTCOMES, Tally, outcomes
from bitproof.stats.clusters import cluster_rate

ARRAY = SystolicArray(rows=2, columns=2)
SMALL = MultiplierFaults(levels=(1.0, 3.0), trials=4, images=60, array=ARRAY)


def on(integers: IntegerModel, design: Design) -> IntegerModel:
    """Return the network on a circuit."""
    return IntegerModel(with_multipliers(integers.network, CircuitMultiplier(design=design)))


def test_counts_are_those_of_the_broken_network(
    integers: IntegerModel, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def spied(network, images, array, broken, *, signed):  # type: ignore[no-untyped-def]
        drawn.append(broken)
        return run_broken(network, images, array, broken, signed=signed)

    monkeypatch.setattr(module, "run_broken", spied)
    model = on(integers, DrumCircuit(segment=4, signed=True))
    found = SMALL.measure(model, data, level=3.0, trial=1, seed=5)
    (broken,) = drawn
    assert len({one.element for one in broken}) == 3
    some = data.first(60)
    logits = run_broken(model.network, some.inputs(), ARRAY, broken, signed=True)
    golden = model.network(some.inputs())
    counts = dict(zip(OUTCOMES, outcomes(logits, golden).sum(0).tolist(), strict=True))
    right = int((logits.argmax(1) == some.labels).sum())
    expected = (("sdc1", counts["sdc1"]), ("sdc5", counts["sdc5"]))
    assert found == Tally(right, 60, expected)
    assert SMALL.measure(model, data, level=3.0, trial=1, seed=5) == found


def test_transient_faults_strike_one_layer(
    integers: IntegerModel, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = []

    def spied(network, images, array, broken, *, signed):  # type: ignore[no-untyped-def]
        layers.append(broken[0].layer)
        assert 0 <= broken[0].cycle < cycles_of(network, images[:1], array)[layers[-1]]
        return run_broken(network, images, array, broken, signed=signed)

    monkeypatch.setattr(module, "run_broken", spied)
    threat = MultiplierFaults(faults="transient", images=10, array=ARRAY)
    for trial in range(20):
        threat.measure(integers, data, level=1.0, trial=trial, seed=0)
    assert set(layers) == set(cycles_of(integers.network, data.inputs()[:1], ARRAY))


def test_three_copies_of_the_same_products_are_another_network(integers: IntegerModel) -> None:
    single, voted = (
        on(integers, design) for design in (ExactCircuit(signed=True), VotedCircuit(signed=True))
    )
    assert single.network.digest() == voted.network.digest()
    assert single.digest() != voted.digest()
    assert integers.digest() == integers.network.digest()


def test_three_copies_stand_what_one_does_not(integers: IntegerModel, data: Dataset) -> None:
    threat = MultiplierFaults(trials=30, images=60, array=SystolicArray(rows=1, columns=1))
    wrong = []
    for design in (ExactCircuit(signed=True), VotedCircuit(signed=True)):
        model = on(integers, design)
        tallies = [
            threat.measure(model, data, level=1.0, trial=trial, seed=0) for trial in range(30)
        ]
        wrong.append(sum(dict(one.others)["sdc1"] for one in tallies))
    assert wrong[0] > 5 * wrong[1]


def test_networks_without_one_known_circuit_are_refused(
    integers: IntegerModel, data: Dataset
) -> None:
    def measure(network: object) -> None:
        SMALL.measure(IntegerModel(network), data, level=1.0, trial=0, seed=0)  # type: ignore[arg-type]

    with pytest.raises(SpecError, match=r"wanted multipliers of kind 'circuit'.*got drum"):
        measure(with_multipliers(integers.network, Drum(width=4, signed=True)))
    names = [node.name for node in integers.network.nodes if node.op in {"conv", "linear"}]
    partly = {names[0]: CircuitMultiplier(design=DrumCircuit(signed=True))}
    with pytest.raises(SpecError, match=r"wanted one circuit in all layers.*exact products"):
        measure(with_multipliers(integers.network, partly))
    forged = on(integers, DrumCircuit(signed=True)).network
    forged.products[names[0]].tables[0, 3, 3] += 1
    with pytest.raises(SpecError, match="other products than circuit:drum"):
        measure(forged)


def test_rows_hold_outcomes_with_intervals_between_trials() -> None:
    trials = [Tally(50, 60, (("sdc1", n), ("sdc5", 0))) for n in (0, 30, 3, 0)]
    rows = {(row.level, row.metric): row for row in SMALL.rows({1.0: trials, 3.0: trials})}
    low, value, high = cluster_rate(np.array([0, 30, 3, 0]), np.full(4, 60))
    row = rows[1.0, "sdc1"]
    assert (row.ci_low, row.value, row.ci_high, row.n) == (low, value, high, 4)
    none = rows[3.0, "sdc5"]
    assert none.value == 0 and none.ci_high is not None and none.ci_high > 0.1  # noqa: PT018
    assert (rows[1.0, "acc_std"].value, rows[1.0, "acc_min"].value) == (0, 50 / 60)


def test_a_float_model_has_no_gates(floats: FloatModel, data: Dataset) -> None:
    found = SMALL.measure(floats, data, level=1.0, trial=0, seed=0)
    assert found == Tally(0, 0)
    assert SMALL.rows({1.0: [found], 3.0: [found]}) == []


def test_impossible_levels_are_refused() -> None:
    for levels in ((0.5,), (5.0,)):
        with pytest.raises(ValueError, match="levels: wanted whole numbers"):
            MultiplierFaults(levels=levels, array=ARRAY)


def test_other_outcomes_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "tallies.jsonl"
    kept = Tally(3, 4, (("sdc1", 1), ("sdc5", 0)))
    TallyStore(path).add("k", kept, variant="v")
    TallyStore(path).add("plain", Tally(1, 2))
    assert TallyStore(path).get("k") == kept
    assert "others" not in path.read_text().splitlines()[1]
    assert kept + kept == Tally(6, 8, (("sdc1", 2), ("sdc5", 0)))
    assert sum([kept, kept], Tally(0, 0)).others == (("sdc1", 2), ("sdc5", 0))
    assert (kept + Tally(1, 2)).others == ()
