"""Weights whose sums would wrap in int32 accumulators get coarser grids, or are refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import QuantizationError
from bitproof.core.rng import make_generator
from bitproof.quant import AffineQuantizer, IntegerNetwork, Scheme, quantize

PER_CHANNEL = AffineQuantizer(symmetric=True, signed=True, per_channel=True, margin=0.0)
SCHEMES = [
    Scheme(),
    Scheme(bias=None),
    Scheme(weight=PER_CHANNEL, bias=None),
    Scheme(weight=AffineQuantizer(per_channel=True), bias=None),
    Scheme(weight=AffineQuantizer(per_channel=True), activation_signed=True),
]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(32, 3, 6, 6, generator=make_generator(0))


def far_from_zero() -> nn.Module:
    """Return a layer whose weights differ from each other by a thousandth."""
    layer = nn.Linear(108, 3)
    with torch.no_grad():
        layer.weight.copy_(0.02 + 2e-5 * torch.rand(3, 108, generator=make_generator(1)))
        layer.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    return nn.Sequential(nn.Flatten(), layer)


def all_but_dead_channel() -> nn.Module:
    """Return a convolution one of whose channels has a bias and next to no weights."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        layer.weight[1] *= 1e-11
        layer.load_state_dict({**layer.state_dict(), "bias": torch.tensor([0.3, 1.0, -2.0, 0.5])})
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(64, 3))


def largest_sum(network: IntegerNetwork, layer: str) -> int:
    """Return a bound on the sums of a layer, in Python integers."""
    node = next(node for node in network.nodes if node.name == layer)
    read, coded = network.grids[node.inputs[0]], network.tensors[f"{layer}.weight"]
    peak = max(abs(read.low - int(read.zero_point)), abs(read.high - int(read.zero_point)))
    rows = coded.codes.reshape(len(coded.codes), -1).tolist()
    points = coded.grid.zero_point.expand(len(rows)).tolist()
    steps = network.constants[layer].bias
    assert steps is not None
    bounds: list[int] = [
        sum(abs(code - point) * peak for code in row) + abs(int(bias))
        for row, point, bias in zip(rows, points, steps.tolist(), strict=True)
    ]
    return max(bounds)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("build", [far_from_zero, all_but_dead_channel])
def test_answers_stay_those_of_the_float_network(
    build: Callable[[], nn.Module], scheme: Scheme, images: Tensor
) -> None:
    model = build().eval()
    network = quantize(model, images, scheme)
    for node in network.nodes:
        if f"{node.name}.weight" in network.tensors:
            assert largest_sum(network, node.name) < 2**31
    with torch.no_grad():
        assert (network(images) - model(images)).abs().max() < 0.03


@pytest.mark.parametrize("scheme", [SCHEMES[0], SCHEMES[3]])
def test_sums_near_the_limit_are_those_of_the_slow_execution(
    scheme: Scheme, images: Tensor, reference_logits: Callable[..., Any]
) -> None:
    network = quantize(far_from_zero(), images, scheme)
    assert largest_sum(network, "1") > 2**24
    assert torch.equal(network(images), torch.tensor(reference_logits(network, images)))


def test_differences_between_weights_far_from_zero_are_kept_as_far_as_sums_allow(
    images: Tensor,
) -> None:
    model = far_from_zero()
    network = quantize(model, images)
    found, wanted = network.tensors["1.weight"].values(), model.state_dict()["1.weight"]
    assert (found - wanted).abs().max() < 2e-6
    assert len(set(network.tensors["1.weight"].codes.flatten().tolist())) > 20


def test_layers_that_cannot_wrap_keep_the_grid_that_the_quantizer_gives(images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    for quantizer in (AffineQuantizer(), PER_CHANNEL):
        grid = quantize(model, images, Scheme(weight=quantizer)).tensors["1.weight"].grid
        wanted = quantizer.fit(model.state_dict()["1.weight"])
        assert torch.equal(grid.scale, wanted.scale)
        assert torch.equal(grid.zero_point, wanted.zero_point)


def test_a_range_that_may_not_grow_is_refused_by_name(images: Tensor) -> None:
    layer = nn.Linear(108, 3)
    with torch.no_grad():
        layer.bias.fill_(100.0)
    narrow = AffineQuantizer(symmetric=True, fixed_range=1e-6)
    with pytest.raises(QuantizationError, match=r"^1: sums of up to .* would wrap"):
        quantize(nn.Sequential(nn.Flatten(), layer), images, Scheme(weight=narrow, bias=None))
