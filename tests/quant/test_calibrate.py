"""Ranges of activations: what each rule finds, and what it refuses."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import QuantizationError, SpecError
from bitproof.core.rng import make_generator
from bitproof.quant import Scheme, measure_ranges, quantize_graph, trace
from bitproof.quant import calibrate as calibration


def passing(images: Tensor, scale: float = 1.0) -> Any:
    """Return the graph of a model with one layer that hands its input on."""
    layer = nn.Linear(images.shape[1], images.shape[1], bias=False)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.eye(images.shape[1]))
    return trace(nn.Sequential(layer, nn.Sigmoid()), images)


def images_with_outlier(n: int = 20_001) -> Tensor:
    images = torch.linspace(0, 0.5, n)[:, None].clone()
    images[-1] = 1.0
    return images


def range_of(images: Tensor, scale: float = 1.0, **scheme: Any) -> tuple[float, float]:
    found = measure_ranges(
        passing(images, scale), images, Scheme(calibration_images=len(images), **scheme)
    )
    return found["0"]


def test_min_max_takes_everything() -> None:
    assert range_of(images_with_outlier(), calibration="min_max") == (0.0, 1.0)
    assert range_of(images_with_outlier(), -2.0, calibration="min_max") == (-2.0, 0.0)


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_percentile_is_exceeded_by_the_rest(percentile: float) -> None:
    low, high = range_of(images_with_outlier(), calibration="percentile", percentile=percentile)
    assert low == 0.0
    assert high == pytest.approx(0.5 * percentile / 100, abs=1e-3)
    low, high = range_of(
        images_with_outlier(), -1.0, calibration="percentile", percentile=percentile
    )
    assert low == pytest.approx(-0.5 * percentile / 100, abs=1e-3)
    assert high == 0.0


def test_whole_percentile_is_min_max() -> None:
    images = images_with_outlier()
    assert range_of(images, calibration="percentile", percentile=100.0) == (0.0, 1.0)


def test_least_squares_cuts_a_rare_outlier_at_few_bits_only() -> None:
    images = images_with_outlier(2001)
    assert range_of(images, calibration="mse", activation_bits=3)[1] < 0.6
    assert range_of(images[:-1], calibration="mse")[1] == pytest.approx(0.5, rel=0.02)


def test_least_squares_beats_every_other_rule_in_squared_error() -> None:
    generator = make_generator(0)
    images = torch.rand(4000, 1, generator=generator) ** 8
    graph, errors = passing(images), {}
    for rule in ("min_max", "percentile", "mse"):
        scheme = Scheme(calibration=rule, activation_bits=4, calibration_images=4000)
        ends = measure_ranges(graph, images, scheme)["0"]
        ends_of = (torch.tensor([end], dtype=torch.float64) for end in ends)
        grid = scheme.activation().grid_for(*ends_of)
        codes = (images / grid.scale).round() + grid.zero_point
        values = (codes.clamp(0, 15) - grid.zero_point) * grid.scale
        errors[rule] = float(((values - images) ** 2).mean())
    assert min(errors, key=lambda rule: errors[rule]) == "mse"


def test_few_images_with_huge_values_do_not_take_the_grid_from_the_others() -> None:
    images = torch.rand(1000, 64, generator=make_generator(0)) / 250
    images[:5] *= 250
    ends = {rule: range_of(images, calibration=rule) for rule in ("mse", "relative_mse")}
    assert ends["mse"][1] > 0.5
    assert ends["relative_mse"][1] < 0.1  # 10 bits of the others' values survive, not 1


@pytest.mark.parametrize("rule", ["min_max", "percentile", "mse", "relative_mse"])
def test_zero_is_always_on_the_grid(rule: Any) -> None:
    images = torch.rand(200, 2) * 0.1 + 0.8
    scheme = Scheme(calibration=rule)
    low, high = measure_ranges(passing(images), images, scheme)["0"]
    assert low <= 0 <= high
    for node in (network := quantize_graph(passing(images), images, scheme)).nodes:
        grid = network.grids.get(node.name)
        assert grid is None or grid.low <= int(grid.zero_point) <= grid.high


def test_only_the_first_images_count() -> None:
    images = torch.cat([torch.full((10, 1), 0.25), torch.ones(10, 1)])
    scheme = Scheme(calibration="min_max", calibration_images=10)
    assert measure_ranges(passing(images), images, scheme)["0"] == (0.0, 0.25)


def test_batches_do_not_change_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(500, 3, generator=make_generator(0))
    wanted = [range_of(images, calibration=rule) for rule in ("min_max", "percentile", "mse")]
    monkeypatch.setattr(calibration, "BATCH", 7)
    got = [range_of(images, calibration=rule) for rule in ("min_max", "percentile", "mse")]
    assert got == wanted


def test_sample_looks_at_every_column_of_a_map() -> None:
    """A stride would not: maps are powers of two wide, and so would be the stride."""
    maps = torch.zeros(64, 4, 32, 32)
    maps[..., 17] = 1.0  # one column in 32
    sample = calibration._sample(maps, "node", 0).values
    assert len(sample) == calibration.SAMPLE < maps.numel()
    assert float(sample.mean()) == pytest.approx(1 / 32, rel=0.1)
    assert torch.equal(sample, calibration._sample(maps, "node", 0).values)
    assert not torch.equal(sample, calibration._sample(maps, "node", 1).values)


def test_layer_that_gives_no_numbers_is_named() -> None:
    torch.manual_seed(0)  # a layer of minus infinity alone would be hidden by the ReLU
    model = nn.Sequential(
        nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2)
    )
    graph = trace(model, torch.rand(4, 2))
    graph.tensors["1.0.weight"][0, 0] = float("inf")
    with pytest.raises(QuantizationError, match=r"1\.0: gives NaN or infinity"):
        measure_ranges(graph, torch.rand(4, 2), Scheme())
    graph.tensors["1.0.weight"][0, 0] = float("nan")
    with pytest.raises(QuantizationError, match=r"1\.0: gives NaN or infinity"):
        measure_ranges(graph, torch.rand(4, 2), Scheme())


@pytest.mark.parametrize("percentile", [-1.0, 50.0, 101.0])
def test_impossible_percentiles_are_refused(percentile: float) -> None:
    with pytest.raises(SpecError, match="percentile"):
        Scheme.from_table({"percentile": percentile})
