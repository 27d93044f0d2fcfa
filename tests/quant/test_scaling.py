"""Scaling factors against the grids of a network, and moments and flips against slow loops."""

import json

import pytest
import torch
from torch import nn

from bitproof.core.errors import QuantizationError
from bitproof.core.rng import make_generator
from bitproof.quant import IntegerNetwork, Scheme, quantize
from bitproof.quant.scaling import mean_scaling, scaling_factors

SCHEMES = {
    "unsigned": Scheme(),
    "signed symmetric": Scheme(activation_symmetric=True, activation_signed=True),
    "narrow words": Scheme(activation_bits=4),
}


def images() -> torch.Tensor:
    return torch.rand(150, 2, 6, 6, generator=make_generator(0, "images"))


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(36, 3),
        ).eval()


def network(scheme: Scheme) -> IntegerNetwork:
    return quantize(model(), images(), scheme)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_figures_of_each_layer(scheme: Scheme) -> None:
    found_network, inputs = network(scheme), images()
    found = scaling_factors(found_network, inputs)
    assert [each.layer for each in found] == ["0", "4"]
    first, last = found
    read = found_network.grids[found_network.nodes[1].inputs[0]]
    words = (inputs / read.scale).round() * read.scale  # zero lies on the grid
    assert first.activation == float(read.scale)
    assert first.rms == pytest.approx(float(words.square().mean().sqrt()), rel=1e-3)
    for each in found:
        weight = found_network.tensors[f"{each.layer}.weight"].grid
        assert each.weight == pytest.approx(float(weight.scale))
        assert each.product == pytest.approx(each.weight * each.activation)
        assert each.relative_step == pytest.approx(each.activation / each.rms)
        bits = scheme.activation_bits
        assert each.mean_flip == pytest.approx(each.activation**2 * (4**bits - 1) / (3 * bits))
        assert each.relative_flip == pytest.approx(each.mean_flip**0.5 / each.rms)
        assert sum(each.distribution) == pytest.approx(1)
    shares = torch.histc(words / words.max(), bins=25, min=-1, max=1) / words.numel()
    assert first.distribution == pytest.approx(shares.tolist(), abs=0.02)
    assert last.distribution[0] == 0  # behind a ReLU
    json.dumps(first.to_dict())


def test_a_flip_moves_every_word_by_what_is_told() -> None:
    for scheme in SCHEMES.values():
        found_network = network(scheme)
        grid = found_network.grids[found_network.nodes[1].inputs[0]]
        flip = scaling_factors(found_network, images())[0].flip
        codes = torch.arange(grid.low, grid.high + 1)
        for bit, squared in enumerate(flip):
            struck = codes ^ (1 << bit)
            if grid.signed and bit == grid.bits - 1:
                struck = torch.where(codes < 0, codes + (1 << bit), codes - (1 << bit))
            change = (struck - codes).double() * float(grid.scale)
            assert torch.allclose(change.square(), torch.full_like(change, squared))


def test_the_mean_is_geometric() -> None:
    found = scaling_factors(network(Scheme()), images())
    wanted = (found[0].product * found[1].product) ** 0.5
    assert mean_scaling(found, "product") == pytest.approx(wanted)


def test_black_images_have_no_relative_figures() -> None:
    found = scaling_factors(network(Scheme()), torch.zeros(2, 2, 6, 6))
    assert (found[0].rms, found[0].relative_step, found[0].relative_flip) == (0, 0, 0)


def test_without_layers_or_images_there_is_nothing_to_tell() -> None:
    with pytest.raises(QuantizationError, match="wanted a layer with weights, and images"):
        scaling_factors(network(Scheme()), images()[:0])
