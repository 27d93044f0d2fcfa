"""Scaled norms compute what plain ones with that scale do, and fold and learn as they do."""

import pickle
from copy import deepcopy

import pytest
import torch
from torch import Tensor, fx, nn

from bitproof.core.rng import global_draws, make_generator
from bitproof.models import ScaledBatchNorm2d, ScaledGroupNorm
from bitproof.models.norms import (
    batch_norms,
    evaluating,
    running_statistics,
    unlearned_statistics,
)
from bitproof.quant.straight_through import fold_factors, norm_after


@pytest.fixture
def images() -> Tensor:
    return torch.rand(12, 1, 6, 6, generator=make_generator(0))


@pytest.fixture
def net(images: Tensor) -> nn.Sequential:
    """Norms at 1 and 4 that are no identity; in evaluation mode."""
    with global_draws(1):
        layers = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, 3),
        )
        for norm in (layers[1], layers[4]):
            assert isinstance(norm, nn.BatchNorm2d)
            nn.init.normal_(norm.weight, 1.0, 0.2)
    for _ in range(3):
        layers(images)
    return layers.eval()


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def unchanged(net: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_all_batch_norms_are_found(net: nn.Sequential) -> None:
    assert batch_norms(net) == [net[1], net[4]]


def test_running_statistics_normalise_and_are_left_alone(
    net: nn.Sequential, images: Tensor
) -> None:
    expected = net(images)
    before = state(net.train())
    with running_statistics(net):
        assert torch.equal(net(images), expected)
    assert unchanged(net, before)
    assert all(layer.training for layer in net.modules())


def test_unlearned_statistics_are_those_of_the_batch_and_leave_no_trace(
    net: nn.Sequential, images: Tensor
) -> None:
    norm = net.train()[1]
    assert isinstance(norm, nn.BatchNorm2d)
    maps = net[0](images).detach()
    mean = maps.mean((0, 2, 3), keepdim=True)
    spread = maps.var((0, 2, 3), unbiased=False, keepdim=True)
    scaled = (maps - mean) / (spread + norm.eps).sqrt() * norm.weight.view(-1, 1, 1)
    before = state(net)
    with unlearned_statistics(net):
        first = net[:2](images)
        net(images)
    torch.testing.assert_close(first, scaled + norm.bias.view(-1, 1, 1))
    assert unchanged(net, before), "also the count of batches, which a running mean divides by"
    assert norm.track_running_stats


def test_evaluating_puts_every_mode_back(net: nn.Sequential) -> None:
    net.train()[3].eval()
    with evaluating(net):
        assert not any(layer.training for layer in net.modules())
    assert [layer.training for layer in net] == [index != 3 for index in range(8)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=make_generator(seed))


def pair(kind: str) -> tuple[nn.Module, nn.Module]:
    """Return a scaled norm and the plain one that it stands for."""
    ours: ScaledBatchNorm2d | ScaledGroupNorm
    plain: nn.BatchNorm2d | nn.GroupNorm
    if kind == "batch":
        ours, plain = ScaledBatchNorm2d(6), nn.BatchNorm2d(6)
    else:
        ours, plain = ScaledGroupNorm(3, 6), nn.GroupNorm(3, 6)
    with torch.no_grad():
        ours.excess.copy_(draw(6, seed=1))
        ours.bias.copy_(draw(6, seed=2))
        plain.weight.copy_(1 + ours.excess)
        plain.bias.copy_(ours.bias)
    return ours, plain


both = pytest.mark.parametrize("kind", ["batch", "group"])


@both
def test_a_new_norm_is_a_new_plain_norm(kind: str) -> None:
    x = draw(4, 6, 3, 3)
    if kind == "batch":
        assert torch.equal(ScaledBatchNorm2d(6)(x), nn.BatchNorm2d(6)(x))
    else:
        assert torch.equal(ScaledGroupNorm(3, 6)(x), nn.GroupNorm(3, 6)(x))


@both
def test_outputs_statistics_and_gradients_are_those_of_the_plain_norm(kind: str) -> None:
    ours, plain = pair(kind)
    for step in range(3):
        x = draw(4, 6, 3, 3, seed=10 + step)
        results = [norm(x) for norm in (ours, plain)]
        assert torch.equal(*results)
        for result in results:
            result.square().sum().backward()
    for mine, theirs in zip(ours.buffers(), plain.buffers(), strict=True):
        assert torch.equal(mine, theirs)
    gradients = {name: weight.grad for name, weight in ours.named_parameters()}
    wanted = {name: weight.grad for name, weight in plain.named_parameters()}
    assert torch.equal(gradients["excess"], wanted["weight"])  # type: ignore[arg-type]
    assert torch.equal(gradients["bias"], wanted["bias"])  # type: ignore[arg-type]
    x = draw(4, 6, 3, 3)
    assert torch.equal(ours.eval()(x), plain.eval()(x))


@both
def test_a_bound_on_all_parameters_leaves_the_scale_near_one(kind: str) -> None:
    ours, _ = pair(kind)
    with torch.no_grad():
        for weight in ours.parameters():
            weight.clamp_(-0.05, 0.05)
    scale = ours.weight
    assert isinstance(scale, Tensor)
    assert torch.allclose(scale, torch.ones(6), atol=0.0501)


@both
def test_copies_states_and_plain_traces_compute_the_same(kind: str) -> None:
    ours, _ = pair(kind)
    ours.eval()
    x = draw(4, 6, 3, 3)
    loaded = ScaledBatchNorm2d(6) if kind == "batch" else ScaledGroupNorm(3, 6)
    loaded.load_state_dict(ours.state_dict())
    copies = [deepcopy(ours), pickle.loads(pickle.dumps(ours)), loaded.eval()]
    for norm in (*copies, fx.symbolic_trace(nn.Sequential(ours))):
        assert torch.equal(norm(x), ours(x))


def test_training_folds_the_whole_scale_into_the_convolution() -> None:
    factors = []
    for norm in pair("batch"):
        model = nn.Sequential(nn.Conv2d(3, 6, 3), norm)
        norms = norm_after(model, torch.rand(2, 3, 5, 5))
        assert norms == {"0": "1"}
        factors.append(fold_factors(model, norms)["0"])
    assert torch.equal(*factors)


def test_scaled_batch_norms_obey_whoever_holds_their_statistics() -> None:
    ours, plain = pair("batch")
    model, x = nn.Sequential(ours), draw(4, 6, 3, 3)
    assert batch_norms(model) == [ours]
    with running_statistics(model):
        held = ours(x)
    with unlearned_statistics(model):
        own = ours(x)
    assert torch.equal(own, plain(x))
    assert not torch.equal(held, own)
    assert not ours.get_buffer("running_mean").any()
    assert int(ours.get_buffer("num_batches_tracked")) == 0
