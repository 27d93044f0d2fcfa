import pytest
import torch
from torch import Tensor, nn

from bitproof.core.rng import global_draws, make_generator
from bitproof.models.norms import (
    batch_norms,
    evaluating,
    running_statistics,
    unlearned_statistics,
)


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
