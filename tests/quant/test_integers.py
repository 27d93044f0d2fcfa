"""Both executions of random small networks, bit for bit against the slow one in `conftest`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bitproof.quant import (
    AffineQuantizer,
    Grid,
    IntegerNetwork,
    Node,
    Scheme,
    quantize,
    run_differentiable,
    run_integers,
)
from bitproof.quant.arithmetic import sum_steps
from bitproof.quant.constants import Constants

Reference = Callable[[IntegerNetwork, Tensor], dict[str, Any]]
Logits = Callable[[IntegerNetwork, Tensor], Any]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "leaky": lambda: nn.LeakyReLU(0.125),
    "sigmoid": nn.Sigmoid,
    "hardswish": nn.Hardswish,
    "elu": nn.ELU,
}


class Convolution(nn.Module):
    """A convolution of any shape, batch norm or not, and an activation."""

    def __init__(self, width: int, draw: Callable[..., Any]) -> None:
        super().__init__()
        groups = draw(st.sampled_from([1, 1, 2 if width % 2 == 0 else width]))
        self.width = draw(st.sampled_from([groups, 2 * groups, 4]))
        self.width = self.width if self.width % groups == 0 else groups
        kernel = draw(st.sampled_from([1, 2, 3, (3, 1)]))
        self.conv = nn.Conv2d(
            width,
            self.width,
            kernel,
            stride=draw(st.sampled_from([1, 1, 2])),
            padding=draw(st.integers(0, 2)) if kernel == 3 else 0,
            dilation=draw(st.sampled_from([1, 1, 2])) if kernel != 3 else 1,
            groups=groups,
            bias=draw(st.booleans()),
        )
        self.norm = draw(
            st.sampled_from(
                [nn.Identity(), nn.BatchNorm2d(self.width), nn.GroupNorm(1, self.width)]
            )
        )
        self.act = ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))]()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.act(self.norm(self.conv(x)))
        return result


class Branches(nn.Module):
    """Two branches that meet again in one of many ways."""

    def __init__(self, width: int, draw: Callable[..., Any]) -> None:
        super().__init__()
        self.how = draw(
            st.sampled_from(["add", "sub", "gate", "concat", "normed", "shortcut", "stream"])
        )
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.scale = nn.Parameter(torch.rand(width, 1, 1))
        self.width = 2 * width if self.how in {"concat", "shortcut"} else width

    def forward(self, x: Tensor) -> Any:
        if self.how in {"add", "stream"}:  # a stream: a sum and a layer read it, and nothing clamps
            x = x if self.how == "add" else self.conv(x)
            return torch.relu(x + self.conv(x))
        if self.how == "sub":
            return x - self.norm(self.conv(x))
        if self.how == "gate":
            return x * torch.sigmoid(self.conv(x)) * self.scale
        if self.how == "concat":
            return torch.cat([self.conv(x), x], 1)
        if self.how == "normed":  # pre-activation: this norm cannot be folded
            return 0.5 * x + self.conv(functional.relu(self.norm(x)))
        return functional.pad(x[:, :, ::2, ::2], (1, 0, 0, 1, 0, self.width // 2))


class Pool(nn.Module):
    """A pooling layer of any kind; maps never get smaller than two."""

    def __init__(self, width: int, draw: Callable[..., Any]) -> None:
        super().__init__()
        self.width = width
        padding = draw(st.integers(0, 1))
        self.pool = draw(
            st.sampled_from(
                [
                    nn.MaxPool2d(2, 1, padding),
                    nn.MaxPool2d(3, 2, 1, ceil_mode=True),
                    nn.AvgPool2d(2, 1, padding),
                    nn.AvgPool2d((1, 2), 1),
                ]
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(x)
        return pooled


class Head(nn.Module):
    """From maps to three logits: pooled, flat, or by attention over positions."""

    def __init__(self, shape: torch.Size, draw: Callable[..., Any]) -> None:
        super().__init__()
        self.how = draw(st.sampled_from(["mean", "pool", "flat", "attention"]))
        width = shape[1]
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        flat = shape[1:].numel() if self.how == "flat" else width
        last = [nn.ReLU()] if draw(st.booleans()) else []
        self.out = nn.Sequential(nn.Linear(flat, 3), *last)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "mean":
            x = x.mean((2, 3))
        elif self.how == "pool":
            x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        elif self.how == "flat":
            x = x.view(x.size(0), -1)
        else:
            x = x.flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
            q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
            x = (torch.softmax(q @ k.transpose(1, 2) * 0.5, -1) @ v)[:, 0]
        logits: Tensor = self.out(x)
        return logits


def random_statistics_(model: nn.Module) -> None:
    """Give every norm weights and statistics of its own, zeros and signs included."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean, layer.running_var = torch.randn(2, layer.num_features)
            layer.running_var.square_().add_(0.1)
        if isinstance(layer, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)


@st.composite
def models(draw: Callable[..., Any]) -> tuple[nn.Module, Tensor]:
    """Draw a network and images for it."""
    seed = draw(st.integers(0, 2**32 - 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width, size = draw(st.integers(1, 3)), draw(st.integers(5, 6))
        images = torch.rand(12, width, size, size)
        stages: list[nn.Module] = []
        shape = images.shape
        for kind in draw(st.lists(st.sampled_from([Convolution, Branches, Pool]), max_size=3)):
            stage = kind(shape[1], draw).eval()
            if min(shape[2:]) < 5 and not isinstance(stage, Branches):
                continue
            stages.append(stage)
            with torch.no_grad():
                shape = nn.Sequential(*stages)(images).shape
        model = nn.Sequential(*stages, Head(shape, draw)).eval()
        random_statistics_(model)
    return model, images


rounding = st.sampled_from(["nearest", "truncate"])
quantizers = st.builds(
    AffineQuantizer,
    bits=st.integers(2, 8),
    rounding=rounding,
    symmetric=st.booleans(),
    signed=st.booleans(),
    per_channel=st.booleans(),
    narrow=st.booleans(),
)
schemes = st.builds(
    Scheme,
    weight=quantizers,
    bias=st.none() | quantizers,
    activation_bits=st.integers(2, 8),
    activation_symmetric=st.booleans(),
    activation_signed=st.booleans(),
    activation_rounding=rounding,
    calibration=st.sampled_from(["min_max", "percentile", "mse", "relative_mse"]),
    vector_bits=st.sampled_from([None, 16]),
)


def check_words(network: IntegerNetwork, images: Tensor, wanted: dict[str, Any]) -> None:
    """Compare every stored word of both executions with the slow one."""
    seen: dict[str, Tensor] = {}

    def keep(node: Node, codes: Tensor, grid: Grid) -> Tensor:
        del grid
        seen[node.name] = codes
        return codes

    def compare(node: Node, centered: Tensor) -> None:
        grid = network.grids.get(node.name)
        if grid is not None:
            codes = (centered + grid.zero_point).to(torch.int64).numpy()
            np.testing.assert_array_equal(codes, wanted[node.name], node.name)

    run_integers(network, images, corrupt=keep)
    for name, codes in seen.items():
        np.testing.assert_array_equal(codes.numpy(), wanted[name], name)
    run_differentiable(network, images, observe=compare)


def check(
    model: nn.Module, images: Tensor, scheme: Scheme, reference: Reference, logits: Logits
) -> None:
    network = quantize(model, images, scheme)
    shown = images[:2]
    expected = torch.from_numpy(np.array(logits(network, shown)))
    assert torch.equal(network(shown), expected)
    assert torch.equal(network.differentiable(shown), expected)
    check_words(network, shown, reference(network, shown))


few = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
many = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@few
@given(drawn=models(), scheme=schemes)
def test_both_executions_of_random_networks_equal_the_slow_one(
    drawn: tuple[nn.Module, Tensor],
    scheme: Scheme,
    reference: Reference,
    reference_logits: Logits,
) -> None:
    check(*drawn, scheme, reference, reference_logits)


@pytest.mark.slow
@many
@given(drawn=models(), scheme=schemes)
def test_both_executions_of_many_random_networks_equal_the_slow_one(
    drawn: tuple[nn.Module, Tensor],
    scheme: Scheme,
    reference: Reference,
    reference_logits: Logits,
) -> None:
    check(*drawn, scheme, reference, reference_logits)


# --- accumulators ---------------------------------------------------------------------------------

WIDE = Scheme(weight=AffineQuantizer(symmetric=True, signed=True), bias=None)


def loud(layer: nn.Module, *shape: int, bias: int) -> IntegerNetwork:
    """Return a network of one layer whose products are as large as can be, and all odd."""
    network = quantize(layer, torch.rand(4, *shape), WIDE)
    name = next(iter(network.tensors)).rpartition(".")[0]
    weight, old = (network.tensors[f"{name}.{key}"].codes for key in ("weight", "bias"))
    return network.with_codes(
        {
            f"{name}.weight": torch.full_like(weight, 127),
            f"{name}.bias": torch.full_like(old, bias),
        }
    )


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Linear(701, 3), (701,)), (nn.Conv2d(70, 2, 3, padding=1), (70, 4, 4))],
    ids=["linear", "conv"],
)
def test_accumulators_beyond_single_precision_are_exact(
    layer: nn.Module, shape: tuple[int, ...], reference_logits: Logits
) -> None:
    network = loud(layer, *shape, bias=1)
    images = torch.ones(1, *shape)
    # The largest sum is odd and above 2**24, where single precision knows even numbers only.
    assert 255 * 127 * 631 + 1 > 2**24
    assert torch.equal(
        network(images), torch.from_numpy(np.array(reference_logits(network, images)))
    )


@pytest.mark.parametrize("bias", [2**31 - 1, 2**31 - 20_000_000, -(2**31)])
def test_accumulators_wrap_at_32_bits(bias: int, reference_logits: Logits) -> None:
    network = loud(nn.Linear(701, 3), 701, bias=bias)
    images = torch.stack([torch.ones(701), torch.zeros(701)])
    expected = torch.from_numpy(np.array(reference_logits(network, images)))
    assert torch.equal(network(images), expected)
    assert bool((expected[0] < 0).all())  # the large sum has come around, or stayed below zero


def test_differentiable_accumulators_wrap_too() -> None:
    network = loud(nn.Linear(701, 3), 701, bias=2**31 - 20_000_000)
    images = torch.stack([torch.ones(701), torch.zeros(701)])
    # Single precision knows multiples of 128 only up there, and each sum may be rounded often.
    step = 4096 * float(network.constants["0"].multipliers[0])
    assert torch.allclose(network.differentiable(images), network(images), atol=step)


@pytest.mark.filterwarnings("ignore:TF32")
def test_sums_in_floats_are_exact_without_onednn(cifar10: Any, resnet20: nn.Module) -> None:
    """NNPACK, which torch takes instead, would multiply by fractions (Winograd)."""
    network = quantize(resnet20, cifar10.train.inputs(slice(64)))
    images = cifar10.test.inputs(slice(16))
    expected = network(images)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(run_integers(network, images, native=False), expected)
        assert torch.equal(network.differentiable(images), expected)


def test_batch_size_does_not_matter(cifar10: Any, resnet20: nn.Module) -> None:
    network = quantize(resnet20, cifar10.train.inputs(slice(64)))
    images = cifar10.test.inputs(slice(20))
    one_by_one = torch.cat([network(image[None]) for image in images])
    assert torch.equal(network(images), one_by_one)
    assert torch.equal(network(images.to(memory_format=torch.channels_last)), one_by_one)


@pytest.mark.parametrize("seed", range(5))
def test_sums_over_large_maps_are_exact(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (1, 2, 701, 701), generator=generator)
    node = Node("mean", "mean", ("x",), {"dims": [2, 3], "keepdim": False})
    constants = Constants((0,), (1.0,), multipliers=(torch.tensor(701.0 * 701.0),))
    exact = codes.sum((2, 3))
    assert int(exact.min()) > 2**24
    assert torch.equal(sum_steps(node, constants, [codes.float()]), exact.float())


def test_constants_take_part_with_one_grid_each() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table

    images = torch.rand(8, 3, 4)
    scheme = Scheme(weight=AffineQuantizer(per_channel=True))
    network = quantize(Table(), images, scheme)
    assert network.tensors["table.weight"].grid.axis is None
    assert torch.allclose(network(images), Table()(images).detach(), atol=0.02)
