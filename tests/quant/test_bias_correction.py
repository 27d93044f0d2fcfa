"""Biases absorb the mean error of quantization."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.rng import make_generator
from bitproof.quant import AffineQuantizer, Scheme, quantize_graph, run_floats, trace
from bitproof.quant.bias_correction import correct_biases

SCHEMES = {
    "three bits": Scheme(weight=AffineQuantizer(bits=3), activation_bits=6),
    "int32 biases, truncated weights": Scheme(
        weight=AffineQuantizer(rounding="truncate"), bias=None
    ),
}


def mean_error(network: Any, graph: Any, images: Tensor) -> float:
    """Return the size of the mean difference of the logits, over the images."""
    with torch.no_grad():
        return float((network(images) - run_floats(graph, images)).mean(0).norm())


@pytest.mark.parametrize("name", SCHEMES)
def test_correction_reduces_the_mean_error(name: str, resnet20: nn.Module, cifar10: Any) -> None:
    images, scheme = cifar10.train.inputs(slice(32)), SCHEMES[name]
    graph = trace(resnet20, images)
    network = quantize_graph(graph, images, scheme)
    fixed = correct_biases(network, graph, images, scheme)
    assert mean_error(fixed, graph, images) < 0.5 * mean_error(network, graph, images)
    unseen = cifar10.test.inputs(slice(50))
    assert mean_error(fixed, graph, unseen) < 0.8 * mean_error(network, graph, unseen)


def test_correction_changes_biases_only() -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 3, 6, 6, generator=make_generator(0))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3, bias=False))
    scheme = SCHEMES["three bits"]
    graph = trace(model, images)
    network = quantize_graph(graph, images, scheme)
    before = {name: codes.clone() for name, (codes, _) in network.codes().items()}
    fixed = correct_biases(network, graph, images, scheme)
    assert {name for name in before if fixed.tensors[name] is not network.tensors[name]} == {
        "0.bias"
    }
    assert all(torch.equal(network.tensors[name].codes, before[name]) for name in before)
    assert fixed.grids is network.grids
    assert torch.equal(fixed.differentiable(images), fixed(images))


def test_correction_of_one_layer_leaves_less_than_a_step_of_its_bias() -> None:
    torch.manual_seed(0)
    images = torch.rand(128, 20, generator=make_generator(0))
    scheme = Scheme(weight=AffineQuantizer(bits=2), bias=None)
    graph = trace(nn.Sequential(nn.Linear(20, 5)), images)
    fixed = correct_biases(quantize_graph(graph, images, scheme), graph, images, scheme)
    with torch.no_grad():
        off = (fixed(images) - run_floats(graph, images)).mean(0)
    assert bool((off.abs() <= fixed.tensors["0.bias"].grid.scale * 0.51 + 1e-5).all())
