"""A fault model as a stranger would write it, in every place that takes one.

Its memory has rows of 64 words; some columns of cells lose their ones. So what changes depends on
where a word lies and on what it holds.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.core.types import Probability
from bitproof.data import Dataset
from bitproof.faults import (
    FAULTS,
    FaultModel,
    Memory,
    RandomFlips,
    corrupt,
    faulty_activations,
    faulty_codes,
)
from bitproof.faults.space import Shapes
from bitproof.harden import ApproximationAware, Candidate, FaultAware, TrainingContext
from bitproof.harden import fault_aware as stage_module
from bitproof.injection import plan as plan_module
from bitproof.injection.campaign import carry_out_campaign, prepare_campaign
from bitproof.injection.golden import Golden
from bitproof.injection.plan import draw_plan
from bitproof.injection.spec import FaultGroup, Injection
from bitproof.quant import IntegerNetwork, quantize
from bitproof.train import Optimization

ROW = 64


class DeadColumns(FaultModel):
    """Read some columns of a memory with rows of 64 words as 0."""

    level: ClassVar[str] = "share"

    kind: Literal["dead_columns"] = "dead_columns"
    share: Probability
    """Columns that are dead, as a fraction."""

    def inject_(self, memory: Memory, *, generator: torch.Generator) -> None:
        """Clear the bits of dead columns."""
        dead = torch.rand(ROW, memory.bits, generator=generator) < self.share
        weights = 1 << torch.arange(memory.bits)
        cleared = (dead * weights).sum(1)[torch.arange(len(memory.codes)) % ROW]
        codes = memory.codes
        codes &= ~cleared.to(codes.dtype)
        SEEN.append(memory)


SEEN: list[Memory] = []
FAULT = DeadColumns(share=0.1)


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Memory]:
    """Register the model for one test; return the memories that it breaks, after it did."""
    monkeypatch.setattr(FAULTS, "_kinds", {**FAULTS._kinds, "dead_columns": DeadColumns})
    SEEN.clear()
    return SEEN


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()


@pytest.fixture(scope="module")
def data() -> Dataset:
    images = torch.rand(32, 1, 6, 6, generator=make_generator(0))
    return Dataset("random", images, torch.arange(32) % 3, 3)


@pytest.fixture(scope="module")
def network(model: nn.Module, data: Dataset) -> IntegerNetwork:
    return quantize(model, data.inputs())


@pytest.fixture(scope="module")
def shapes(network: IntegerNetwork, data: Dataset) -> Shapes:
    return Golden.run(network, data.inputs(slice(0, 1))).shapes


def by_hand(tensors: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, np.ndarray]:
    """Return 8-bit tensors behind the faults, cell by cell, with no code of ours."""
    dead = (torch.rand(ROW, 8, generator=generator) < FAULT.share).numpy()
    found, address = {}, 0
    for name, codes in tensors.items():
        flat = codes.clone().flatten().numpy()
        for place in range(len(flat)):
            for bit in range(8):
                if dead[address % ROW, bit]:
                    flat[place] &= ~np.uint8(1 << bit)
            address += 1
        found[name] = flat.reshape(codes.shape)
    return found


def test_corrupt_gives_addresses_and_contents(network: IntegerNetwork) -> None:
    broken = corrupt(network, FAULT, generator=make_generator(1))
    clean = {name: coded.codes for name, coded in network.tensors.items()}
    wanted = by_hand(clean, make_generator(1))
    assert sum(codes.numel() for codes in clean.values()) > 3 * ROW
    for name, codes in clean.items():
        np.testing.assert_array_equal(broken.tensors[name].codes.numpy(), wanted[name])
        assert not torch.equal(broken.tensors[name].codes, codes) or "bias" in name


def test_corrupt_names_the_tensors_of_the_network(
    network: IntegerNetwork, seen: list[Memory]
) -> None:
    corrupt(network, FAULT, generator=make_generator(1), sites=("weight",))
    (memory,) = seen
    index, element = memory.locate(torch.arange(len(memory.codes)))
    assert [tensor.name for tensor in memory.tensors] == ["0.weight", "3.weight"]
    assert [tensor.shape for tensor in memory.tensors] == [(4, 1, 3, 3), (3, 64)]
    assert index.tolist() == [0] * 36 + [1] * 192
    assert element.tolist() == [*range(36), *range(192)]


def test_activations_of_each_image_meet_one_chip(
    network: IntegerNetwork, data: Dataset, seen: list[Memory]
) -> None:
    images = data.inputs(slice(0, 5))
    whole = faulty_activations(network, FAULT, generator=make_generator(1))
    logits = whole(images)
    assert [memory.tensors[0].name for memory in seen] == ["input"] * 5 + ["0"] * 5
    assert {memory.tensors[0].shape for memory in seen} == {(1, 6, 6), (4, 4, 4)}
    dead = [~torch.stack([memory.codes for memory in part]) for part in (seen[:5], seen[5:])]
    assert all(bool((part & 255).all(0).any()) for part in dead)
    one = faulty_activations(network, FAULT, generator=make_generator(1))
    assert torch.equal(torch.cat([one(image[None]) for image in images]), logits)
    assert not torch.equal(logits, network(images))
    assert len(one(images[:0])) == 0


def test_a_stage_trains_with_it(
    model: nn.Module, data: Dataset, seen: list[Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[dict[str, Tensor]] = []

    def noted(stored: Mapping[str, object], *rest: object, **named: object) -> dict[str, Tensor]:
        read.append(faulty_codes(stored, *rest, **named))  # type: ignore[arg-type]
        return read[-1]

    monkeypatch.setattr(stage_module, "faulty_codes", noted)
    stage = FaultAware(
        fault={"kind": "dead_columns", "share": 0.5},
        ber_start=0.0,
        ber_end=1.0,
        ramp=1.0,
        warmup_steps=1,
        inject_below=None,
        optimization=Optimization(epochs=1, batch_size=16, learning_rate=1e-4),
    )
    assert FaultAware.model_validate_json(stage.model_dump_json()) == stage
    stage.apply(Candidate(model), TrainingContext(data))
    assert len(seen) == 2
    assert sorted(tensor.name for tensor in seen[0].tensors) == ["0.weight", "3.weight"]
    halves = [float((memory.codes.int() == 0).float().mean()) for memory in seen]
    assert halves[0] < 0.05, "nothing is dead at the first step"
    for codes, memory in zip(read, seen, strict=True):
        flat = torch.cat([codes[tensor.name].flatten() for tensor in memory.tensors])
        assert torch.equal(flat, memory.codes)
    bits = [sum(int((m.codes >> b & 1).sum()) for b in range(8)) for m in seen]
    assert bits[1] < 0.7 * bits[0], "half of the columns are dead at the second"


def test_training_through_multipliers_takes_it(
    model: nn.Module, data: Dataset, seen: list[Memory]
) -> None:
    short = Optimization(epochs=1, batch_size=16)
    stage = ApproximationAware(fault=FAULT, ber=0.3, optimization=short)
    stage.apply(Candidate(model), TrainingContext(data))
    assert [[tensor.name for tensor in memory.tensors] for memory in seen] == [
        ["0.weight"], ["3.weight"], ["0.weight"], ["3.weight"]
    ]  # fmt: skip


@pytest.mark.parametrize("fault", [FAULT, RandomFlips(ber=0.02)], ids=["columns", "flips"])
@pytest.mark.parametrize("sites", [("weight",), ("bias",), ("weight", "bias")])
def test_each_trial_of_a_campaign_is_a_draw_of_corrupt(
    fault: FaultModel,
    sites: tuple[Literal["weight", "bias"], ...],
    network: IntegerNetwork,
    shapes: Shapes,
) -> None:
    group = FaultGroup(sites=sites, model=fault)
    plan = draw_plan(Injection(faults=(group,), trials=3, seed=5), network, shapes)
    assert plan.n_trials == 3
    assert {row[6] for row in plan.faults.rows()} == {"flip"}
    for trial in range(3):
        generator = make_generator(5, "faults", 0, "trial", trial)
        broken = corrupt(network, fault, generator=generator, sites=sites)
        codes = {name: coded.codes.clone() for name, coded in network.tensors.items()}
        for _, site, layer, element, _, bit, _ in plan.faults.of_trial(trial).rows():
            codes[f"{layer}.{site}"].view(-1)[element] ^= 1 << bit
        assert all(torch.equal(codes[name], broken.tensors[name].codes) for name in codes)


def test_a_campaign_counts_what_the_corrupted_networks_get_right(
    network: IntegerNetwork, data: Dataset, tmp_path: Path
) -> None:
    group, n = FaultGroup(model=FAULT), 4
    injection = Injection(faults=(group,), trials=n, images=16, seed=5)
    prepare_campaign(tmp_path / "c", network, injection, data)
    written = carry_out_campaign(tmp_path / "c")
    assert written is not None
    summary = json.loads(written.read_text())
    assert summary["groups"][0]["label"] == "dead_columns in weight"
    assert summary["groups"][0]["kind"] == FAULT.model_dump()
    assert summary["groups"][0]["extent"] == "one draw"
    images, labels = data.inputs(slice(0, 16)), data.labels[:16]
    right = 0
    for trial in range(n):
        generator = make_generator(5, "faults", 0, "trial", trial)
        broken = corrupt(network, FAULT, generator=generator, sites=("weight",))
        right += int((broken(images).argmax(1) == labels).sum())
    assert summary["totals"][0]["acc"][1] == pytest.approx(right / 16 / n)


def test_a_group_of_a_campaign_keeps_the_bits_that_it_names(
    network: IntegerNetwork, shapes: Shapes
) -> None:
    def rows(**names: object) -> set[tuple[int, str, str, int, int, int, str]]:
        group = FaultGroup.model_validate({"model": FAULT, **names})
        plan = draw_plan(Injection(faults=(group,), trials=2), network, shapes)
        return set(plan.faults.rows())

    every = rows()
    some = rows(layers=["3"], channels=[1], bits=[6, 7])
    assert some == {
        row for row in every if row[2] == "3" and row[3] // 64 == 1 and row[5] in {6, 7}
    }
    assert some


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"count": 2}, "model: wanted it alone"),
        ({"rate": 0.1}, "model: wanted it alone"),
        ({"exhaustive": True}, "model: wanted it alone"),
        ({"kind": "random_value"}, "model: wanted it alone"),
        ({"sites": ["weight", "activation"]}, "sites among weight and bias"),
    ],
)
def test_what_does_not_go_with_a_model_is_refused(table: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        FaultGroup.model_validate({"model": {"kind": "dead_columns", "share": 0.1}, **table})


def test_a_group_survives_a_json_round_trip() -> None:
    group = FaultGroup(model=FAULT)
    assert FaultGroup.model_validate_json(group.model_dump_json()) == group
    assert group.source == FAULT


def test_a_draw_that_breaks_too_much_is_refused(
    network: IntegerNetwork, shapes: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "MOST_ROWS", 1000)
    injection = Injection(faults=(FaultGroup(model=RandomFlips(ber=0.5)),), trials=2)
    with pytest.raises(SpecError, match="wanted at most 1000 faults in all"):
        draw_plan(injection, network, shapes)
