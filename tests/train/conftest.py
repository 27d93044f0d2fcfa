"""Patterns, and a net with everything that has state."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bitproof.core.rng import global_draws, make_generator
from bitproof.data import Dataset


@pytest.fixture
def patterns() -> Dataset:
    """Forty-four grey images of three classes: the last batch of eight has four."""
    images = torch.randint(0, 256, (44, 1, 6, 6), generator=make_generator(0)).to(torch.uint8)
    return Dataset.from_arrays(images, torch.arange(44) % 3)


@pytest.fixture
def make_net() -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        with global_draws(3):
            return nn.Sequential(
                nn.Conv2d(1, 4, 3),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Flatten(),
                nn.Dropout(0.3),
                nn.Linear(64, 3),
            )

    return make
