from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from bitproof.approx import Arithmetic, Exact, Multiplier, Truncated
from bitproof.core.errors import QuantizationError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.faults import RandomFlips, faulty_codes
from bitproof.harden import Candidate
from bitproof.harden.emulation import Emulation
from bitproof.quant import AffineQuantizer, Scheme

COARSE = Truncated(columns=7, signed=True)
SIGNED = Scheme(
    weight=AffineQuantizer(symmetric=True, signed=True), bias=None, activation_signed=True
)


@pytest.fixture
def data() -> Dataset:
    images = torch.rand(32, 2, 6, 6, generator=make_generator(0))
    return Dataset("noise", images, torch.arange(32) % 3, 3)


def candidate(model: nn.Module, multiplier: Multiplier | None = COARSE) -> Candidate:
    return Candidate(model.eval(), SIGNED, arithmetic=Arithmetic(multiplier=multiplier))


def convolution() -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5)
    norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    nn.init.uniform_(norm.weight, -1.5, 1.5)
    pooled = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(2, 5, 3, bias=False), norm, pooled, nn.Flatten()).eval()


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 3))


@pytest.mark.parametrize("multiplier", [COARSE, Exact(signed=True), Truncated(columns=5)])
def test_a_layer_computes_what_the_deployed_network_does(
    multiplier: Multiplier, data: Dataset
) -> None:
    ready = candidate(linear(), multiplier)
    images = data.inputs()
    with torch.no_grad(), Emulation.of(ready.model, ready, data).running():
        emulated = ready.model(images)
    # int32 biases are rounded to whole steps of the accumulator, emulated ones are not.
    assert torch.allclose(emulated, ready.quantize(data)(images), atol=2e-4)


def test_batch_norms_are_folded_as_they_will_be(data: Dataset) -> None:
    ready = candidate(convolution())
    images, seen = data.inputs(), []
    norm = ready.model.get_submodule("1")
    hook = norm.register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad(), Emulation.of(ready.model, ready, data).running():
        ready.model(images)
    hook.remove()
    network = ready.quantize(data)
    grid = network.grids["input"]
    codes = ((images / grid.scale).round() + grid.zero_point).clamp(grid.low, grid.high)
    step = network.tensors["0.weight"].grid.scale * grid.scale
    sums = network.accumulator(network.nodes[1]).sums([codes.to(grid.dtype)])
    assert torch.allclose(seen[-1], sums * step, atol=1e-4)


def test_straight_through_gradients_are_those_of_the_float_layer(data: Dataset) -> None:
    ready = candidate(convolution())
    slopes = torch.rand(32, 5, generator=make_generator(1))

    def gradient() -> Tensor:
        weight = ready.model.get_parameter("0.weight")
        (found,) = torch.autograd.grad((ready.model(data.inputs()) * slopes).sum(), weight)
        return found

    plain = gradient()
    with Emulation.of(ready.model, ready, data).running():
        emulated = gradient()
    assert torch.allclose(plain, emulated, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [convolution, linear])
def test_slopes_of_exact_tables_point_where_float_gradients_do(
    model: object, data: Dataset
) -> None:
    assert callable(model)
    ready = candidate(model(), Exact(signed=True))
    emulation = Emulation.of(ready.model, ready, data)
    emulation.follow_tables(half_width=2, rank=1)
    layers = [weight for weight in ready.model.parameters() if weight.ndim > 1]
    inputs = data.inputs().requires_grad_()

    def gradients() -> list[Tensor]:
        loss = cross_entropy(ready.model(inputs), data.labels)
        return list(torch.autograd.grad(loss, [*layers, inputs]))

    plain = gradients()
    with emulation.running():
        emulated = gradients()
    for one, two in zip(plain, emulated, strict=True):
        assert cosine_similarity(one.flatten(), two.flatten(), dim=0) > 0.999


def test_biases_learn_with_either_gradient(data: Dataset) -> None:
    ready = candidate(linear())
    for follows in (False, True):
        emulation = Emulation.of(ready.model, ready, data)
        if follows:
            emulation.follow_tables(half_width=2, rank=2)
        bias = ready.model.get_parameter("1.bias")
        with emulation.running():
            (found,) = torch.autograd.grad(ready.model(data.inputs()).sum(), bias)
        assert torch.allclose(found, torch.full((3,), 32.0))


def test_words_break_inside_the_block_only(data: Dataset) -> None:
    ready = candidate(linear())
    emulation, generator = Emulation.of(ready.model, ready, data), make_generator(0)
    fault = RandomFlips(ber=0.2)
    with torch.no_grad(), emulation.running():
        before = ready.model(data.inputs())
        with emulation.faulty(lambda codes: faulty_codes(codes, fault, generator=generator)):
            broken = ready.model(data.inputs())
        after = ready.model(data.inputs())
    assert torch.equal(before, after)
    assert not torch.equal(before, broken)


def test_the_model_is_itself_again_behind_the_block(data: Dataset) -> None:
    ready = candidate(linear())
    before = ready.model(data.inputs())
    with pytest.raises(ZeroDivisionError), Emulation.of(ready.model, ready, data).running():
        raise ZeroDivisionError
    assert torch.equal(ready.model(data.inputs()), before)


def test_exact_networks_are_emulated_with_exact_tables(data: Dataset) -> None:
    ready = candidate(linear(), None)
    with torch.no_grad(), Emulation.of(ready.model, ready, data).running():
        emulated = ready.model(data.inputs())
    assert torch.allclose(emulated, ready.quantize(data)(data.inputs()), atol=2e-4)


def test_layers_with_exact_products_are_emulated_beside_those_that_are_named(
    data: Dataset,
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 4), nn.ReLU(), nn.Linear(4, 3))
    ready = replace(candidate(model), arithmetic=Arithmetic(layers={"3": COARSE}))
    emulation = Emulation.of(model, ready, data)
    assert list(emulation.nodes) == ["1", "3"]
    with torch.no_grad(), emulation.running():
        emulated = model(data.inputs())
    assert torch.allclose(emulated, ready.quantize(data)(data.inputs()), atol=0.02)


@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
def test_words_are_cut_as_the_deployed_network_cuts_them(rounding: str, data: Dataset) -> None:
    ready = candidate(linear())
    scheme = SIGNED.model_copy(update={"activation_rounding": rounding})
    ready = replace(ready, scheme=scheme)
    with torch.no_grad(), Emulation.of(ready.model, ready, data).running():
        emulated = ready.model(data.inputs())
    assert torch.allclose(emulated, ready.quantize(data)(data.inputs()), atol=2e-4)


def test_what_stays_float_is_recorded() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.mixes = nn.MultiheadAttention(4, 1, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x.flatten(2))
            mixed: Tensor = self.mixes(x, x, x, need_weights=False)[0]
            return mixed.mean(1)

    torch.manual_seed(0)
    images = torch.rand(8, 3, 2, 2, generator=make_generator(0))
    emulation = Emulation.of(
        model := Attends().eval(), candidate(model), Dataset("x", images, torch.arange(8) % 4, 4)
    )
    assert list(emulation.nodes) == ["first"]
    assert len(emulation.left_float) == 6  # three maps in, two products, one map out


def test_a_layer_that_is_used_twice_is_refused(data: Dataset) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.layer(self.layer(x))).mean((1, 2))

    with pytest.raises(QuantizationError, match="layer: wanted each layer used once"):
        Emulation.of(model := Twice(), candidate(model), data)
