import json
from collections.abc import Callable
from math import floor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bitproof.core.errors import QuantizationError
from bitproof.core.rng import global_draws, make_generator
from bitproof.quant import (
    PRESETS,
    AffineQuantizer,
    CodedTensor,
    Grid,
    IntegerNetwork,
    Node,
    Scheme,
    quantize,
    redundancy,
)
from bitproof.quant.redundancy import BINS, relu_relevance

Reference = Callable[[IntegerNetwork, torch.Tensor], dict[str, Any]]


def small_network(quantizer: AffineQuantizer = PRESETS["rquant"]) -> IntegerNetwork:
    """Return a network with ReLUs fused and alone, a ReLU6 and a cut that is no ReLU."""
    with global_draws(0):
        model = nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.ReLU6()),
            *(nn.Linear(8, 6), nn.Hardtanh(-1.0, 1.0), nn.Linear(6, 3)),
        )
    return quantize(model.eval(), images(), Scheme(weight=quantizer))


def images() -> torch.Tensor:
    return torch.rand(12, 1, 6, 6, generator=make_generator(1))


def values_by_channel(stored: CodedTensor) -> list[tuple[float, float]]:
    """Return value and step of each word, in Python numbers."""
    grid, found = stored.grid, []
    for index in np.ndindex(*stored.codes.shape):
        channel = () if grid.axis is None else index[grid.axis]
        step, point = float(grid.scale[channel]), int(grid.zero_point[channel])
        found.append((step * (int(stored.codes[index]) - point), step))
    return found


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", PRESETS)
def test_figures_are_those_of_single_words(name: str, per_channel: bool, bits: int) -> None:
    quantizer = PRESETS[name].model_copy(update={"bits": bits, "per_channel": per_channel})
    network = small_network(quantizer)
    ratios, relative, values = [], [], []
    for layer in ("0", "6", "8", "10"):
        words = values_by_channel(network.tensors[f"{layer}.weight"])
        largest = max(abs(value) for value, _ in words)
        peak = max(largest, *(step for _, step in words))
        values += [value for value, _ in words]
        ratios += [value / peak for value, _ in words]
        relative += [0.01 * sum(step * 2**bit for bit in range(bits)) / peak for _, step in words]
    counts = [0] * 25
    for ratio in ratios:
        counts[min(floor((ratio + 1) * 12.5), 24)] += 1
    found = redundancy(network, images())
    assert found.range == pytest.approx((min(values), max(values)))
    assert found.distribution == pytest.approx([count / len(ratios) for count in counts])
    assert found.weight_relevance == pytest.approx(np.mean(np.abs(ratios)))
    assert found.relative_error == pytest.approx(np.mean(relative))


def by_hand(*codes: int) -> IntegerNetwork:
    """Return a linear layer with these 4-bit words, of step 0.25, zero at 8."""
    grid = Grid(torch.tensor(0.25), torch.tensor(8, dtype=torch.int32), 4, False)
    stored = CodedTensor(torch.tensor([codes], dtype=torch.uint8), grid)
    network = quantize(nn.Linear(len(codes), 1, bias=False), torch.rand(4, len(codes)))
    (name,) = network.tensors
    return IntegerNetwork(network.nodes, {name: stored}, network.grids)


def test_values_by_hand() -> None:
    found = redundancy(by_hand(4, 8, 9, 10), torch.rand(2, 4))  # -1, 0, 0.25, 0.5
    assert found.range == (-1.0, 0.5)
    assert found.weight_relevance == pytest.approx((1 + 0 + 0.25 + 0.5) / 4)
    assert found.relative_error == pytest.approx(0.01 * 15 * 0.25 / 1.0)
    assert {i: share for i, share in enumerate(found.distribution) if share} == {
        **{0: 0.25, 12: 0.25, 15: 0.25, 18: 0.25}
    }
    assert found.edges[:3] == (-1.0, -0.92, -0.84)
    assert found.edges[12:14] == (-0.04, 0.04)
    assert len(found.edges) == BINS + 1
    assert found.relu_relevance is None


def test_weights_that_are_all_zero_have_the_size_of_a_step() -> None:
    found = redundancy(by_hand(8, 8), torch.rand(2, 2))
    assert found.weight_relevance == 0.0
    assert found.relative_error == pytest.approx(0.15)
    assert found.distribution[12] == 1.0


def test_clipping_raises_relevance_and_leaves_relative_errors() -> None:
    weights = torch.randn(64, 64, generator=make_generator(0)) * 0.1
    found = []
    for bound in (1.0, 0.1):
        layer = nn.Linear(64, 64)
        layer.weight.data = weights.clamp(-bound, bound)
        found.append(redundancy(quantize(layer, torch.rand(4, 64)), torch.rand(4, 64)))
    free, clipped = found
    assert clipped.range == pytest.approx((-0.1, 0.1), abs=0.001)
    assert clipped.weight_relevance > 2 * free.weight_relevance
    assert clipped.relative_error == pytest.approx(free.relative_error, rel=0.15)
    assert clipped.distribution[0] > 0.1
    assert free.distribution[0] < 0.01


def exact_relative_error(code: int, bits: int, ber: float) -> float:
    """Return the expected size of one word's change in steps, over all patterns of flips."""
    masks = np.arange(1 << bits)
    ones = np.array([int(mask).bit_count() for mask in masks])
    chances = ber**ones * (1 - ber) ** (bits - ones)
    return float(chances @ np.abs((code ^ masks) - code))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_first_order_of_relative_errors_is_bounded_as_the_module_says(bits: int) -> None:
    first = 0.01 * (2**bits - 1)
    for code in range(1 << bits):
        exact = exact_relative_error(code, bits, 0.01)
        assert first * 0.99 ** (bits - 1) <= exact * (1 + 1e-12)
        assert exact <= first * (1 + 1e-12)
    assert 1 / 0.99**7 < 1.08


def test_relus_are_counted_as_the_slow_execution_has_them(reference: Reference) -> None:
    network = small_network()
    words = reference(network, images())
    relus = [
        node
        for node in network.nodes
        if node.attrs.get("clamp", [None])[0] == 0
        or node.attrs.get("parameters", {}).get("min") == 0
    ]
    assert len(relus) == 3
    active = sum((words[n.name] != int(network.grids[n.name].zero_point)).sum() for n in relus)
    whole = sum(words[node.name].size for node in relus)
    found = redundancy(network, images()).relu_relevance
    assert found == active / whole
    assert 0 < active < whole


def test_images_in_batches_count_alike() -> None:
    many = torch.rand(300, 1, 6, 6, generator=make_generator(2))
    network = small_network()
    shares = [relu_relevance(network, part) for part in (many, many[:256], many[256:])]
    whole, first, last = (0.0 if share is None else share for share in shares)
    assert whole == pytest.approx((256 * first + 44 * last) / 300)


def test_what_is_found_is_json() -> None:
    found = redundancy(small_network(), images()).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_network_without_weights_is_refused() -> None:
    network = IntegerNetwork((Node("x", "input"),), {}, {})
    with pytest.raises(QuantizationError, match="weights"):
        redundancy(network, torch.rand(2, 3))
