"""What a model of the list is, and the inputs that it gets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bitproof.core.rng import make_generator

Task = Literal["classes", "dense", "values"]
"""One answer a sample (n, k); one at each place (n, k, ...) or (n, t, k); or numbers."""


@dataclass(frozen=True)
class Entry:
    """One public model: how it is built, and what it reads."""

    family: str
    """Heading in the table: the package, or the kind of task."""
    name: str
    build: Callable[[], nn.Module]
    """Called under a fixed seed; random weights, nothing is fetched."""
    shape: tuple[int, ...]
    """Of one sample, without the batch."""
    task: Task = "classes"
    vocabulary: int = 0
    """Above 0: inputs are token ids below it, not values in [0, 1]."""
    channel_last: bool = False
    """For `dense`: classes lie on the last dimension, not behind the batch."""

    @property
    def key(self) -> str:
        """Name that is unique in the list."""
        return f"{self.family}/{self.name}"

    def inputs(self, n: int, *, part: str) -> Tensor:
        """Return `n` samples, the same on every call; `part` tells calibration from test."""
        generator = make_generator(0, self.key, part)
        if self.vocabulary:
            return _tokens(n, self.shape[0], self.vocabulary, generator)
        return _smooth(n, self.shape, generator)


def _tokens(n: int, length: int, vocabulary: int, generator: torch.Generator) -> Tensor:
    """Return sentences whose words are as unequal in frequency as those of a language."""
    weights = 1.0 / torch.arange(3, 3 + vocabulary, dtype=torch.float64)
    drawn = torch.multinomial(weights, n * length, replacement=True, generator=generator)
    return drawn.reshape(n, length)


def _smooth(n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return samples in [0, 1] that vary slowly in space, as photographs and signals do.

    Noise on three coarse grids, the coarsest strongest, then a contrast and a brightness of its own
    for each sample.
    """
    spatial = shape[1:] if len(shape) > 1 else shape
    channels = shape[0] if len(shape) > 1 else 1
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(spatial)]
    total = torch.zeros(n, channels, *spatial)
    for cells, strength in ((2, 1.0), (5, 0.6), (13, 0.3)):
        coarse = [min(cells, size) for size in spatial]
        noise = torch.randn(n, channels, *coarse, generator=generator)
        total += strength * interpolate(noise, spatial, mode=mode, align_corners=False)
    one = (n, *[1] * (total.ndim - 1))
    contrast = 0.1 + 0.2 * torch.rand(one, generator=generator)
    brightness = 0.3 + 0.4 * torch.rand(one, generator=generator)
    return (brightness + contrast * total).clamp(0, 1).reshape(n, *shape)
