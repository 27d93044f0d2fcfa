"""Gradients through table products are those of exact products; values are those of the tables."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.approx import Drum, Exact, Mitchell, Multiplier, Truncated
from bitproof.quant import AffineQuantizer, IntegerNetwork, Node, Scheme, quantize
from bitproof.quant.arithmetic import accumulate
from bitproof.quant.constants import Constants
from bitproof.quant.operations import MAC_OPS
from bitproof.quant.pass_gradient import through_exact
from bitproof.quant.products import Products

SHAPES: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "conv": ({}, (2, 3, 6, 5), (4, 3, 3, 3)),
    "stride": ({"stride": [2, 3]}, (2, 3, 8, 9), (4, 3, 3, 2)),
    "padding": ({"padding": [1, 2]}, (2, 3, 4, 5), (4, 3, 3, 5)),
    "dilation": ({"dilation": [2, 3]}, (2, 2, 9, 9), (3, 2, 3, 2)),
    "groups": ({"groups": 2, "padding": [1, 1]}, (2, 4, 5, 5), (6, 2, 3, 3)),
    "depthwise": ({"groups": 4, "stride": [2, 2]}, (2, 4, 7, 7), (8, 1, 3, 3)),
    "faulty kernel": ({"groups": 2, "stride": [2, 2]}, (2, 2, 5, 3), (2, 1, 3, 3)),
    "all at once": (
        {"groups": 3, "stride": [3, 2], "padding": [2, 1], "dilation": [1, 2]},
        (2, 6, 8, 7),
        (3, 2, 3, 2),
    ),
    "line": ({"stride": [2], "padding": [1], "dilation": [2]}, (2, 3, 9), (4, 3, 3)),
    "line in groups": ({"groups": 3, "stride": [1], "padding": [0]}, (2, 6, 9), (3, 2, 3)),
    "linear": ({}, (2, 3, 5), (4, 5)),
    "affine": ({}, (2, 3, 4, 4), (3,)),
    "matmul": ({}, (2, 3, 4, 5), (2, 3, 5, 6)),
}


def draw(name: str) -> tuple[Node, Constants, list[Tensor]]:
    """Return a node with whole numbers for its operands."""
    given, inside, stored = SHAPES[name]
    axes, op = len(stored) - 2, name if name in MAC_OPS else "conv"
    moves = ("stride", 1), ("padding", 0), ("dilation", 1)
    attrs: dict[str, Any] = {key: [low] * axes for key, low in moves}
    attrs |= {"groups": 1, **given} if op == "conv" else {}
    random = np.random.default_rng([*name.encode()])
    x, weight = (
        torch.from_numpy(random.integers(-128, 128, shape)).float() for shape in (inside, stored)
    )
    if op == "matmul":
        constants = Constants((0, 0), (1.0, 1.0), dtype=torch.float32)
        return Node("y", op, ("x", "z"), attrs), constants, [x, weight]
    bias = torch.from_numpy(random.integers(-999, 999, stored[0])).float()
    constants = Constants((0,), (1.0,), weight, bias, torch.float32)
    return Node("y", op, ("x",), attrs), constants, [x]


@pytest.mark.parametrize("name", SHAPES)
def test_the_gradient_is_that_of_the_exact_sums(name: str) -> None:
    node, constants, operands = draw(name)
    leaves = [operand.clone().requires_grad_() for operand in operands]
    exact = accumulate(node, constants, leaves)
    above = torch.randint(-9, 9, exact.shape, generator=torch.Generator().manual_seed(0)).float()
    wanted = torch.autograd.grad(exact, leaves, above)
    others = [operand.clone().requires_grad_() for operand in operands]
    sums = exact.detach() + 77.5
    through = through_exact(node, constants, others, sums)
    assert torch.equal(through, sums)
    found = torch.autograd.grad(through, others, above)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)  # whole numbers below 2**24


def test_only_operands_that_want_a_gradient_get_one() -> None:
    node, constants, (left, right) = draw("matmul")
    left.requires_grad_()
    sums = accumulate(node, constants, [left, right]).detach()
    through_exact(node, constants, [left, right], sums).sum().backward()  # type: ignore[no-untyped-call]
    assert left.grad is not None
    assert torch.equal(left.grad, right.sum(3)[:, :, None].expand_as(left))
    assert right.grad is None


class Block(nn.Module):
    """Convolutions over two axes and one, a norm, attention, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.line = nn.Conv1d(4, 4, 3, padding=1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.relu(self.stem(x)))
        x = self.line(torch.relu(self.deep(x)).flatten(2)).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        logits: Tensor = self.head(x[:, 0])
        return logits


SCHEMES = {
    "rquant": Scheme(),
    "signed": Scheme(
        weight=AffineQuantizer(symmetric=True, signed=True, per_channel=True),
        bias=None,
        activation_signed=True,
        activation_bits=6,
    ),
}


def block(scheme: str) -> tuple[IntegerNetwork, Tensor]:
    torch.manual_seed(1)
    images = torch.rand(8, 2, 6, 6)
    return quantize(Block().eval(), images, SCHEMES[scheme]), images[:3]


def put_on(network: IntegerNetwork, multiplier: Multiplier) -> IntegerNetwork:
    table, products = multiplier.table(), {}
    for node in network.nodes:
        if node.op in MAC_OPS:
            weight = network.tensors.get(f"{node.name}.weight")
            filters = 1 if weight is None else len(weight.codes)
            products[node.name] = Products.of(table.products, signed=table.signed, filters=filters)
    return replace(network, products=products)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_values_equal_those_of_the_integer_execution(scheme: str, signed: bool) -> None:
    network, images = block(scheme)
    for multiplier in (Truncated(columns=5, signed=signed), Drum(width=3, signed=signed)):
        own = put_on(network, multiplier)
        wanted = own(images)
        assert torch.equal(own.differentiable(images), wanted)
        assert torch.equal(own.differentiable(images.clone().requires_grad_()), wanted)
        assert not torch.equal(wanted, network(images))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_exact_tables_have_the_gradient_of_the_network(scheme: str) -> None:
    network, images = block(scheme)
    gradients = []
    for own in (network, put_on(network, Exact()), put_on(network, Exact(signed=True))):
        x = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(own.differentiable(x).square().sum(), x)
        gradients.append(gradient)
    assert bool(gradients[0].any())
    # Sums of the same numbers in another order: rounding differs.
    for gradient in gradients[1:]:
        assert torch.allclose(gradient, gradients[0], rtol=1e-4, atol=1e-7)


def test_attacks_get_a_gradient_through_approximate_products() -> None:
    network, images = block("rquant")
    x = images.clone().requires_grad_()
    logits = put_on(network, Mitchell()).differentiable(x)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert gradient.shape == x.shape
    assert bool(gradient.isfinite().all())
    assert bool(gradient.any())
