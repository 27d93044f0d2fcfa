"""What every hardening stage promises, checked for every registered kind and every pair."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from bitproof.approx import Exact, Truncated
from bitproof.core.errors import StoppedError
from bitproof.core.rng import make_generator
from bitproof.core.stop_request import StopRequest
from bitproof.data import Dataset
from bitproof.explore import ChooseMultipliers, Exploration, Goal, Hawx
from bitproof.harden import (
    HARDEN,
    PGDAT,
    TRADES,
    WCAT,
    Adjust,
    AdvBET,
    Approximate,
    ApproximationAware,
    Candidate,
    Desensitize,
    FastAT,
    FaultAware,
    FreeAT,
    HardeningStage,
    Joint,
    QuantizationAware,
    RandBET,
    Requantize,
    TrainingContext,
    Vanilla,
)
from bitproof.quant import AffineQuantizer, Scheme
from bitproof.train import Checkpointer, Optimization

SHORT = Optimization(epochs=1, batch_size=16, learning_rate=0.05)
LONGER = Optimization(epochs=2, batch_size=16, learning_rate=0.05)
SAMPLES: dict[str, HardeningStage] = {
    "adjust": Adjust(
        ber=0.02, epsilon=0.1, calibration_images=32, attack_images=16, steps=2, grid_points=9
    ),
    "advbet": AdvBET(n_flips=8, activate_below=None, optimization=SHORT),
    "approximate": Approximate(multiplier=Truncated(columns=7), correct_means=True),
    "approximation_aware": ApproximationAware(ber=0.01, lam_adv=0.5, optimization=SHORT),
    "joint": Joint(ber=0.01, clip=0.5, epsilon=0.1, steps=1, optimization=SHORT),
    "choose_multipliers": ChooseMultipliers(
        multipliers={"exact": Exact(), "coarse": Truncated(columns=7)},
        exploration=Exploration(
            costs=str(Path(__file__).parent / "multiplier_costs.csv"),
            profile_images=16,
            images=16,
            goal=Goal(max_drop=1.0),
            searches=[Hawx(drawn=1, finalists=1, rounds=1)],
        ),
    ),
    "desensitize": Desensitize(epsilon=0.1, steps=2, optimization=SHORT),
    "fast_at": FastAT(epsilon=0.1, optimization=SHORT),
    "fault_aware": FaultAware(
        top=2, warmup_steps=2, ber_start=0.01, ber_end=0.05, inject_below=None, optimization=SHORT
    ),
    "free_at": FreeAT(epsilon=0.1, replays=2, optimization=SHORT),
    "pgd_at": PGDAT(epsilon=0.1, steps=2, optimization=SHORT),
    "quantization_aware": QuantizationAware(w_max=0.2, activations=True, optimization=SHORT),
    "randbet": RandBET(
        rates=(0.01, 0.05), w_max=0.2, clipping="per_layer", ramp=0.5, optimization=SHORT
    ),
    "requantize": Requantize(
        scheme=Scheme(weight=AffineQuantizer(bits=6), bias=None, calibration_images=32)
    ),
    "trades": TRADES(epsilon=0.1, steps=2, optimization=SHORT),
    "vanilla": Vanilla(optimization=SHORT),
    "wcat": WCAT(optimization=SHORT),
}
"""One stage of each kind that surely changes something."""


ON_GRIDS = {"quantization_aware", "randbet", "advbet", "wcat"}
"""Kinds that train biases on their grids, so that nothing may be corrected afterwards."""
ALIKE = {"fast_at", "free_at", "pgd_at", "trades"}
"""Kinds that do to a candidate what `vanilla` does: pairs with it stand for theirs."""


def pairs() -> list[Any]:
    """Return all pairs of kinds, those that stand for others once.

    By default each kind goes before its neighbour.
    """
    chosen = [kind for kind in HARDEN.kinds() if kind not in ALIKE]
    neighbours = dict(zip(chosen, [*chosen[1:], chosen[0]], strict=True))
    return [
        pytest.param(first, second, marks=() if quick else pytest.mark.slow)
        for first in chosen
        for second in chosen
        for quick in [neighbours[first] == second]
    ]


every_kind = pytest.mark.parametrize("kind", HARDEN.kinds())


@pytest.fixture(scope="module")
def data() -> Dataset:
    generator = make_generator(0, "images")
    labels = torch.arange(48) % 3
    patterns = torch.rand(3, 1, 6, 6, generator=generator)
    noise = 0.1 * torch.randn(48, 1, 6, 6, generator=generator)
    return Dataset("patterns", (patterns[labels] + noise).clamp(0, 1), labels, 3)


def make_candidate() -> Candidate:
    """Return one in evaluation mode but for one layer; one parameter has a gradient."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(54, 3),
        )
    net.eval()[2].train()
    net.get_parameter("7.weight").grad = torch.ones(3, 54)
    scheme = Scheme(weight=AffineQuantizer(bits=6), calibration_images=32)
    return Candidate(net, scheme, shrink={"7": 0.75}, record=({"kind": "earlier", "record": {}},))


@pytest.fixture
def candidate() -> Candidate:
    return make_candidate()


def codes(candidate: Candidate, data: Dataset) -> dict[str, Tensor]:
    network = candidate.quantize(data)
    found = {name: coded.codes for name, coded in network.tensors.items()}
    for name, products in network.products.items():
        found |= {f"tables {name}": products.tables, f"offset {name}": products.offset}
    return found


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_every_kind_has_a_sample() -> None:
    assert sorted(SAMPLES) == HARDEN.kinds()


@every_kind
def test_stage_survives_a_json_round_trip(kind: str) -> None:
    stage = SAMPLES[kind]
    assert HARDEN.find(kind).model_validate_json(stage.model_dump_json()) == stage
    assert HARDEN.build(json.loads(stage.model_dump_json())).digest() == stage.digest()


@every_kind
def test_defaults_alone_make_a_stage(kind: str) -> None:
    assert HARDEN.build({"kind": kind}).kind == kind


@dataclass(frozen=True)
class Applied:
    """What a stage was given, what that was before, and what the stage returned."""

    candidate: Candidate
    before: Candidate
    hardened: Candidate
    digests: tuple[str, str]
    """Of the data, before and after."""
    states: tuple[Tensor, Tensor]
    """Of the global generator, before and after."""


@pytest.fixture(scope="module")
def applied(data: Dataset) -> Callable[[str], Applied]:
    """Return a function that applies the stage of a kind, once."""

    @cache
    def apply(kind: str) -> Applied:
        candidate, digest, state = make_candidate(), data.digest(), torch.random.get_rng_state()
        before = deepcopy(candidate)
        hardened = SAMPLES[kind].apply(candidate, TrainingContext(data))
        digests, states = (digest, data.digest()), (state, torch.random.get_rng_state())
        return Applied(candidate, before, hardened, digests, states)

    return apply


@every_kind
def test_candidate_and_its_model_are_untouched(
    kind: str, applied: Callable[[str], Applied]
) -> None:
    candidate, before = applied(kind).candidate, applied(kind).before
    assert same(candidate.model.state_dict(), before.model.state_dict())
    for old, new in zip(before.model.modules(), candidate.model.modules(), strict=True):
        assert new.training == old.training
    for name, weight in candidate.model.named_parameters():
        assert weight.requires_grad
        assert (weight.grad is None) == (name != "7.weight")
    assert torch.equal(candidate.model.get_parameter("7.weight").grad, torch.ones(3, 54))  # type: ignore[arg-type]
    assert (candidate.scheme, candidate.shrink) == (before.scheme, before.shrink)
    assert candidate.record == before.record
    assert not any(
        len(part._forward_hooks) + len(part._forward_pre_hooks)
        for part in candidate.model.modules()
    )


@every_kind
def test_data_are_untouched(kind: str, applied: Callable[[str], Applied]) -> None:
    before, after = applied(kind).digests
    assert after == before


@every_kind
def test_result_is_another_network_that_quantizes(
    kind: str, applied: Callable[[str], Applied], data: Dataset
) -> None:
    candidate, hardened = applied(kind).candidate, applied(kind).hardened
    assert not any(part.training for part in hardened.model.modules())
    network = hardened.quantize(data)
    assert network(data.inputs()).isfinite().all()
    assert not same(codes(hardened, data), codes(candidate, data))


@every_kind
def test_same_setting_gives_the_same_bits(kind: str, candidate: Candidate, data: Dataset) -> None:
    first, again = (SAMPLES[kind].apply(candidate, TrainingContext(data, seed=3)) for _ in range(2))
    assert same(first.model.state_dict(), again.model.state_dict())
    assert same(codes(first, data), codes(again, data))
    assert first.record == again.record
    assert first.shrink == again.shrink


@pytest.mark.parametrize(
    "stage",
    [
        Desensitize(epsilon=0.1, steps=1, optimization=LONGER),
        Desensitize(epsilon=0.1, steps=1, mode="afd", optimization=LONGER),
        FaultAware(
            top=2,
            warmup_steps=2,
            ber_start=0.01,
            ber_end=0.05,
            clip=0.5,
            inject_below=1.0,
            optimization=LONGER,
        ),
    ],
    ids=["consistency", "afd", "fault_aware"],
)
@pytest.mark.parametrize("looks", [1, 4])
def test_a_stopped_stage_goes_on_exactly(
    *,
    stage: HardeningStage,
    looks: int,
    candidate: Candidate,
    data: Dataset,
    after: Callable[[int], StopRequest],
    tmp_path: Path,
) -> None:
    whole = stage.apply(candidate, TrainingContext(data, seed=3))
    path = tmp_path / "stage.safetensors"
    with pytest.raises(StoppedError):
        stage.apply(
            candidate,
            TrainingContext(data, seed=3, checkpointer=Checkpointer(path, stop=after(looks))),
        )
    resumed = stage.apply(candidate, TrainingContext(data, seed=3, checkpointer=Checkpointer(path)))
    assert same(resumed.model.state_dict(), whole.model.state_dict())
    assert resumed.record == whole.record


def test_compiled_steps_are_refused_in_a_stage() -> None:
    with pytest.raises(ValidationError, match="wanted false in a stage"):
        Desensitize(optimization=Optimization(compiled=True))


@pytest.mark.parametrize("kind", ["desensitize", "fault_aware"])
def test_another_seed_gives_another_network(kind: str, candidate: Candidate, data: Dataset) -> None:
    first, other = (
        SAMPLES[kind].apply(candidate, TrainingContext(data, seed=seed)) for seed in (3, 4)
    )
    assert not same(first.model.state_dict(), other.model.state_dict())


@every_kind
def test_global_generator_is_untouched(kind: str, applied: Callable[[str], Applied]) -> None:
    before, after = applied(kind).states
    assert torch.equal(after, before)


@every_kind
def test_record_grows_by_one_json_table(kind: str, applied: Callable[[str], Applied]) -> None:
    hardened = applied(kind).hardened
    assert hardened.record[:-1] == applied(kind).before.record
    assert hardened.record[-1]["kind"] == kind
    assert hardened.record[-1]["record"]
    again = json.loads(json.dumps(hardened.record, allow_nan=False))
    assert again == list(hardened.record)


@pytest.mark.parametrize(("first", "second"), pairs())
def test_stages_compose_in_any_order(
    first: str, second: str, candidate: Candidate, data: Dataset
) -> None:
    context = TrainingContext(data)
    both = SAMPLES[second].apply(SAMPLES[first].apply(candidate, context), context)
    assert [entry["kind"] for entry in both.record] == ["earlier", first, second]
    assert both.quantize(data)(data.inputs()).isfinite().all()
    adjusted = second == "adjust" or (first == "adjust" and second not in ON_GRIDS)
    assert both.correct_bias == adjusted
    if "wcat" in {first, second}:  # learns the range of a grid of its own
        return
    assert both.scheme.weight == candidate.scheme.weight
    if "adjust" not in {first, second}:
        assert both.shrink == candidate.shrink
