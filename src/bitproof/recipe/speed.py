"""How fast a machine sends images through a network, from a second of trying.

Model:  one batch, as large as a tenth of a second allows, tells what an image takes; the fastest
        of three tries, because other work on the machine only ever slows one down. The network
        has random weights, and integer networks are calibrated on a few images: neither changes how
        long they take. A training step is a forward and a backward pass with augmentation; what
        stages do to weights in between is not in it.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitproof.approx import Arithmetic
from bitproof.core.passes import Passes
from bitproof.data import Dataset
from bitproof.harden import Candidate
from bitproof.models.user_module import dtype_of
from bitproof.quant import IntegerNetwork, Scheme
from bitproof.quant.weight_gradient import weighted_layers
from bitproof.recipe.estimate import Estimate, as_float
from bitproof.train import Optimization
from bitproof.train.batches import Batches
from bitproof.train.loop import channels_last

ENOUGH_S = 0.1
"""Seconds that a try may take before it is large enough."""
BATCHES = (4, 32, 128)
"""Images of a try, until it is large enough."""
TRIES = 3
"""Calls on a batch, of which the fastest counts."""
CALIBRATION = 8
"""Images that integer networks are calibrated on here."""
MOST_S = 5.0
"""Seconds of trying after which multipliers that are left count as the slowest so far."""


@dataclass(frozen=True)
class Speed:
    """Seconds that one image takes in a forward pass, and in a backward pass."""

    forward: float
    backward: float

    def estimate(self, passes: Passes, *, slowdown: float = 1.0) -> Estimate:
        """Return what passes come to that take so much longer."""
        seconds = as_float(passes.forward) * self.forward
        seconds += as_float(passes.backward) * self.backward
        return Estimate(passes.images, slowdown * seconds, at_least=passes.at_least)


@dataclass(eq=False)
class Speeds:
    """The speeds of one architecture on one device, each tried when it is first asked for."""

    network: IntegerNetwork
    """With exact products."""
    images: Dataset
    """Some training images, on the same device"""
    model: nn.Module | None = None
    """The float network; None: there is none."""
    augmentation: tuple[Any, ...] = ()
    data_dir: Path | None = None
    _floats: dict[str, Speed] = field(default_factory=dict)
    _integers: dict[str, Speed] = field(default_factory=dict)
    _spent: float = 0.0

    @classmethod
    def of_model(
        cls,
        model: nn.Module,
        scheme: Scheme,
        train: Dataset,
        *,
        augmentation: tuple[Any, ...] = (),
        data_dir: Path | None = None,
    ) -> "Speeds":
        """Return those of a model, which may be changed, and of its integer network.

        Raises:
            BitproofError: in its kinds, where it cannot be quantized.
        """
        few = few_of(train)
        model = model.to(few.labels.device)
        network = Candidate(deepcopy(model).eval(), quick(scheme)).quantize(few)
        return cls(network, few, model, augmentation, data_dir)

    @property
    def layers(self) -> int:
        """Number of layers with weights."""
        return len(weighted_layers(self.network))

    def floats(self, precision: str = "float32") -> Speed:
        """Return the speed of the float network, in training."""
        if precision not in self._floats:
            self._floats[precision] = self._training(precision)
        return self._floats[precision]

    def integers(self, arithmetic: Arithmetic | None = None) -> Speed:
        """Return the speed of the integer network with the multipliers of `arithmetic`."""
        arithmetic = arithmetic or Arithmetic()
        arithmetic = arithmetic.model_copy(update={"correct_means": False})
        key = arithmetic.digest()
        if key in self._integers:
            return self._integers[key]
        if self._spent > MOST_S:
            return max(self._integers.values(), key=lambda own: own.forward)
        start = time.perf_counter()
        inputs = self.images.inputs()
        network = arithmetic.apply(self.network, inputs[:CALIBRATION], data_dir=self.data_dir)
        self._integers[key] = self._of(network, inputs)
        self._spent += time.perf_counter() - start
        return self._integers[key]

    def _of(self, network: IntegerNetwork, inputs: Tensor) -> Speed:
        def both(size: int) -> None:
            points = inputs[:size].detach().requires_grad_()
            found = network.differentiable(points).float().sum()
            if found.requires_grad:
                torch.autograd.grad(found, points, allow_unused=True)

        forward = self._seconds(lambda size: network(inputs[:size]))
        if not inputs.is_floating_point():
            return Speed(forward, 0.0)
        return Speed(forward, max(0.0, self._seconds(both) - forward))

    def _training(self, precision: str) -> Speed:
        model, device = self.model, self.network.device
        assert model is not None

        def batch(size: int) -> Tensor:
            optimization = Optimization(batch_size=size)
            few = self.images.first(min(size, len(self.images)))
            batches = Batches(few, optimization, seed=0, augmentation=self.augmentation)
            found = batches[0].inputs if few.is_images else few.inputs()
            return found.to(dtype_of(model)) if found.is_floating_point() else found

        def forward(size: int) -> None:
            with torch.no_grad():
                model(batch(size))

        def both(size: int) -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                value = model(batch(size)).float().square().mean()
            if value.requires_grad:
                value.backward()
            model.zero_grad(set_to_none=True)

        with channels_last(model):
            model.eval()
            ahead = self._seconds(forward)
            model.train(len(self.images) > 1)  # batch norms need two
            step = self._seconds(both)
        return Speed(ahead, max(0.0, step - ahead))

    def _seconds(self, call: Callable[[int], object]) -> float:
        """Return what an image takes in a call on so many: the least of several, as others work."""
        least, images = 0.0, 1
        call(min(BATCHES[0], len(self.images)))
        for size in BATCHES:
            images = min(size, len(self.images))
            least = min(self._timed(call, images) for _ in range(TRIES))
            if least >= ENOUGH_S:
                break
        return least / images

    def _timed(self, call: Callable[[int], object], images: int) -> float:
        start = time.perf_counter()
        call(images)
        if self.network.device.type == "cuda":
            torch.cuda.synchronize(self.network.device)
        return time.perf_counter() - start


def few_of(train: Dataset) -> Dataset:
    """Return images for the largest batch that is tried."""
    return train.first(min(len(train), BATCHES[-1]))


def quick(scheme: Scheme) -> Scheme:
    """Return a scheme that gives the same kernels at once."""
    quick = {"calibration_images": CALIBRATION, "calibration": "min_max", "adaround": None}
    return scheme.model_copy(update={**quick, "equalize": False, "bias_correction": False})
