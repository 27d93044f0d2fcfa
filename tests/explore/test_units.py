import numpy as np
import pytest
import torch
from torch import nn

from bitproof.core.errors import QuantizationError
from bitproof.data import Splits
from bitproof.explore.units import by_filter, units_of
from bitproof.models import MODELS
from bitproof.quant import IntegerNetwork, quantize


def lenet() -> IntegerNetwork:
    spec = MODELS.build({"kind": "lenet5"})
    model = spec.build(
        in_channels=1, image_size=28, n_classes=10, generator=torch.Generator().manual_seed(0)
    )
    return quantize(model.eval(), torch.rand(4, 1, 28, 28))


def test_lenet_has_as_many_choices_as_the_paper_says() -> None:
    network, example = lenet(), torch.rand(1, 1, 28, 28)
    layers = units_of(network, example, granularity="layer")
    assert 2**layers.count == 2**5
    filters = units_of(network, example, granularity="filter", scope="convolutions")
    assert 2**filters.count == 2**22
    assert units_of(network, example, granularity="filter").count == 22 + 120 + 84 + 10


def test_products_are_those_of_the_layers() -> None:
    units = units_of(lenet(), torch.rand(1, 1, 28, 28), granularity="layer")
    macs = {layer.name: layer.macs for layer in units.layers}
    assert list(macs.values()) == [6 * 25 * 784, 16 * 150 * 100, 120 * 400, 84 * 120, 10 * 84]
    assert units.macs.sum() == sum(macs.values())


def test_choices_reach_the_filters_of_their_units() -> None:
    network, example = lenet(), torch.rand(1, 1, 28, 28)
    units = units_of(network, example, granularity="layer", keep=["fc3"])
    by_layer = units.by_layer(np.array([1, 2, 3, 4]), rest=0)
    assert [int(chosen[0]) for chosen in by_layer.values()] == [1, 2, 3, 4, 0]
    assert [len(chosen) for chosen in by_layer.values()] == [6, 16, 120, 84, 10]
    entries = np.arange(236.0)[:, None]
    assert units.summed(entries)[0, 0] == sum(range(6))


def test_names_that_are_not_there_are_refused(network: IntegerNetwork, splits: Splits) -> None:
    example = splits.train.inputs(slice(0, 1))
    with pytest.raises(QuantizationError, match="keep: no layer 'nothing'; wanted some of"):
        units_of(network, example, granularity="layer", keep=["nothing"])
    every = [layer.name for layer in units_of(network, example, granularity="layer").layers]
    with pytest.raises(QuantizationError, match="wanted a layer that may choose"):
        units_of(network, example, granularity="layer", keep=every)


class Attention(nn.Module):
    """A product of two activations between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.first(x.flatten(2))
        found: torch.Tensor = self.last((tokens @ tokens.transpose(1, 2) @ tokens).mean(1))
        return found


def test_products_of_activations_are_one_filter() -> None:
    images = torch.rand(4, 5, 2, 3)
    network = quantize(Attention(), images)
    units = units_of(network, images, granularity="filter")
    found = {layer.op: layer for layer in units.layers}
    assert found["matmul"].filters == 1
    assert found["matmul"].weights == 0
    assert {layer.taps for layer in units.layers if layer.op == "matmul"} == {6, 5}
    assert units.count == 6 + 3 + 2


def test_outputs_are_cut_by_image_and_filter() -> None:
    network = lenet()
    units = units_of(network, torch.rand(1, 1, 28, 28), granularity="filter")
    nodes = {node.name: node for node in network.nodes}
    conv = units.layers[0]
    maps = torch.arange(2.0 * 6 * 784).reshape(2, 6, 28, 28)
    assert torch.equal(by_filter(maps, nodes[conv.name], conv, images=2), maps.flatten(2))
    linear = units.layers[-1]
    rows = torch.arange(20.0).reshape(2, 10)
    assert torch.equal(by_filter(rows, nodes[linear.name], linear, images=2), rows[:, :, None])
