import torch
from torch import nn

from bitproof.data import Dataset
from bitproof.harden.norms import (
    batch_norms,
    evaluating,
    running_statistics,
    unlearned_statistics,
)


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def unchanged(net: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_all_batch_norms_are_found(net: nn.Sequential) -> None:
    assert batch_norms(net) == [net[1], net[4]]


def test_running_statistics_normalise_and_are_left_alone(net: nn.Sequential, data: Dataset) -> None:
    expected = net(data.inputs())
    before = state(net.train())
    with running_statistics(net):
        assert torch.equal(net(data.inputs()), expected)
    assert unchanged(net, before)
    assert all(layer.training for layer in net.modules())


def test_unlearned_statistics_are_those_of_the_batch_and_leave_no_trace(
    net: nn.Sequential, data: Dataset
) -> None:
    norm = net.train()[1]
    assert isinstance(norm, nn.BatchNorm2d)
    maps = net[0](data.inputs()).detach()
    mean = maps.mean((0, 2, 3), keepdim=True)
    spread = maps.var((0, 2, 3), unbiased=False, keepdim=True)
    scaled = (maps - mean) / (spread + norm.eps).sqrt() * norm.weight.view(-1, 1, 1)
    before = state(net)
    with unlearned_statistics(net):
        first = net[:2](data.inputs())
        net(data.inputs())
    torch.testing.assert_close(first, scaled + norm.bias.view(-1, 1, 1))
    assert unchanged(net, before), "also the count of batches, which a running mean divides by"
    assert norm.track_running_stats


def test_evaluating_puts_every_mode_back(net: nn.Sequential) -> None:
    net.train()[3].eval()
    with evaluating(net):
        assert not any(layer.training for layer in net.modules())
    assert [layer.training for layer in net] == [index != 3 for index in range(8)]
