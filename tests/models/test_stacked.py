"""Uneven pooling is torch's, and runs on integers."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from bitproof.core.rng import make_generator
from bitproof.models.stacked import UnevenAvgPool2d, average_to
from bitproof.quant import quantize


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("side", range(1, 16))
def test_means_are_those_of_adaptive_pooling(size: int, side: int) -> None:
    maps = torch.rand(2, 3, side, side, generator=make_generator(side))
    wanted = functional.adaptive_avg_pool2d(maps, size)
    assert torch.allclose(average_to(size, side=side)(maps), wanted, rtol=1e-5)
    assert torch.allclose(UnevenAvgPool2d(size, side)(maps), wanted, rtol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 9])
def test_it_runs_on_integers_near_the_floats(side: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.ReLU(), UnevenAvgPool2d(7, side), nn.Flatten(), nn.Linear(196, 3)
    ).eval()
    images = torch.rand(16, 1, side, side, generator=make_generator(side))
    network = quantize(model, images)
    with torch.no_grad():
        wanted = model(images)
    got = network(images)
    assert torch.equal(got, network.differentiable(images))
    assert float((got - wanted).abs().max()) < 0.05 * float(wanted.max() - wanted.min())
