"""The execution with gradients: the same words, and gradients that point the right way."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import InputRangeError
from bitproof.quant import (
    AffineQuantizer,
    Grid,
    IntegerNetwork,
    Node,
    Scheme,
    quantize,
    quantize_graph,
    run_differentiable,
    run_floats,
    run_integers,
    trace,
)

SCHEMES = {
    "default": Scheme(),
    "four bits": Scheme(weight=AffineQuantizer(bits=4), activation_bits=4),
    "per channel, int32 biases, truncated": Scheme(
        weight=AffineQuantizer(symmetric=True, signed=True, per_channel=True),
        bias=None,
        activation_signed=True,
        activation_rounding="truncate",
    ),
}


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))


def input_gradient(run: Any, images: Tensor, labels: Tensor) -> Tensor:
    leaf = images.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(run(leaf), labels, reduction="sum")
    return torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("name", SCHEMES)
def test_every_word_of_a_real_network_agrees_on_real_images(
    name: str, resnet20: nn.Module, cifar10: Any
) -> None:
    network = quantize(resnet20, cifar10.train.inputs(slice(128)), SCHEMES[name])
    images = cifar10.test.inputs()
    assert len(images) == 100
    seen: dict[str, Tensor] = {}

    def keep(node: Node, codes: Tensor, grid: Grid) -> Tensor:
        seen[node.name] = codes.float() - grid.zero_point
        return codes

    differing: list[str] = []

    def compare(node: Node, centered: Tensor) -> None:
        if node.name in seen and not torch.equal(centered, seen[node.name]):
            differing.append(node.name)

    logits = run_integers(network, images, corrupt=keep)
    assert torch.equal(run_differentiable(network, images, observe=compare), logits)
    assert differing == []
    assert len(seen) == 1 + 19 + 9 + 1  # input, convolutions, sums, pooling; the logits stay wide


def test_integers_classify_as_well_as_floats(resnet20: nn.Module, cifar10: Any) -> None:
    network = quantize(resnet20, cifar10.train.inputs(slice(128)))
    hits = network(cifar10.test.inputs()).argmax(1) == cifar10.test.labels
    assert float(hits.float().mean()) >= 0.9


def small() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.GELU(),
        nn.Conv2d(6, 6, 3),
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        nn.GroupNorm(2, 6),
        nn.Flatten(),
        nn.Linear(24, 12),
        nn.LayerNorm(12),
        nn.Linear(12, 3),
    ).eval()
    return model, torch.rand(64, 2, 6, 6)


def test_gradient_points_where_finite_differences_of_the_floats_do() -> None:
    model, images = small()
    graph = trace(model, images)
    network = quantize_graph(graph, images)
    labels = torch.arange(4) % 3
    ours = input_gradient(network.differentiable, images[:4], labels)
    doubled = {key: tensor.double() for key, tensor in graph.tensors.items()}
    exact = type(graph)(graph.nodes, doubled)
    found, step = torch.zeros_like(images[:4], dtype=torch.float64), 1e-5
    for place in range(images[0].numel()):
        moved = torch.zeros_like(found[0]).flatten()
        moved[place] = step
        losses = [
            torch.nn.functional.cross_entropy(
                run_floats(exact, images[:4].double() + sign * moved.view_as(found[0])),
                labels,
                reduction="none",
            )
            for sign in (1, -1)
        ]
        found.view(4, -1)[:, place] = (losses[0] - losses[1]) / (2 * step)
    assert cosine(ours, found.float()) > 0.98
    assert float(ours.norm() / found.norm()) == pytest.approx(1.0, abs=0.1)


def test_gradient_of_a_real_network_is_near_that_of_the_floats(
    resnet20: nn.Module, cifar10: Any
) -> None:
    network = quantize(resnet20, cifar10.train.inputs(slice(128)))
    images, labels = cifar10.test.inputs(slice(8)), cifar10.test.labels[:8]
    ours, floats = (
        input_gradient(run, images, labels) for run in (network.differentiable, resnet20)
    )
    assert cosine(ours, floats) > 0.8


def relu_network() -> IntegerNetwork:
    """Return relu(x - 0.5) for each of four inputs, summed by a linear layer."""
    inner, outer = nn.Linear(4, 4), nn.Linear(4, 1)
    with torch.no_grad():
        inner.weight.copy_(torch.eye(4))
        inner.bias.fill_(-0.5)
        outer.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
        outer.bias.zero_()
    return quantize(nn.Sequential(inner, nn.ReLU(), outer), torch.rand(256, 4))


def test_gradient_is_zero_where_a_clamp_clamps() -> None:
    network = relu_network()
    images = torch.tensor([[0.1, 0.9, 0.3, 0.8]], requires_grad=True)
    (gradient,) = torch.autograd.grad(network.differentiable(images).sum(), images)
    assert gradient[0, [0, 2]].tolist() == [0.0, 0.0]
    assert gradient[0, [1, 3]].tolist() == pytest.approx([2.0, 4.0], rel=0.05)


def test_gradient_is_zero_beyond_the_range_of_the_words() -> None:
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.fill_(0.0)
    network = quantize(nn.Sequential(model, nn.Sigmoid(), nn.Linear(1, 1)), torch.full((8, 1), 0.5))
    images = torch.tensor([[0.25], [1.0]], requires_grad=True)  # calibration saw no more than 0.5
    (gradient,) = torch.autograd.grad(network.differentiable(images).sum(), images)
    assert float(gradient[0]) != 0
    assert float(gradient[1]) == 0


def test_no_gradient_is_kept_where_none_is_wanted() -> None:
    network = relu_network()
    assert not network.differentiable(torch.rand(2, 4)).requires_grad
    assert not network(torch.rand(2, 4, requires_grad=True)).requires_grad


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), 255.0])
def test_inputs_outside_the_unit_range_are_refused(value: float) -> None:
    network = relu_network()
    images = torch.tensor([[0.5, 0.5, 0.5, value]])
    for run in (network, network.differentiable, lambda x: quantize(nn.Linear(4, 2), x)):
        with pytest.raises(InputRangeError, match=r"\[0, 1\]"):
            run(images)
