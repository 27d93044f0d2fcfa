from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from bitproof.data import Dataset
from bitproof.harden import Candidate, FaultAware, TrainingContext
from bitproof.harden.clip import clip_weights_, folded_ranges
from bitproof.train import Optimization

LAYERS = ["0", "3", "7"]


def factor_of(net: nn.Module, norm: str) -> Tensor:
    return (
        net.get_parameter(f"{norm}.weight") / (net.get_buffer(f"{norm}.running_var") + 1e-5).sqrt()
    )


def factors_of(net: nn.Module) -> dict[str, Tensor]:
    return {layer: factor_of(net, norm).detach() for layer, norm in (("0", "1"), ("3", "4"))}


@pytest.fixture
def factors(net: nn.Sequential) -> dict[str, Tensor]:
    return factors_of(net)


def folded(net: nn.Module, layer: str, factors: dict[str, Tensor]) -> Tensor:
    weight = net.get_parameter(f"{layer}.weight").detach()
    return weight * factors[layer].view(-1, 1, 1, 1) if layer in factors else weight


def test_ranges_are_a_share_of_those_of_the_folded_weights(
    net: nn.Sequential, factors: dict[str, Tensor]
) -> None:
    ranges = folded_ranges(net, LAYERS, factors, share=0.25)
    for layer in LAYERS:
        values = folded(net, layer, factors)
        expected = (0.25 * float(values.min()), 0.25 * float(values.max()))
        assert ranges[layer] == pytest.approx(expected, rel=1e-6)


def test_zero_is_in_every_range(net: nn.Sequential) -> None:
    """A share of a range that lies off zero would not even hold the smallest weights."""
    with torch.no_grad():
        net.get_parameter("7.weight").abs_().add_(1.0)
    assert folded_ranges(net, ["7"], {}, share=0.5)["7"][0] == 0.0


def test_weights_come_inside_and_those_inside_keep_every_bit(
    net: nn.Sequential, factors: dict[str, Tensor]
) -> None:
    assert any(bool((factor < 0).any()) for factor in factors.values())
    before = {layer: net.get_parameter(f"{layer}.weight").clone() for layer in LAYERS}
    values = {layer: folded(net, layer, factors) for layer in LAYERS}
    ranges = folded_ranges(net, LAYERS, factors, share=0.5)
    clip_weights_(net, ranges, factors)
    for layer, (low, high) in ranges.items():
        torch.testing.assert_close(folded(net, layer, factors), values[layer].clamp(low, high))
        inside = (values[layer] > 0.999 * low) & (values[layer] < 0.999 * high)
        now = net.get_parameter(f"{layer}.weight")
        assert torch.equal(now[inside], before[layer][inside])
        assert not torch.equal(now, before[layer])


def test_a_channel_without_a_factor_stays(net: nn.Sequential, factors: dict[str, Tensor]) -> None:
    factors["0"][1] = 0.0
    before = net.get_parameter("0.weight").clone()
    clip_weights_(net, {"0": (-1e-3, 1e-3)}, factors)
    now = net.get_parameter("0.weight")
    assert torch.equal(now[1], before[1])
    assert not torch.equal(now[0], before[0])
    assert now.isfinite().all()


@pytest.mark.parametrize("trainable", ["all", "critical"])
def test_deployed_weights_stay_in_their_share_of_the_range(
    trainable: Literal["all", "critical"], net: nn.Sequential, data: Dataset
) -> None:
    stage = FaultAware(
        top=1,
        warmup_steps=1,
        clip=0.5,
        trainable=trainable,
        optimization=Optimization(epochs=2, batch_size=16, learning_rate=0.05),
    )
    hardened = stage.apply(Candidate(net), TrainingContext(data))
    before, after = (
        {layer: folded(model, layer, factors_of(model)) for layer in LAYERS}
        for model in (net, hardened.model)
    )
    for layer in LAYERS:
        assert after[layer].max() <= 0.5001 * before[layer].max()
        assert after[layer].min() >= 0.5001 * before[layer].min()
