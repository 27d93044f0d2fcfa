"""A small convolutional net that learned coloured patterns, at its tipping point."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate


@dataclass(frozen=True)
class Trained:
    """A trained net and images that it has not seen."""

    net: nn.Module
    inputs: Tensor
    labels: Tensor
    epsilon: float
    """L-infinity radius at which gradient attacks break about half of the images."""

    def accuracy(self, inputs: Tensor) -> float:
        return float((self.net(inputs).argmax(dim=1) == self.labels).double().mean())


@pytest.fixture(scope="session")
def trained() -> Trained:
    generator = torch.Generator().manual_seed(0)
    patterns = interpolate(torch.rand(5, 3, 3, 3, generator=generator), size=8, mode="bilinear")

    def draw(n: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(5, (n,), generator=generator)
        noise = 0.12 * torch.randn(n, 3, 8, 8, generator=generator)
        return (0.5 + 0.6 * (patterns[labels] - 0.5) + noise).clamp(0, 1), labels

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 16, 5),
        )
    inputs, labels = draw(1000)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(6):
        for batch in torch.randperm(len(inputs), generator=generator).view(-1, 50):
            optimizer.zero_grad()
            cross_entropy(net(inputs[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    optimizer.zero_grad()
    return Trained(net.eval(), *draw(300), epsilon=0.08)
