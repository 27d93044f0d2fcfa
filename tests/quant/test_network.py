"""The network as data: its words, their replacement, and what quantization makes of a graph."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import BitWidthError, QuantizationError, WeightsError
from bitproof.core.rng import make_generator
from bitproof.quant import (
    AffineQuantizer,
    CodedTensor,
    Grid,
    IntegerNetwork,
    Scheme,
    quantize,
    quantize_graph,
    trace,
)
from bitproof.quant.build import input_range


@pytest.fixture
def images() -> Tensor:
    return torch.rand(32, 2, 5, 5, generator=make_generator(0))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    )


@pytest.fixture
def network(model: nn.Module, images: Tensor) -> IntegerNetwork:
    return quantize(model, images)


def test_words_come_in_order_of_execution_with_their_widths(
    model: nn.Module, images: Tensor
) -> None:
    scheme = Scheme(weight=AffineQuantizer(bits=5), bias=None)
    network = quantize(model, images, scheme)
    words = network.codes()
    assert [*words] == ["0.weight", "0.bias", "4.weight", "4.bias"]
    assert [bits for _, bits in words.values()] == [5, 32, 5, 32]
    assert [*network.codes("weight")] == ["0.weight", "4.weight"]
    assert [*network.codes("bias")] == ["0.bias", "4.bias"]
    assert words["4.weight"][0] is network.tensors["4.weight"].codes


def test_replaced_words_change_one_layer_and_share_the_rest(
    network: IntegerNetwork, images: Tensor
) -> None:
    before = network(images)
    codes = network.tensors["4.weight"].codes.clone()
    codes[0] ^= 128
    changed = network.with_codes({"4.weight": codes})
    assert torch.equal(network(images), before)
    after = changed(images)
    assert not torch.equal(after[:, 0], before[:, 0])
    assert torch.equal(after[:, 1:], before[:, 1:])
    assert torch.equal(changed.differentiable(images), after)
    assert changed.tensors["0.weight"] is network.tensors["0.weight"]
    assert changed.constants["0"] is network.constants["0"]
    assert changed.constants["4"] is not network.constants["4"]
    assert changed.tensors["4.weight"].grid is network.tensors["4.weight"].grid


def test_replacing_words_by_themselves_changes_nothing(
    network: IntegerNetwork, images: Tensor
) -> None:
    words = {name: codes.clone() for name, (codes, _) in network.codes().items()}
    assert torch.equal(network.with_codes(words)(images), network(images))


def test_words_that_do_not_fit_are_refused(network: IntegerNetwork) -> None:
    codes = network.tensors["4.weight"].codes
    with pytest.raises(WeightsError, match=r"no words '4.weigth'. Did you mean '4.weight'"):
        network.with_codes({"4.weigth": codes})
    with pytest.raises(WeightsError, match=r"4.weight: wanted words \(3, 36\)"):
        network.with_codes({"4.weight": codes[:2]})
    with pytest.raises(WeightsError, match=r"4.weight: .* got .* of torch.int8"):
        network.with_codes({"4.weight": codes.to(torch.int8)})


def test_moved_network_is_equal(network: IntegerNetwork, images: Tensor) -> None:
    assert network.device == torch.device("cpu")
    assert torch.equal(network.to("cpu")(images), network(images))


def test_logits_stay_wide_unless_they_are_clamped(model: nn.Module, images: Tensor) -> None:
    assert "4" not in quantize(model, images).grids
    clamped = quantize(nn.Sequential(model, nn.ReLU()), images)
    logits = clamped(images)
    with torch.no_grad():
        assert float(logits.min()) == 0.0 <= float(model.eval()(images).clamp(min=0).min())
        assert torch.allclose(logits, model(images).clamp(min=0), atol=0.02)
    assert torch.equal(clamped.differentiable(images), logits)


def test_multipliers_are_rounded_to_single_precision_once() -> None:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.sigmoid(self.conv(x))
            return nn.functional.avg_pool2d(y * (y + torch.tanh(y)), 3)

    for seed in range(8):
        torch.manual_seed(seed)
        network = quantize(Many(), torch.rand(8, 2, 6, 6))
        scale = {name: np.float64(grid.scale) for name, grid in network.grids.items()}
        conv = next(node for node in network.nodes if node.op == "conv")
        weight = np.float64(network.tensors["conv.weight"].grid.scale)
        wanted = {"conv": [weight * scale[conv.inputs[0]]]}
        for node in network.nodes:
            before = [scale[name] for name in node.inputs]
            if node.op == "add":
                wanted["add"] = before
            elif node.op == "mul":
                wanted["mul"] = [before[0] * before[1]]
            elif node.op == "avg_pool":
                wanted["avg_pool"] = [before[0] / 9]
        for node in network.nodes:
            for factor, step in zip(
                network.constants[node.name].multipliers, wanted.get(node.op, []), strict=False
            ):
                assert np.float32(factor) == np.float32(step / scale[node.name])
        assert sorted(wanted) == ["add", "avg_pool", "conv", "mul"]


def test_biases_of_32_bits_are_finer_than_words(model: nn.Module, images: Tensor) -> None:
    graph = trace(model, images)
    wide = quantize_graph(graph, images, Scheme(bias=None)).tensors["4.bias"]
    narrow = quantize_graph(graph, images, Scheme(bias=AffineQuantizer(bits=4))).tensors["4.bias"]
    bias = graph.tensors["4.bias"]
    assert wide.codes.dtype == torch.int32
    assert torch.allclose(wide.values(), bias, atol=1e-4)
    assert float((narrow.values() - bias).abs().max()) > 1e-3


def test_shrinking_a_layer_that_is_not_there_is_refused(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(QuantizationError, match=r"no layer '5'. Known: 0, 4"):
        quantize(model, images, shrink={"5": 0.5})
    network = quantize(model, images, shrink={"4": 0.5})
    full = quantize(model, images)
    assert network.tensors["4.weight"].grid.scale < 0.51 * full.tensors["4.weight"].grid.scale
    assert torch.equal(network.tensors["0.weight"].codes, full.tensors["0.weight"].codes)


def test_known_ranges_are_taken(model: nn.Module, images: Tensor) -> None:
    graph = trace(model, images)
    ranges = {node.name: (-1.0, 3.0) for node in graph.nodes}
    network = quantize_graph(graph, images, ranges=ranges)
    assert float(network.grids["0"].scale) == pytest.approx(4 / 255)


def test_weights_that_are_no_numbers_are_refused(model: nn.Module, images: Tensor) -> None:
    graph = trace(model, images)
    ranges = {node.name: (-1.0, 3.0) for node in graph.nodes}
    graph.tensors["4.weight"][0, 0] = float("nan")
    with pytest.raises(QuantizationError, match="finite"):
        quantize_graph(graph, images, ranges=ranges)


def test_range_of_the_input_is_that_of_normalised_images(model: nn.Module, images: Tensor) -> None:
    first = trace(model, images).nodes[0]
    assert input_range(first) == (0.0, 1.0)
    for std in ([0.5, 0.25], [-0.5, 0.25]):
        low, high = input_range(replace(first, attrs={"mean": [0.1, 0.5], "std": std}))
        ends = [(end - m) / s for m, s in zip([0.1, 0.5], std, strict=True) for end in (0.0, 1.0)]
        assert (low, high) == (min(ends), max(ends))


def test_widths_without_a_dtype_are_refused() -> None:
    grid = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 12, signed=True)
    with pytest.raises(BitWidthError, match="2 to 8, or 16 or 32 signed, got 12"):
        grid.dtype  # noqa: B018 - the property raises


def test_grids_spread_along_their_axis() -> None:
    scale, point = torch.tensor([0.5, 2.0]), torch.tensor([0, 10], dtype=torch.int32)
    coded = CodedTensor(
        torch.tensor([[0, 1, 2], [9, 10, 11]], dtype=torch.uint8), Grid(scale, point, 8, False, 0)
    )
    assert coded.values().tolist() == [[0.0, 0.5, 1.0], [-2.0, 0.0, 2.0]]
    assert coded.centered().tolist() == [[0, 1, 2], [-1, 0, 1]]
    assert torch.equal(coded.to("cpu").values(), coded.values())
