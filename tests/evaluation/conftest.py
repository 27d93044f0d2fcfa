"""A small integer network and the float model behind it, with images to measure them on."""

import pytest
import torch
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.evaluation import FloatModel, IntegerModel
from bitproof.quant import quantize


@pytest.fixture(scope="session")
def data() -> Dataset:
    generator = make_generator(0)
    labels = torch.arange(250) % 3
    images = torch.rand(250, 1, 4, 4, generator=generator) * 0.6
    images[torch.arange(250), 0, labels] += 0.4  # the row of the class is brighter
    return Dataset.from_arrays(images, labels)


@pytest.fixture(scope="session")
def model(data: Dataset) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(1, 3, (1, 4)), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape, generator=make_generator(2)) * 0.3)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(data.inputs()), data.labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="session")
def floats(model: nn.Module) -> FloatModel:
    return FloatModel(model)


@pytest.fixture(scope="session")
def integers(model: nn.Module, data: Dataset) -> IntegerModel:
    return IntegerModel(quantize(model, data.inputs()))
