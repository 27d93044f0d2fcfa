"""The gradient by stored weights: as autograd gives it, whatever lies between."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitproof.core.rng import make_generator
from bitproof.quant import IntegerNetwork, Scheme, quantize, run_differentiable
from bitproof.quant.quantizer import AffineQuantizer
from bitproof.quant.weight_gradient import KeptRun, weighted_layers


class Branches(nn.Module):
    """Groups, strides, padding, sums of several sorts, and a function in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.groups = nn.Conv2d(4, 4, 3, padding=2, stride=2, dilation=2, groups=2)
        self.point = nn.Conv2d(4, 4, 1)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        left, right = torch.relu(self.groups(x)), nn.functional.gelu(self.point(x))
        x = torch.cat([left - 0.1, left + nn.functional.max_pool2d(right, 2)], 1)
        result: Tensor = self.last(nn.functional.avg_pool2d(x, 4).flatten(1))
        return result


def draw(model: nn.Module, shape: tuple[int, ...], scheme: Scheme) -> tuple[Any, Tensor, Tensor]:
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            noise = torch.randn(weight.shape, generator=make_generator(1, number))
            weight.copy_(0.4 * noise)
    images = torch.rand(shape, generator=make_generator(0))
    labels = torch.arange(len(images)) % 3
    return quantize(model.eval(), images, scheme), images, labels


def by_autograd(network: IntegerNetwork, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the gradient by centered weights that are leaves of the differentiable run."""
    layers = [node.name for node in weighted_layers(network)]
    leaves, constants = {}, dict(network.constants)
    for layer in layers:
        weight = constants[layer].in_float32.weight
        assert weight is not None
        leaves[layer] = weight.clone().requires_grad_()
        constants[layer] = replace(constants[layer].in_float32, weight=leaves[layer])
    changed = replace(network)
    changed.__dict__["constants"] = constants
    loss = cross_entropy(run_differentiable(changed, images), labels)
    found = torch.autograd.grad(loss, list(leaves.values()))
    return dict(zip(layers, found, strict=True))


def slope_of(logits: Tensor, labels: Tensor) -> Tensor:
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(cross_entropy(leaf, labels), leaf)[0]


SCHEMES = {
    "default": Scheme(),
    "per channel": Scheme(weight=AffineQuantizer(bits=4, per_channel=True), activation_signed=True),
    "truncated": Scheme(activation_rounding="truncate", bias=None),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gradient_is_that_of_autograd(scheme: str) -> None:
    network, images, labels = draw(Branches(), (7, 2, 8, 8), SCHEMES[scheme])
    run = KeptRun.of(network, images)
    assert torch.equal(run.logits, network(images))
    layers = [node.name for node in weighted_layers(network)]
    assert {"first", "groups", "point", "last"} <= set(layers)
    found = run.weight_gradients(slope_of(run.logits, labels), layers)
    expected = by_autograd(network, images, labels)
    for layer in layers:
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-4, atol=1e-7)
        assert found[layer].abs().max() > 0


def test_gradient_of_one_layer_is_the_same_alone() -> None:
    network, images, labels = draw(Branches(), (7, 2, 8, 8), Scheme())
    run = KeptRun.of(network, images)
    slope = slope_of(run.logits, labels)
    both = run.weight_gradients(slope, ["groups", "first"])
    assert sorted(both) == ["first", "groups"]
    assert torch.equal(run.weight_gradients(slope, ["groups"])["groups"], both["groups"])


def test_a_run_goes_on_from_the_layer_that_changed() -> None:
    network, images, labels = draw(Branches(), (7, 2, 8, 8), Scheme())
    run = KeptRun.of(network, images)
    before = run.logits.clone()
    codes = network.tensors["groups.weight"].codes ^ 128
    changed = network.with_codes({"groups.weight": codes})
    after, anew = run.after_change(changed, "groups"), KeptRun.of(changed, images)
    assert torch.equal(after.logits, anew.logits)
    assert torch.equal(run.logits, before)
    assert not torch.equal(after.logits, before)
    slope = slope_of(anew.logits, labels)
    one, other = (r.weight_gradients(slope, ["first", "last"]) for r in (after, anew))
    assert all(torch.equal(one[layer], other[layer]) for layer in one)


def test_attention_and_norms_let_the_gradient_through() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.norm = nn.Linear(5, 8), nn.LayerNorm(8)
            self.query, self.key, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.embed(x))
            scores = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(2)
            result: Tensor = self.head((scores @ x).mean(1))
            return result

    network, images, labels = draw(Attention(), (6, 4, 5), Scheme())
    run = KeptRun.of(network, images)
    layers = [node.name for node in weighted_layers(network)]
    found = run.weight_gradients(slope_of(run.logits, labels), layers)
    expected = by_autograd(network, images, labels)
    for layer in layers:
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-3, atol=1e-7)
