"""Equalization, adaptive rounding and bias correction, alone and from a scheme."""

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.rng import make_generator
from bitproof.quant import (
    RQUANT,
    AdaRound,
    AffineQuantizer,
    Scheme,
    equalize,
    quantize,
    quantize_graph,
    run_floats,
    trace,
)
from bitproof.quant.bias_correction import correct_biases

SHORT = AdaRound(steps=60, images=96, learning_rate=0.1)


class Unequal(nn.Module):
    """Depthwise layers, a pooling and linear layers, with channels of very different ranges."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.deep = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8)
        self.grouped, self.out = nn.Conv2d(8, 6, 1, groups=2), nn.Linear(24, 5)
        self.last = nn.Linear(5, 3)
        factors = torch.logspace(-1.5, 1.5, 8)
        with torch.no_grad():
            self.wide.weight *= factors.reshape(-1, 1, 1, 1)
            assert self.wide.bias is not None
            self.wide.bias *= factors
            self.deep.weight /= factors.reshape(-1, 1, 1, 1)
            for layer in (self.deep, self.grouped, self.out, self.last):
                layer.weight *= 3

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.deep(torch.relu(self.wide(images))))
        maps = torch.relu(self.grouped(nn.functional.max_pool2d(maps, 2)))
        logits: Tensor = self.last(torch.relu(self.out(maps.flatten(1))))
        return logits


@pytest.fixture
def images() -> Tensor:
    return torch.rand(96, 3, 6, 6, generator=make_generator(0))


@pytest.fixture
def model() -> nn.Module:
    return Unequal().eval()


def ranges(weight: Tensor, groups: int) -> Tensor:
    """Return the largest weight that reads each input channel, one after the other."""
    n_out, n_in = len(weight) // groups, weight.shape[1]
    found = [
        weight[group * n_out : (group + 1) * n_out, channel].abs().max()
        for group in range(groups)
        for channel in range(n_in)
    ]
    return torch.stack(found)


def error(model: nn.Module, images: Tensor, scheme: Scheme) -> float:
    network = quantize(model, images, scheme)
    with torch.no_grad():
        return float((network(images) - model(images)).square().mean())


def test_equalized_layers_compute_the_same_with_equal_ranges(
    model: nn.Module, images: Tensor
) -> None:
    graph = trace(model, images)
    before = {name: tensor.clone() for name, tensor in graph.tensors.items()}
    equal = equalize(graph)
    found, wanted = run_floats(equal, images), run_floats(graph, images)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6)
    for first, second, groups in (("wide", "deep", 8), ("deep", "grouped", 2), ("out", "last", 1)):
        rows = equal.tensors[f"{first}.weight"].flatten(1).abs().amax(1)
        assert torch.allclose(rows, ranges(equal.tensors[f"{second}.weight"], groups), rtol=5e-3)
    assert all(torch.equal(graph.tensors[name], one) for name, one in before.items())
    # Between a convolution and a linear layer lies a reshape, behind which channels are mixed.
    assert not torch.equal(equal.tensors["grouped.weight"], before["grouped.weight"])
    assert torch.equal(equal.tensors["grouped.bias"], before["grouped.bias"])


def test_what_a_relu6_separates_stays_as_it_is(images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 2, 1)).eval()
    graph = trace(model, images)
    assert all(
        torch.equal(one, graph.tensors[name]) for name, one in equalize(graph).tensors.items()
    )


def test_layers_that_others_read_as_well_stay_as_they_are(images: Tensor) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.a(x))
            total: Tensor = x + self.b(x)
            return total

    graph = trace(Shared().eval(), images)
    assert torch.equal(equalize(graph).tensors["a.weight"], graph.tensors["a.weight"])


def test_equalization_helps_one_grid_for_all_channels(model: nn.Module, images: Tensor) -> None:
    plain, equal = Scheme(bias=None), Scheme(bias=None, equalize=True)
    assert error(model, images, equal) < 0.2 * error(model, images, plain)


@pytest.mark.parametrize(
    "preset",
    ["accurate", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rquant", "normal"))],
)
def test_learned_rounding_beats_rounding_to_nearest(
    preset: str, model: nn.Module, images: Tensor
) -> None:
    nearest = Scheme(weight=Scheme(preset, bits=3).weight, bias=None, equalize=True)
    learned = nearest.model_copy(update={"adaround": SHORT})
    assert error(model, images, learned) < 0.7 * error(model, images, nearest)


def test_learned_words_are_neighbours_of_the_real_weights(model: nn.Module, images: Tensor) -> None:
    scheme = Scheme("accurate", bits=3)
    graph = trace(model, images)
    network = quantize_graph(graph, images, scheme)
    before = {name: coded.codes.clone() for name, coded in network.tensors.items()}
    rounded = SHORT.apply(network, graph, images)
    moved = 0
    for name, coded in rounded.tensors.items():
        if name.endswith("weight"):
            distance = (coded.values() - graph.tensors[name]).abs()
            scale = coded.grid.spread(coded.grid.scale, coded.codes.ndim)
            assert (distance <= scale * 1.0001).all()
            moved += int((coded.codes != before[name]).sum())
        else:
            assert torch.equal(coded.codes, before[name])
    assert moved > 10
    assert all(torch.equal(network.tensors[name].codes, one) for name, one in before.items())
    assert torch.equal(rounded.differentiable(images), rounded(images))


def test_learned_rounding_depends_on_its_seed_alone(model: nn.Module, images: Tensor) -> None:
    scheme = Scheme("accurate", bits=3, adaround=AdaRound(steps=20, images=32))
    torch.manual_seed(1)
    first = quantize(model, images, scheme).digest()
    torch.manual_seed(2)
    assert quantize(model, images, scheme).digest() == first


@pytest.mark.parametrize("preset", ["rquant", "accurate", "normal"])
@pytest.mark.parametrize("bias", [RQUANT, None])
def test_corrected_biases_take_the_mean_error_away(
    preset: str, bias: AffineQuantizer | None, model: nn.Module, images: Tensor
) -> None:
    scheme = Scheme(weight=Scheme(preset, bits=4).weight, bias=bias, equalize=True)
    networks = [
        quantize(model, images, scheme.model_copy(update={"bias_correction": on}))
        for on in (False, True)
    ]
    with torch.no_grad():
        off, corrected = ((one(images) - model(images)).mean(0).norm() for one in networks)
    assert corrected < 0.5 * off


def test_steps_of_a_scheme_follow_each_other(model: nn.Module, images: Tensor) -> None:
    scheme = Scheme("accurate", bits=3, equalize=True, adaround=SHORT, bias_correction=True)
    graph = equalize(trace(model, images))
    network = SHORT.apply(quantize_graph(graph, images, scheme), graph, images)
    wanted = correct_biases(network, graph, images, scheme)
    assert quantize(model, images, scheme).digest() == wanted.digest()


def test_steps_that_are_off_leave_tables_and_digests_as_they_were() -> None:
    table = Scheme().model_dump(mode="json")
    assert not {"equalize", "adaround", "bias_correction"} & table.keys()
    scheme = Scheme(weight=AffineQuantizer(bits=4), equalize=True, adaround=SHORT)
    again = Scheme.model_validate(scheme.model_dump(mode="json"))
    assert again == scheme
    assert scheme.digest() != Scheme(weight=AffineQuantizer(bits=4)).digest()
