"""What `check` tells is compared with torch's own module, loop by loop."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitproof as bp
from bitproof.core.errors import ModelError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.models.example_inputs import INPUTS, random_inputs
from bitproof.recipe.check import check


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout()
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(6 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.norm(self.conv(x))))
        return torch.softmax(self.fc(self.drop(x).flatten(1)), 1)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def data(net: Net) -> Dataset:
    inputs = torch.rand(80, 2, 8, 8, generator=make_generator(1))
    labels = net(inputs).argmax(1)
    labels[::4] = (labels[::4] + 1) % 5
    return Dataset.from_arrays(inputs, labels)


@pytest.fixture(scope="module")
def found(net: Net, data: Dataset) -> bp.Check:
    return bp.check(net, data.inputs(slice(0, 32)), test=data, name="m:make")


def test_sizes_are_those_of_the_module(net: Net, found: bp.Check) -> None:
    assert found.parameters == sum(weight.numel() for weight in net.parameters())
    multiplied = 0

    def count(module: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal multiplied
        multiplied += output[0].numel() * module.weight[0].numel()

    hooks = [module.register_forward_hook(count) for module in (net.conv, net.fc)]
    net(torch.rand(1, 2, 8, 8))
    for hook in hooks:
        hook.remove()
    assert found.products == multiplied == 8 * 8 * 6 * 9 + 5 * 96
    assert (found.input_shape, found.output_shape) == ((2, 8, 8), (5,))
    weights, biases = 6 * 9 + 5 * 96, 6 + 5
    assert found.weight_bytes == weights + 4 * biases
    assert found.sites["weight"] == 8 * weights
    assert found.sites["bias"] == 32 * biases
    assert found.sites["accumulator"] == 32 * (6 * 8 * 8 + 5)


def test_products_of_attention_are_counted() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    projections, scores, dense = 7 * 16 * (48 + 16), 2 * 7 * 7 * 16, 2 * 7 * 16 * 32
    found = check(layer, (7, 16))
    assert found.products == projections + scores + dense
    idle = [line.partition(" ")[0] for line in found.folded if "does nothing" in line]
    assert idle == ["dropout", "dropout1", "dropout2"]


def test_errors_are_those_of_the_two_networks(net: Net, found: bp.Check, data: Dataset) -> None:
    inputs = data.inputs(slice(0, 32))
    with torch.no_grad():
        wanted, came = net(inputs), found.network(inputs)
    ratio = wanted.square().sum() / (wanted - came).square().sum()
    assert found.fidelity.sqnr_db == pytest.approx(float(10 * ratio.log10()), abs=0.02)
    assert found.fidelity.agreement == float((wanted.argmax(1) == came.argmax(1)).float().mean())


def test_accuracies_are_those_of_a_loop(net: Net, found: bp.Check, data: Dataset) -> None:
    assert found.accuracy is not None
    inputs = data.inputs()
    with torch.no_grad():
        for run, told in ((net, found.accuracy.floats), (found.network, found.accuracy.integers)):
            right = sum(
                int(run(one[None]).argmax()) == int(y)
                for one, y in zip(inputs, data.labels, strict=True)
            )
            assert told.value == right / len(data)
            assert told.low < told.value < told.high
    assert found.tasks == ("classification",)


def test_what_is_folded_and_what_stays_real_is_named(found: bp.Check) -> None:
    assert found.captured_by == "fx"
    assert found.real == ("fc (linear)", "softmax (softmax)")
    assert {
        "norm (affine) into conv",
        "relu (clamp) into conv",
        "drop (Dropout) does nothing in evaluation mode",
    } <= {*found.folded}
    assert found.not_attackable == ""
    assert [row[0] for row in found.rows] == ["input", "conv", "pool", "flatten", "fc", "softmax"]
    text = str(found)
    assert "m:make: supported; input 2 x 8 x 8, output 5" in text
    assert "noise" not in text
    assert json.loads(json.dumps(found.to_dict()))["layers"][1]["words"] == 60


def test_without_data_it_says_that_the_inputs_are_noise(net: Net) -> None:
    found = check(net, (2, 8, 8), scheme=bp.Scheme("accurate", bits=4, activation_bits=4))
    assert (found.random, found.accuracy) == (True, None)
    assert "64 random inputs" in str(found)
    assert "the inputs are noise" in str(found)
    assert found.layers[1].bits == 4
    assert found.tasks == ("classification", "multi_label", "regression")


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Conv2d(3, 4, 3), (3, 32, 32)),
        (nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU()), (2, 128)),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 2)), (1, 28, 28)),
        (nn.Sequential(nn.Linear(7, 2)), (7,)),
        (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), (16,)),
    ],
    ids=lambda each: "" if isinstance(each, nn.Module) else str(each),
)
def test_the_first_layer_tells_the_shape(model: nn.Module, shape: tuple[int, ...]) -> None:
    inputs = random_inputs(model)
    assert inputs.shape == (INPUTS, *shape)
    tokens = any(isinstance(layer, nn.Embedding) for layer in model.modules())
    assert inputs.is_floating_point() is not tokens
    assert inputs.min() >= 0


def test_a_shape_that_nothing_tells_is_asked_for() -> None:
    with pytest.raises(ModelError, match="such as --input 3,32,32; its first layer tells no shape"):
        random_inputs(nn.ReLU())
    with pytest.raises(ModelError, match=r"\(3, 8\)"):
        random_inputs(nn.Conv2d(1, 1, 3), (3, 8))
