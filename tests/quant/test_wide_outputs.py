"""What follows the last accumulators works on real logits, in every execution."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import WeightsError
from bitproof.core.rng import make_generator
from bitproof.quant import IntegerNetwork, Scheme, load_network, quantize, save_network
from bitproof.quant.weight_gradient import KeptRun
from bitproof.quant.wide_outputs import exponential
from tests.quant.unsealed import save_unsealed

Ending = Callable[[Tensor], Tensor]
ENDINGS: dict[str, Ending] = {
    "view": lambda y: y.view(y.shape[0], 2, 3),
    "slice": lambda y: y[:, 1:4],
    "scaling": lambda y: y * 0.3,
    "permute": lambda y: y.view(-1, 2, 3).permute(0, 2, 1),
    "sigmoid": torch.sigmoid,
    "one sigmoid": lambda y: torch.sigmoid(y[:, :1]).view(-1),
    "softmax": lambda y: torch.softmax(y, 1),
    "temperature": lambda y: torch.softmax(y * 0.5, 1),
}


class Model(nn.Module):
    def __init__(self, ending: Ending) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear, self.ending = nn.Conv2d(2, 3, 3), nn.Linear(27, 6), ending
        with torch.no_grad():
            self.linear.weight *= 6

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.conv(images)).flatten(1)
        return self.ending(self.linear(maps))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(40, 2, 5, 5, generator=make_generator(0))


def network_of(name: str, images: Tensor) -> tuple[nn.Module, IntegerNetwork]:
    model = Model(ENDINGS[name]).eval()
    return model, quantize(model, images, Scheme("accurate"))


@pytest.mark.parametrize("name", ENDINGS)
def test_outputs_are_real_and_those_of_the_slow_execution(
    name: str, images: Tensor, reference_logits: Callable[..., Any]
) -> None:
    model, network = network_of(name, images)
    found = network(images)
    assert network.nodes[-1].name not in network.grids
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.from_numpy(np.array(reference_logits(network, images))))
    assert torch.equal(network.differentiable(images), found)
    with torch.no_grad():
        assert (found - model(images)).abs().max() < 0.03 * model(images).abs().max()


def test_single_answers_do_not_tie(images: Tensor) -> None:
    _, network = network_of("one sigmoid", images)
    assert len(set(network(images).tolist())) == len(images)


@pytest.mark.parametrize("name", ENDINGS)
def test_gradients_are_those_of_the_ending_on_the_logits_of_the_network(
    name: str, images: Tensor
) -> None:
    _, network = network_of(name, images)
    bare = quantize(Model(lambda y: y).eval(), images, Scheme("accurate"))
    slope = torch.randn(network(images).shape, generator=make_generator(1))
    found, wanted = (images.clone().requires_grad_() for _ in range(2))
    (own,) = torch.autograd.grad((network.differentiable(found) * slope).sum(), found)
    outputs = ENDINGS[name](bare.differentiable(wanted))
    (other,) = torch.autograd.grad((outputs * slope).sum(), wanted)
    assert own.abs().max() > 0
    assert torch.allclose(own, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ENDINGS)
def test_kept_runs_hold_the_answers_and_give_the_gradients_of_weights(
    name: str, images: Tensor
) -> None:
    _, network = network_of(name, images)
    bare = quantize(Model(lambda y: y).eval(), images, Scheme("accurate"))
    run, plain = KeptRun.of(network, images), KeptRun.of(bare, images)
    assert torch.equal(run.logits, network(images))
    slope = torch.randn(run.logits.shape, generator=make_generator(1))
    logits = plain.logits.clone().requires_grad_()
    (by_logits,) = torch.autograd.grad((ENDINGS[name](logits) * slope).sum(), logits)
    layers = ["conv", "linear"]
    found = run.weight_gradients(slope, layers)
    wanted = plain.weight_gradients(by_logits, layers)
    for layer in layers:
        assert found[layer].abs().max() > 0
        assert torch.allclose(found[layer], wanted[layer], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["view", "sigmoid", "temperature"])
def test_stored_networks_answer_the_same(name: str, images: Tensor, tmp_path: Path) -> None:
    _, network = network_of(name, images)
    save_network(network, tmp_path / "network")
    again = load_network(tmp_path / "network")
    assert again.digest() == network.digest()
    assert torch.equal(again(images), network(images))


def test_a_stored_network_that_lacks_a_grid_elsewhere_is_refused(
    images: Tensor, tmp_path: Path
) -> None:
    _, network = network_of("view", images)
    save_unsealed(network, tmp_path / "network")
    path = tmp_path / "network.json"
    layout = json.loads(path.read_text())
    del layout["grids"]["conv"]
    path.write_text(json.dumps(layout))
    with pytest.raises(WeightsError, match="has no grid"):
        load_network(tmp_path / "network")


def test_sums_that_are_read_twice_keep_their_grid(images: Tensor) -> None:
    model = Model(lambda y: torch.cat([y[:, :2], y[:, 2:]], 1)).eval()
    network = quantize(model, images)
    assert all(node.name in network.grids for node in network.nodes)


def test_the_exponential_is_that_of_the_library_to_an_ulp() -> None:
    values = torch.cat([torch.linspace(-40, 0, 4001), torch.linspace(-700, 0, 701)]).double()
    wanted = torch.tensor([math.exp(value) for value in values.tolist()], dtype=torch.float64)
    assert ((exponential(values) - wanted).abs() <= 2.3e-16 * wanted).all()
    assert exponential(torch.tensor([-1e9, -math.inf], dtype=torch.float64)).max() < 1e-300
