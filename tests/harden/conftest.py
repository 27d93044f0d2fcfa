"""Small nets with batch norm, on patterns drawn here and on digits."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.data import Dataset, Splits
from bitproof.data.digits import Digits
from bitproof.harden import Candidate
from bitproof.models.digits_cnn import DigitsCNN
from bitproof.quant import IntegerNetwork
from bitproof.train import Optimization, train_


@pytest.fixture(scope="session")
def data() -> Dataset:
    """Forty-eight noisy copies of three patterns."""
    generator = make_generator(0, "images")
    labels = torch.arange(48) % 3
    patterns = torch.rand(3, 1, 6, 6, generator=generator)
    noise = 0.1 * torch.randn(48, 1, 6, 6, generator=generator)
    return Dataset("patterns", (patterns[labels] + noise).clamp(0, 1), labels, 3)


@pytest.fixture
def net() -> nn.Sequential:
    """Convolutions at "0" and "3", norms at "1" and "4", the head at "7"; norms are no identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(54, 3),
        )
        for norm in ("1", "4"):
            nn.init.uniform_(layers.get_parameter(f"{norm}.weight"), -1.5, 1.5)
            nn.init.uniform_(layers.get_parameter(f"{norm}.bias"), -0.2, 0.2)
            nn.init.uniform_(layers.get_buffer(f"{norm}.running_mean"), -0.3, 0.3)
            nn.init.uniform_(layers.get_buffer(f"{norm}.running_var"), 0.05, 2.0)
    return layers.eval()


@pytest.fixture(scope="session")
def digits() -> Splits:
    """The optical digits."""
    return Digits().load()


@pytest.fixture(scope="session")
def trained(digits: Splits) -> Candidate:
    """A net that knows 95 % of the digits; whoever takes it leaves it as it is."""
    net = DigitsCNN(width=8).build(
        in_channels=1, image_size=8, n_classes=10, generator=make_generator(0)
    )
    train_(
        net,
        digits.train,
        Optimization(epochs=6, learning_rate=0.1, schedule="one_cycle", batch_size=64),
        generator=make_generator(1),
    )
    return Candidate(net)


@pytest.fixture(scope="session")
def accuracy(digits: Splits) -> Callable[[nn.Module | IntegerNetwork], float]:
    """Measures on the test digits."""

    def measure(net: nn.Module | IntegerNetwork) -> float:
        with torch.no_grad():
            right = net(digits.test.inputs()).argmax(1) == digits.test.labels
        return float(right.double().mean())

    return measure
