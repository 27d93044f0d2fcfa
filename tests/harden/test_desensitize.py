from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence
from torch.nn.functional import cosine_similarity, cross_entropy

from bitproof.attacks import LinfPGD
from bitproof.core.rng import make_generator
from bitproof.data import Dataset, Splits
from bitproof.harden import Candidate, Desensitize, TrainingContext
from bitproof.harden import desensitize as module
from bitproof.harden.perturbation import divergence
from bitproof.models.features import penultimate, with_features
from bitproof.train import Batch, Optimization

Mode = Literal["consistency", "trades", "noise", "afd"]
MODES: tuple[Mode, ...] = ("consistency", "trades", "noise", "afd")
ONE_STEP = Optimization(
    epochs=1, batch_size=48, learning_rate=0.05, schedule="constant", momentum=0.0, weight_decay=0.0
)


def batch_of(data: Dataset, seed: int = 0) -> Batch:
    return Batch(data.inputs(), data.labels, 0.0, 0, make_generator(seed))


def darker(_stage: Desensitize, _model: nn.Module, batch: Batch) -> Tensor:
    """Stand in for the attack: an x' that a test can make too."""
    return batch.inputs * 0.8


def kl(target: Tensor, logits: Tensor) -> Tensor:
    both = Categorical(logits=target), Categorical(logits=logits)
    return kl_divergence(*both).mean()


def loss_by_hand(stage: Desensitize, net: nn.Sequential, data: Dataset) -> Tensor:
    """Return equation (3) of METHODS A.3, from the parts of the net."""
    both = torch.cat([data.inputs(), data.inputs() * 0.8])
    features = net[:7](both)
    clean, moved = net[7](features).chunk(2)
    before, after = features.chunk(2)

    def fixed(values: Tensor) -> Tensor:
        return values.detach() if stage.stop_gradient else values

    total: Tensor = cross_entropy(clean, data.labels)
    if stage.mode == "trades":
        return total + stage.lam_f * kl(fixed(clean), moved)
    total = total + stage.lam_adv * cross_entropy(moved, data.labels)
    before = fixed(before)
    if stage.distance == "cosine":
        return total + stage.lam_f * (1 - cosine_similarity(before, after)).mean()
    squared = (before - after).pow(2).sum(1) / (before.pow(2).sum(1) + 1e-8)
    distance: Tensor = squared.mean()
    return total + stage.lam_f * distance


def test_defaults_are_those_of_the_specification() -> None:
    stage = Desensitize()
    assert stage.epsilon == 8 / 255
    assert stage.relative_step * stage.epsilon == 2 / 255
    assert (stage.steps, stage.lam_adv, stage.lam_f) == (7, 1.0, 1.0)
    assert (stage.mode, stage.distance, stage.stop_gradient) == ("consistency", "relative", False)
    moves = stage.optimization
    assert (moves.learning_rate, moves.schedule, moves.momentum) == (0.01, "cosine", 0.9)
    assert (moves.weight_decay, moves.batch_size, moves.epochs) == (5e-4, 128, 20)


def test_divergence_is_that_of_torch_distributions() -> None:
    logits, target = 3 * torch.randn(2, 20, 5, generator=make_generator(0))
    torch.testing.assert_close(divergence(logits, target), kl(target, logits))
    assert float(divergence(logits, target)) != pytest.approx(float(divergence(target, logits)))


@pytest.mark.parametrize(
    "stage",
    [
        Desensitize(),
        Desensitize(lam_adv=0.3, lam_f=2.0),
        Desensitize(lam_f=2.0, stop_gradient=True),
        Desensitize(lam_f=2.0, distance="cosine"),
        Desensitize(mode="noise", lam_adv=0.5),
        Desensitize(mode="trades", lam_f=2.0),
        Desensitize(mode="trades", lam_f=2.0, stop_gradient=True),
    ],
    ids=lambda stage: "-".join(
        f"{key}={value}" for key, value in stage if key in stage.model_fields_set
    ),
)
def test_one_step_descends_the_equation(
    stage: Desensitize, net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Desensitize, "perturb", darker)
    moved = stage.model_copy(update={"optimization": ONE_STEP}).apply(
        Candidate(net), TrainingContext(data)
    )
    net.train()
    weights = dict(net.named_parameters())
    loss = loss_by_hand(stage, net, data)
    gradients = torch.autograd.grad(loss, list(weights.values()))
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        torch.testing.assert_close(
            moved.model.get_parameter(name), weight - 0.05 * gradient, rtol=1e-4, atol=1e-5
        )
    recorded = moved.record[-1]["record"]["loss"]
    assert recorded == [pytest.approx(float(loss.detach()), rel=1e-5)]


@pytest.mark.parametrize("mode", MODES)
def test_clean_features_are_a_fixed_target_on_request(
    mode: Mode, net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Desensitize, "perturb", darker)
    free, fixed = (
        Desensitize(mode=mode, stop_gradient=stop, optimization=ONE_STEP)
        .apply(Candidate(net), TrainingContext(data))
        .model.get_parameter("0.weight")
        for stop in (False, True)
    )
    # Clean features have no part in the encoder's loss of `afd`: nothing to stop.
    assert torch.equal(free, fixed) == (mode == "afd")


@pytest.mark.parametrize("mode", MODES)
def test_perturbed_images_stay_in_the_ball_and_in_the_range(
    mode: Mode, net: nn.Sequential, data: Dataset
) -> None:
    inputs = data.inputs().clone()
    inputs[:8], inputs[8:16] = 0.0, 1.0
    batch = Batch(inputs, data.labels, 0.0, 0, make_generator(0))
    moved = Desensitize(mode=mode, epsilon=0.1, steps=4).perturb(net, batch)
    assert float((moved.double() - inputs.double()).abs().max()) <= 0.1
    assert float((moved - inputs).abs().max()) > 0.05
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert not moved.requires_grad


@pytest.mark.parametrize("mode", ["consistency", "trades"])
def test_perturbed_images_are_those_of_a_slow_loop(
    mode: Mode, net: nn.Sequential, data: Dataset
) -> None:
    """Equation (1): signed steps of 0.2 from a random start, projected after each."""
    with torch.no_grad():
        net.get_parameter("7.weight").mul_(5)  # sure of itself: the divergence is not symmetric
    inputs, generator = data.inputs(), make_generator(4)
    found = inputs + 0.5 * (2 * torch.rand(inputs.shape, generator=generator) - 1)
    for _ in range(3):
        found = found.clamp(0, 1).requires_grad_()
        loss = cross_entropy(net(found), data.labels)
        if mode == "trades":
            loss = kl(net(inputs).detach(), net(found))
        (gradient,) = torch.autograd.grad(loss, found)
        found = found.detach() + 0.2 * gradient.sign()
        found = found.clamp(inputs - 0.5, inputs + 0.5).clamp(0, 1)
    stage = Desensitize(mode=mode, epsilon=0.5, relative_step=0.4, steps=3)
    moved = stage.perturb(net, batch_of(data, seed=4))
    # Rounding may turn the sign of a gradient that is nearly zero.
    same = (moved - found).abs() < 1e-6
    assert same.double().mean() > 0.99


def test_perturbed_images_are_worse_than_random_ones(net: nn.Sequential, data: Dataset) -> None:
    def loss_at(mode: Mode) -> float:
        moved = Desensitize(mode=mode, epsilon=0.1).perturb(net, batch_of(data))
        return float(cross_entropy(net(moved), data.labels).detach())

    def gap_at(mode: Mode) -> float:
        moved = Desensitize(mode=mode, epsilon=0.1).perturb(net, batch_of(data))
        return float(divergence(net(moved), net(data.inputs())).detach())

    assert loss_at("consistency") > loss_at("noise")
    assert loss_at("afd") == loss_at("consistency"), "they differ in what they do with x'"
    assert gap_at("trades") > gap_at("noise")
    assert gap_at("trades") > gap_at("consistency"), "it climbs what it is measured by"


def test_attacker_sees_evaluation_mode_and_modes_come_back(
    net: nn.Sequential, data: Dataset
) -> None:
    """One image at a time gives the same x': batch norms do not mix images."""
    net.train()[4].eval()
    modes = [layer.training for layer in net]
    stage = Desensitize(epsilon=0.1, steps=2)
    pair = Batch(data.inputs()[:2], data.labels[:2], 0.0, 0, make_generator(0))
    alone = Batch(data.inputs()[:1], data.labels[:1], 0.0, 0, make_generator(0))
    torch.testing.assert_close(stage.perturb(net, pair)[:1], stage.perturb(net, alone))
    assert [layer.training for layer in net] == modes


def test_noise_asks_for_no_gradient_of_the_input(
    net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_args: object, **_named: object) -> None:
        raise AssertionError("noise needs no gradient")

    passes = 0

    def counted(_inputs: Tensor) -> None:
        nonlocal passes
        passes += 1

    monkeypatch.setattr(module, "perturbed", forbidden)
    monkeypatch.setattr(torch.autograd, "grad", forbidden)
    monkeypatch.setattr(net, "forward", counted)
    Desensitize(mode="noise").perturb(net, batch_of(data))
    assert passes == 0


def test_critic_takes_part_in_afd(net: nn.Sequential, data: Dataset) -> None:
    """The encoder moves although no cross-entropy of x' and no distance pulls at it."""
    plain, fooling = (
        Desensitize(mode="afd", lam_adv=0.0, lam_f=weight, optimization=ONE_STEP)
        .apply(Candidate(net), TrainingContext(data))
        .model.get_parameter("0.weight")
        for weight in (0.0, 1.0)
    )
    assert not torch.equal(plain, fooling)


def robust_accuracy(net: nn.Module, splits: Splits) -> float:
    data, attack = splits.test.first(100), LinfPGD(epsilon=0.12, steps=10)
    found = attack.run(net, data.inputs(), data.labels, generator=make_generator(9))
    return float((net(found).argmax(1) == data.labels).double().mean())


def feature_shift(stage: Desensitize, net: nn.Module, splits: Splits) -> float:
    """Return the relative squared shift of the features of test images that the stage moves."""
    batch = batch_of(splits.test.first(200))
    head = penultimate(net, batch.inputs[:2])
    moved = stage.perturb(net, batch)
    with torch.no_grad():
        clean, other = (with_features(net, images, head)[1] for images in (batch.inputs, moved))
    return float(((clean - other).square().sum(1) / clean.square().sum(1)).mean())


@pytest.mark.parametrize(
    "mode", ["consistency", *(pytest.param(mode, marks=pytest.mark.slow) for mode in MODES[1:])]
)
def test_digits_features_settle_and_attacks_fail(
    mode: Mode,
    trained: Candidate,
    digits: Splits,
    accuracy: Callable[[nn.Module], float],
) -> None:
    stage = Desensitize(
        mode=mode,
        epsilon=0.12,
        steps=3,
        optimization=Optimization(epochs=2, learning_rate=0.05, batch_size=64),
    )
    before, after = trained.model, stage.apply(trained, TrainingContext(digits.train)).model
    assert feature_shift(stage, after, digits) < 0.9 * feature_shift(stage, before, digits)
    assert accuracy(after) > 0.85
    if mode != "noise":  # random noise is no defence
        assert robust_accuracy(after, digits) > robust_accuracy(before, digits) + 0.1
