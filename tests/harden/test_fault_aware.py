from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bitproof.core.rng import make_generator
from bitproof.data import Dataset, Splits
from bitproof.faults import Memory, RandomFlips, corrupt
from bitproof.harden import Candidate, FaultAware, TrainingContext
from bitproof.harden import fault_aware as module
from bitproof.quant import AffineQuantizer, IntegerNetwork, Scheme
from bitproof.quant.straight_through import call_with
from bitproof.train import Batch, Optimization

TINY = 1e-30
"""A learning rate that moves no float32 weight by a single bit."""
STILL = Optimization(
    epochs=1,
    batch_size=16,
    learning_rate=TINY,
    schedule="constant",
    momentum=0.0,
    weight_decay=0.0,
)


@dataclass
class Watched:
    """What the faulty branch was given in each step, and the gradients that came of it."""

    seen: list[dict[str, Tensor]] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    states: list[dict[str, Tensor]] = field(default_factory=list)
    gradients: list[dict[str, Tensor]] = field(default_factory=list)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    notes = Watched()
    hold = module.hold_still

    def watched_call(
        model: nn.Module, inputs: Tensor, seen: Mapping[str, Tensor], *, limit: float | None
    ) -> Tensor:
        notes.seen.append(dict(seen))
        notes.inputs.append(inputs)
        notes.states.append({name: value.clone() for name, value in model.state_dict().items()})
        return call_with(model, inputs, seen, limit=limit)

    def watched_hold(model: nn.Module, layers: set[str]) -> None:
        notes.gradients.append(
            {
                name: weight.grad.clone()
                for name, weight in model.named_parameters()
                if weight.grad is not None
            }
        )
        hold(model, layers)

    monkeypatch.setattr(module, "call_with", watched_call)
    monkeypatch.setattr(module, "hold_still", watched_hold)
    return notes


def stage(**changes: Any) -> FaultAware:
    table = {"warmup_steps": 1, "lam_keep": 0.0, "inject_below": None, "optimization": STILL}
    return FaultAware(**{**table, **changes})


def test_defaults_are_those_of_the_specification() -> None:
    plain = FaultAware()
    assert (plain.top, plain.beta, plain.warmup_steps, plain.weighting) == (10, 0.9, 200, "plain")
    assert (plain.faulty_share, plain.ber_start, plain.ber_end, plain.ramp) == (
        0.5,
        1e-5,
        1e-3,
        0.5,
    )
    assert (plain.lam_keep, plain.clamp, plain.epsilon) == (0.5, 0.05, 8 / 255)
    assert (plain.static, plain.trainable, plain.distance) == (False, "critical", "relative")
    moves = plain.optimization
    assert (moves.learning_rate, moves.schedule, moves.momentum) == (0.005, "cosine", 0.9)
    assert (moves.weight_decay, moves.batch_size, moves.epochs) == (5e-4, 128, 20)


def test_rate_rises_linearly_over_the_first_half() -> None:
    plain = FaultAware()
    assert plain.ber_at(0.0) == 1e-5
    assert plain.ber_at(0.25) == pytest.approx((1e-5 + 1e-3) / 2)
    assert plain.ber_at(0.125) == pytest.approx(1e-5 + (1e-3 - 1e-5) / 4)
    assert [plain.ber_at(done) for done in (0.5, 0.75, 1.0)] == pytest.approx([1e-3] * 3)
    assert FaultAware(ramp=0.0).ber_at(0.0) == pytest.approx(1e-3)
    assert FaultAware(ramp=1.0).ber_at(0.5) == pytest.approx((1e-5 + 1e-3) / 2)


def test_each_step_injects_at_the_rate_of_the_ramp(
    net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    bers: list[float] = []
    inject_ = RandomFlips.inject_

    def noted(self: RandomFlips, memory: Memory, *, generator: torch.Generator) -> None:
        bers.append(self.ber)
        inject_(self, memory, generator=generator)

    monkeypatch.setattr(RandomFlips, "inject_", noted)
    moves = STILL.model_copy(update={"epochs": 2})
    stage(ber_start=0.1, ber_end=0.4, optimization=moves).apply(
        Candidate(net), TrainingContext(data)
    )
    # Six steps: done is 0, 1/6, 2/6, and half from the fourth on.
    assert bers == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def fold(state: dict[str, Tensor], layer: str, norm: str) -> tuple[Any, Any]:
    """Return weight times norm factor, and the factor, in float64, by the textbook."""
    number = {name: value.double().numpy() for name, value in state.items()}
    factor = number[f"{norm}.weight"] / np.sqrt(number[f"{norm}.running_var"] + 1e-5)
    factor = factor.reshape(-1, 1, 1, 1)
    return number[f"{layer}.weight"] * factor, factor


def asymmetric_codes(weight: Any, bits: int) -> tuple[Any, float, int]:
    """Return codes, step and zero point of METHODS E.1 (5) with rounding, zero point an integer."""
    low, high = weight.min(), weight.max()
    step = (high - low) / 2 * 1.001 / (2 ** (bits - 1) - 1)
    zero = round(2 ** (bits - 1) - (high + low) / 2 / step)
    return np.round(weight / step) + zero, step, zero


@pytest.mark.parametrize("bits", [4, 8])
def test_faults_hit_the_codes_of_the_folded_weights(
    bits: int, net: nn.Sequential, data: Dataset, watched: Watched
) -> None:
    """At a rate of 1 every bit flips, so that the words read back are known: all complements."""
    scheme = Scheme(weight=AffineQuantizer(bits=bits))
    stage(ber_start=1.0, ber_end=1.0).apply(Candidate(net, scheme), TrainingContext(data))
    for seen, state in zip(watched.seen, watched.states, strict=True):
        for layer, norm in (("0", "1"), ("3", "4")):
            folded, factor = fold(state, layer, norm)
            codes, step, zero = asymmetric_codes(folded, bits)
            expected = step * ((2**bits - 1 - codes) - zero) / factor
            np.testing.assert_allclose(seen[f"{layer}.weight"], expected, rtol=2e-5, atol=1e-6)
        codes, step, zero = asymmetric_codes(state["7.weight"].double().numpy(), bits)
        expected = step * ((2**bits - 1 - codes) - zero)
        np.testing.assert_allclose(seen["7.weight"], expected, rtol=2e-5, atol=1e-6)


def test_faults_hit_the_weights_as_trained_on_request(
    net: nn.Sequential, data: Dataset, watched: Watched
) -> None:
    stage(ber_start=1.0, ber_end=1.0, codes="stored").apply(Candidate(net), TrainingContext(data))
    codes, step, zero = asymmetric_codes(watched.states[0]["0.weight"].double().numpy(), 8)
    expected = step * ((255 - codes) - zero)
    np.testing.assert_allclose(watched.seen[0]["0.weight"], expected, rtol=2e-5, atol=1e-6)


def test_faults_hit_the_very_codes_of_the_deployed_network(
    net: nn.Sequential, data: Dataset, watched: Watched
) -> None:
    """At a rate of 0 the faulty branch sees what the integer network stores."""
    candidate = Candidate(net, shrink={"3": 0.5})
    stage(ber_start=0.0, ber_end=0.0).apply(candidate, TrainingContext(data))
    net.load_state_dict(watched.states[-1])
    deployed = candidate.quantize(data).tensors
    for layer, norm in (("0", "1"), ("3", "4")):
        _, factor = fold(watched.states[-1], layer, norm)
        stored = deployed[f"{layer}.weight"].values().double().numpy() / factor
        np.testing.assert_allclose(watched.seen[-1][f"{layer}.weight"], stored, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_reading_back_never_waits_for_the_device(net: nn.Sequential, data: Dataset) -> None:
    net.cuda()
    batch = Batch(data.images.cuda(), data.labels.cuda(), 0.5, 0, make_generator(0))
    for mode in ("default", "error"):  # the first time loads the kernels
        torch.cuda.set_sync_debug_mode(mode)
        try:
            seen = stage()._read_back(net, batch, ["0", "3"], Candidate(net), {"0": "1"})
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert seen["0.weight"].is_cuda


def test_masks_are_fresh_in_each_step_and_as_dense_as_asked(
    net: nn.Sequential, data: Dataset, watched: Watched
) -> None:
    moves = STILL.model_copy(update={"epochs": 10})
    stage(ber_start=0.02, ber_end=0.02, optimization=moves).apply(
        Candidate(net), TrainingContext(data)
    )
    weight = net.get_parameter("7.weight").detach().double().numpy()
    codes, step, zero = asymmetric_codes(weight, 8)
    masks = [
        np.round(seen["7.weight"].double().numpy() / step + zero).astype(int) ^ codes.astype(int)
        for seen in watched.seen
    ]
    assert len({mask.tobytes() for mask in masks}) == len(masks) == 30
    bits = sum(int(((mask >> bit) & 1).sum()) for mask in masks for bit in range(8))
    n = 30 * weight.size * 8
    assert abs(bits - 0.02 * n) < 5 * (n * 0.02 * 0.98) ** 0.5


def test_faults_reach_critical_layers_only(
    net: nn.Sequential, data: Dataset, watched: Watched
) -> None:
    done = stage(top=1, ber_start=0.5, ber_end=0.5).apply(Candidate(net), TrainingContext(data))
    (critical,) = done.record[-1]["record"]["critical"]["top"][0]
    assert all(seen.keys() == {f"{critical}.weight"} for seen in watched.seen)


@pytest.mark.parametrize("clamp", [0.05, 0.001, None])
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_gradient_is_that_of_the_equation(
    share: float, clamp: float | None, net: nn.Sequential, data: Dataset, watched: Watched
) -> None:
    """(1 - g) times the clean one, plus g times the faulty one, clamped, of every parameter."""
    stage(faulty_share=share, clamp=clamp, ber_start=0.1, ber_end=0.1).apply(
        Candidate(net), TrainingContext(data)
    )
    pairs = zip(data.inputs(), data.labels, strict=True)
    labels = {image.numpy().tobytes(): label for image, label in pairs}
    steps = zip(watched.inputs, watched.seen, watched.states, watched.gradients, strict=True)
    largest = 0.0
    for inputs, seen, state, gradients in steps:
        target = torch.stack([labels[x.contiguous().numpy().tobytes()] for x in inputs])
        net.load_state_dict(state)
        names = [name for name, _ in net.named_parameters()]
        clean = torch.autograd.grad(
            cross_entropy(net.train()(inputs), target), list(net.parameters())
        )
        net.load_state_dict(state)
        leaves = {name: seen.get(name, state[name]).clone().requires_grad_() for name in names}
        broken = functional_call(net.eval(), leaves, (inputs,))
        faulty = torch.autograd.grad(cross_entropy(broken, target), list(leaves.values()))
        largest = max(largest, *(float(part.abs().max()) for part in faulty))
        for name, one, other in zip(names, clean, faulty, strict=True):
            bounded = other if clamp is None else other.clamp(-clamp, clamp)
            torch.testing.assert_close(
                gradients[name], (1 - share) * one + share * bounded, rtol=1e-4, atol=1e-6
            )
    assert largest > 0.05, "a clamp that never acts would pass this test"


def test_no_gradient_of_the_faulty_branch_exceeds_the_clamp(
    net: nn.Sequential, data: Dataset, watched: Watched
) -> None:
    limit = 0.0625  # exact in float32
    stage(faulty_share=1.0, clamp=limit, ber_start=0.3, ber_end=0.3).apply(
        Candidate(net), TrainingContext(data)
    )
    for gradients in watched.gradients:
        assert gradients.keys() == {name for name, _ in net.named_parameters()}
        assert max(float(gradient.abs().max()) for gradient in gradients.values()) == limit


def test_batch_norms_learn_from_the_clean_branch_alone(net: nn.Sequential, data: Dataset) -> None:
    """Weights stand still, so statistics depend on nothing but the images that norms learn from."""
    learned = [
        stage(faulty_share=share, lam_keep=keep, ber_start=0.3, ber_end=0.3)
        .apply(Candidate(net), TrainingContext(data, seed=7))
        .model
        for share, keep in [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5)]
    ]
    assert not torch.equal(
        learned[0].get_buffer("1.running_mean"), net.get_buffer("1.running_mean")
    )
    for model in learned[1:]:
        for name, value in model.state_dict().items():
            assert torch.equal(value, learned[0].state_dict()[name]), name


@pytest.mark.parametrize("static", [True, False])
def test_frozen_layers_keep_every_bit(static: bool, net: nn.Sequential, data: Dataset) -> None:
    moves = Optimization(epochs=3, batch_size=16, learning_rate=0.05)
    done = stage(top=1, static=static, optimization=moves).apply(
        Candidate(net), TrainingContext(data)
    )
    rankings = done.record[-1]["record"]["critical"]["top"]
    assert len(rankings) == (1 if static else 3)
    moved = {layer for top in rankings for layer in top} | {"1", "4"}
    assert moved < {"0", "1", "3", "4", "7"}, "a net that moves as a whole would pass this test"
    for name, weight in net.named_parameters():
        same = torch.equal(done.model.get_parameter(name), weight)
        assert same == (name.rpartition(".")[0] not in moved), name


def test_everything_moves_on_request(net: nn.Sequential, data: Dataset) -> None:
    moves = Optimization(epochs=1, batch_size=16, learning_rate=0.05)
    done = stage(top=1, trainable="all", optimization=moves).apply(
        Candidate(net), TrainingContext(data)
    )
    for name, weight in net.named_parameters():
        assert not torch.equal(done.model.get_parameter(name), weight)


def test_static_ranking_is_that_of_the_warm_up(net: nn.Sequential, data: Dataset) -> None:
    """A longer run has the same single ranking, and no step of training changes it."""
    records = [
        stage(
            static=True,
            warmup_steps=5,
            optimization=Optimization(epochs=epochs, batch_size=16, learning_rate=rate),
        )
        .apply(Candidate(net), TrainingContext(data))
        .record[-1]["record"]["critical"]
        for epochs, rate in [(1, 0.001), (3, 0.1)]
    ]
    assert records[0] == records[1]


def test_ranking_goes_on_with_the_gradients_of_training(
    net: nn.Sequential, data: Dataset, watched: Watched
) -> None:
    """Those of frozen layers too, or none could ever become critical again."""
    moves = STILL.model_copy(update={"epochs": 2})
    done = stage(top=1, beta=0.7, optimization=moves).apply(Candidate(net), TrainingContext(data))
    before, after = done.record[-1]["record"]["critical"]["scores"]
    for layer, first, second in zip(("0", "3", "7"), before, after, strict=True):
        score = first
        for gradients in watched.gradients[:3]:
            score = 0.7 * score + 0.3 * float(gradients[f"{layer}.weight"].norm())
        assert second == pytest.approx(score, rel=1e-5)
        assert second != pytest.approx(first, rel=0.01)


def test_warm_up_moves_nothing(net: nn.Sequential, data: Dataset, watched: Watched) -> None:
    stage(warmup_steps=20, faulty_share=1.0).apply(Candidate(net), TrainingContext(data))
    for name, weight in net.named_parameters():
        assert torch.equal(watched.states[0][name], weight)
    counts = [int(state["1.num_batches_tracked"]) for state in watched.states]
    assert counts == [1, 2, 3], "one clean batch each, none of the warm-up"


@pytest.mark.parametrize("sam", [0.0, 0.05])
def test_what_is_not_critical_stays_whatever_the_steps(
    net: nn.Sequential, data: Dataset, sam: float
) -> None:
    steps = Optimization(epochs=1, batch_size=16, learning_rate=0.1, sam=sam)
    done = stage(top=1, optimization=steps).apply(Candidate(net), TrainingContext(data))
    (critical,) = done.record[0]["record"]["critical"]["top"][0]
    for name in ("0", "3", "7"):
        before, after = (model.get_parameter(f"{name}.weight") for model in (net, done.model))
        assert torch.equal(before, after) == (name != critical)


def test_faults_wait_until_the_clean_loss_is_low(
    net: nn.Sequential, data: Dataset, watched: Watched
) -> None:
    stage(inject_below=1e-6).apply(Candidate(net), TrainingContext(data))
    assert not watched.seen
    stage(inject_below=100.0).apply(Candidate(net), TrainingContext(data))
    assert len(watched.seen) == 2  # the loss that decides is that of the step before
    watched.seen.clear()
    stage(inject_below=None).apply(Candidate(net), TrainingContext(data))
    assert len(watched.seen) == 3


def test_without_faults_the_clean_loss_counts_in_full(net: nn.Sequential, data: Dataset) -> None:
    """Not (1 - g) of it."""
    whole, waiting = (
        stage(optimization=Optimization(epochs=1, batch_size=16), **changes)
        .apply(Candidate(net), TrainingContext(data))
        .model.state_dict()
        for changes in ({"faulty_share": 0.0}, {"faulty_share": 0.5, "inject_below": 1e-6})
    )
    assert all(torch.equal(whole[name], waiting[name]) for name in whole)


def test_kept_features_add_their_distance_to_the_loss(net: nn.Sequential, data: Dataset) -> None:
    losses = {
        weight: stage(lam_keep=weight, faulty_share=0.0, epsilon=0.1)
        .apply(Candidate(net), TrainingContext(data))
        .record[-1]["record"]["loss"][0]
        for weight in (0.0, 0.5, 1.0)
    }
    distance = losses[1.0] - losses[0.0]
    assert distance > 0.001
    assert losses[0.5] - losses[0.0] == pytest.approx(distance / 2, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["all", "critical"])
def test_digits_survive_more_flips_than_after_plain_fine_tuning(
    trainable: Literal["all", "critical"],
    trained: Candidate,
    digits: Splits,
    accuracy: Callable[[nn.Module | IntegerNetwork], float],
) -> None:
    """The default clamp is for large nets: with few weights, each has a large gradient."""

    def under_faults(candidate: Candidate) -> float:
        network, fault = candidate.quantize(digits.train), RandomFlips(ber=0.01)
        chips = [corrupt(network, fault, generator=make_generator(0, chip)) for chip in range(20)]
        return sum(accuracy(chip) for chip in chips) / len(chips)

    plain, hardened = (
        FaultAware(
            warmup_steps=5,
            ber_end=0.01,
            faulty_share=share,
            clamp=0.5,
            lam_keep=0.0,
            trainable=trainable,
            optimization=Optimization(epochs=8, batch_size=64, learning_rate=0.05),
        ).apply(trained, TrainingContext(digits.train))
        for share in (0.0, 0.5)
    )
    assert under_faults(hardened) > under_faults(plain) + 0.08
    assert under_faults(hardened) > under_faults(trained) + 0.08
    assert accuracy(hardened.model) > 0.93
