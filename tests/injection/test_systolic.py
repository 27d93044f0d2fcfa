"""Campaigns on faults in the registers of an array: draw, execution, summary, replay, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from bitproof.approx import Truncated, with_multipliers
from bitproof.core.errors import FaultListError, SpecError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.faults import read_fault_list, write_fault_list
from bitproof.faults.space import WHOLE_ARRAY, FaultSpace
from bitproof.faults.systolic import SystolicArray
from bitproof.faults.table import ARRAY_SITES, FaultTable
from bitproof.injection import FaultGroup, Injection, carry_out_campaign, prepare_campaign
from bitproof.injection.engine import Engine
from bitproof.injection.golden import Golden
from bitproof.injection.plan import draw_plan
from bitproof.quant import IntegerNetwork, quantize
from bitproof.report import write_campaign_report, write_campaign_tables

ARRAY = SystolicArray(rows=3, columns=2)
STUCK = {"kind": "stuck_at", "value": 1}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(12, 2, 4, 4, generator=make_generator(0, "images"))


@pytest.fixture(scope="module")
def network(images: torch.Tensor) -> IntegerNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 3),
        )
    return quantize(model.eval(), images)


@pytest.fixture
def data(network: IntegerNetwork, images: torch.Tensor) -> Dataset:
    return Dataset("points", images, network(images).argmax(1), 3)


def injection(**fields: object) -> Injection:
    group = {"sites": ["systolic"], **fields}
    return Injection.model_validate(
        {"faults": [group], "images": 12, "trials": 60, "array": ARRAY.model_dump()}
    )


def test_a_permanent_fault_is_one_place_and_breaks_all_layers(
    network: IntegerNetwork, images: torch.Tensor
) -> None:
    shapes = Golden.run(network, images[:1]).shapes
    plan = draw_plan(injection(kind=STUCK), network, shapes)
    assert {cell.layer for cell in plan.cells} == {WHOLE_ARRAY}
    assert {cell.site for cell in plan.cells} == set(ARRAY_SITES)
    assert {cell.size for cell in plan.cells} == {6}
    widths = {site: sum(cell.site == site for cell in plan.cells) for site in ARRAY_SITES}
    assert widths["pe_input"] == widths["pe_weight"] == 8
    assert widths["pe_sum"] == 32
    assert plan.populations == (6 * sum(widths.values()),)
    for trial in range(plan.n_trials):
        rows = plan.faults.of_trial(trial).rows()
        assert {row[2] for row in rows} <= {"0", "4"}
        assert len({(row[1], row[3], row[5], row[6]) for row in rows}) == 1
        assert {row[4] for row in rows} == {-1}


def test_a_transient_fault_is_a_register_in_a_cycle(
    network: IntegerNetwork, images: torch.Tensor
) -> None:
    shapes = Golden.run(network, images[:1]).shapes
    strata = FaultSpace(sites=("systolic",)).strata(network, shapes, array=ARRAY)
    layers = [node for node in network.nodes if node.op in {"conv", "linear"}]
    assert len(strata) == len(layers) * len(ARRAY_SITES)
    for node in layers:
        cycles = ARRAY.cycles(network, node, shapes[node.inputs[0]])
        own = [one for one in strata if one.layer == node.name]
        assert {(one.words, one.taps) for one in own} == {(6, cycles)}


@pytest.mark.parametrize("kind", [STUCK, {"kind": "flip"}], ids=["permanent", "transient"])
def test_counts_are_those_of_executing_everything_again(
    network: IntegerNetwork, data: Dataset, kind: dict[str, object]
) -> None:
    shapes = Golden.run(network, data.inputs(slice(0, 1))).shapes
    plan = draw_plan(injection(kind=kind), network, shapes)
    engine = Engine(network, data.inputs(), data.labels, array=ARRAY)
    trials = list(range(plan.n_trials))
    counts = engine.run(plan.faults, trials)
    changed = 0
    for trial in trials:
        logits = engine.reference(plan.faults, trial)
        sdc = int((logits.argmax(1) != data.labels).sum())
        masked = int((logits == engine.golden.logits).all(1).sum())
        assert counts[trial, 1] == sdc
        assert counts[trial, 0] == masked
        changed += len(data) - masked
    assert changed


def test_results_by_processing_element_register_and_bit(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    group = {"sites": ["systolic"], "kind": STUCK, "exhaustive": True, "bits": [2, 7, 12]}
    every = Injection.model_validate(
        {"faults": [group], "images": 12, "array": ARRAY.model_dump(), "only_correct": True}
    )
    prepare_campaign(tmp_path, network, every, data)
    summary_path = carry_out_campaign(tmp_path)
    assert summary_path is not None
    summary = json.loads(summary_path.read_text())
    assert summary["campaign"]["array"]["rows"] == 3
    elements = summary["elements"]
    assert [(one["row"], one["column"]) for one in elements] == [
        (row, column) for row in range(3) for column in range(2)
    ]
    trials = {one["trials"] for one in elements}
    assert trials == {summary["totals"][0]["trials"] // 6}
    means = np.mean([one["rates"]["sdc1"][1] for one in elements])
    assert means == pytest.approx(summary["totals"][0]["rates"]["sdc1"][1])
    assert {row["site"] for row in summary["bits"]} == set(ARRAY_SITES)
    write_campaign_tables(tmp_path)
    lines = (tmp_path / "elements.csv").read_text().splitlines()
    assert len(lines) == 1 + 6 * len(summary["outcomes"])
    page = write_campaign_report(tmp_path).read_text()
    assert "processing elements" in page
    assert "weight stationary, 3 rows, 2 columns" in page


def test_a_list_replays_to_the_same_counts(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    shapes = Golden.run(network, data.inputs(slice(0, 1))).shapes
    drawn = draw_plan(injection(), network, shapes).faults
    write_fault_list(drawn, tmp_path / "faults.csv")
    layers = [node.name for node in network.nodes]
    again = read_fault_list(tmp_path / "faults.csv", layers=layers)
    assert again.rows() == drawn.rows()
    engine = Engine(network, data.inputs(), data.labels, array=ARRAY)
    trials = list(range(drawn.n_trials))
    np.testing.assert_array_equal(engine.run(again, trials), engine.run(drawn, trials))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((0, "pe_sum", "0", 6, -1, 3, "flip"), "wanted element from 0 to 5, got 6"),
        ((0, "pe_sum", "0", 0, 10**7, 3, "flip"), "wanted tap from -1"),
        ((0, "pe_input", "0", 0, 4, 8, "flip"), "wanted bit from 0 to 7, got 8"),
        ((0, "pe_sum", "2", 0, 4, 8, "flip"), "2 has no pe_sum"),
    ],
)
def test_a_list_that_the_array_does_not_have_is_refused(
    network: IntegerNetwork,
    data: Dataset,
    tmp_path: Path,
    row: tuple[int, str, str, int, int, int, str],
    message: str,
) -> None:
    layers = [node.name for node in network.nodes]
    faults = FaultTable.from_rows([row], layers=layers)
    with pytest.raises(FaultListError, match=message):
        prepare_campaign(tmp_path, network, injection(), data, faults=faults)


def test_a_fault_of_the_array_is_alone_in_its_layer(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    layers = [node.name for node in network.nodes]
    engine = Engine(network, data.inputs(), data.labels, array=ARRAY)
    rows = [(0, "pe_sum", "0", 0, -1, 3, "flip"), (0, "weight", "0", 0, -1, 3, "flip")]
    faults = FaultTable.from_rows(rows, layers=layers)
    with pytest.raises(FaultListError, match="0: wanted a fault of an array alone"):
        engine.run(faults, [0])
    with pytest.raises(FaultListError, match="trial 0: wanted one fault of the array alone in 0"):
        prepare_campaign(tmp_path, network, injection(), data, faults=faults)


@pytest.mark.parametrize("fields", [{"count": 2}, {"rate": 1e-3}])
def test_one_fault_a_trial(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="wanted one fault a trial in an array"):
        FaultGroup.model_validate({"sites": ["pe_sum"], **fields})


def test_not_together_with_other_faults() -> None:
    groups = [{"sites": ["systolic"]}, {"sites": ["weight"]}]
    with pytest.raises(ValidationError, match="together: wanted faults of an array alone"):
        Injection.model_validate({"faults": groups, "together": True})


def test_channels_are_no_choice(network: IntegerNetwork, images: torch.Tensor) -> None:
    shapes = Golden.run(network, images[:1]).shapes
    with pytest.raises(SpecError, match="channels: wanted none with registers of an array"):
        FaultSpace(sites=("pe_sum",), channels=(0,)).strata(network, shapes)


def test_layers_on_tables_have_no_such_registers(
    network: IntegerNetwork, images: torch.Tensor
) -> None:
    shapes = Golden.run(network, images[:1]).shapes
    approximate = with_multipliers(network, {"0": Truncated(columns=4)})
    strata = FaultSpace(sites=("systolic",)).strata(approximate, shapes, array=ARRAY)
    assert {one.layer for one in strata} == {"4"}
    names = [node.name for node in network.nodes]
    faults = FaultTable.from_rows([(0, "pe_sum", "0", 0, -1, 3, "flip")], layers=names)
    engine = Engine(approximate, images, torch.zeros(12, dtype=torch.long), array=ARRAY)
    with pytest.raises(SpecError, match="0 multiplies through a table"):
        engine.run(faults, [0])
