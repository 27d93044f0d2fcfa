"""What the benchmark of campaigns compares with, each in its best case: PyTorchFI and dense draws.

PyTorchFI 0.6.0 copies the model for every declaration, hooks every layer of the listed types and
executes the whole network. It sets values, not bits: which value it is does not change the time.
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitproof.faults import FaultTable

INSTALL = "pip install --no-deps pytorchfi==0.6.0"


class PyTorchFI:
    """The faults of a table, through PyTorchFI.

    Raises:
        ModuleNotFoundError: it is not installed.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        from pytorchfi.core import fault_injection  # noqa: PLC0415 - it is no dependency

        kinds = [nn.Conv2d]
        shape = list(images.shape[1:])
        self.images = images
        self.batched = fault_injection(model, len(images), input_shape=shape, layer_types=kinds)
        self.single = fault_injection(model, 1, input_shape=shape, layer_types=kinds)
        named = {name: one for name, one in model.named_modules() if isinstance(one, nn.Conv2d)}
        self.number = {name: number for number, name in enumerate(named)}
        self.weights = {name: tuple(one.weight.shape) for name, one in named.items()}
        self.outputs = dict(
            zip(named, (tuple(s[1:]) for s in self.batched.output_size), strict=True)
        )

    def weight_faults(self, faults: FaultTable, times: int) -> Callable[[], None]:
        """Return work: `times` faults in weights, one for each pass of all images."""
        places = self._places(faults, self.weights)

        def work() -> None:
            for _ in range(times):
                layer, (k, *rest) = next(places)
                at = {f"dim{axis}": [place] for axis, place in enumerate(rest, 1)}
                self.batched.declare_weight_fi(layer_num=[layer], k=[k], value=[1.0], **at)(
                    self.images
                )

        return work

    def neuron_faults(self, faults: FaultTable, times: int) -> Callable[[], None]:
        """Return work: `times` passes of all images, with another faulty neuron in each image."""
        return self._neurons(self.batched, self.images, faults, times)

    def neuron_faults_of_one(self, faults: FaultTable, times: int) -> Callable[[], None]:
        """Return work: `times` passes of one image, with one faulty neuron."""
        return self._neurons(self.single, self.images[:1], faults, times)

    def _neurons(
        self, injector: Any, images: Tensor, faults: FaultTable, times: int
    ) -> Callable[[], None]:
        places = self._places(faults, self.outputs)

        def work() -> None:
            for _ in range(times):
                chosen = [next(places) for _ in images]
                at = {f"dim{axis + 1}": [place[axis] for _, place in chosen] for axis in range(3)}
                injector.declare_neuron_fi(
                    batch=list(range(len(images))),
                    layer_num=[layer for layer, _ in chosen],
                    value=[1.0] * len(images),
                    **at,
                )(images)

        return work

    def _places(
        self, faults: FaultTable, shapes: dict[str, tuple[int, ...]]
    ) -> Iterator[tuple[int, list[int]]]:
        """Yield layer numbers and indices of the faults, trial by trial, again and again."""
        found = []
        for layer, element in zip(faults.layer.tolist(), faults.element.tolist(), strict=True):
            name = faults.layers[layer]
            index = np.unravel_index(element, shapes[name])
            found.append((self.number[name], [int(i) for i in index]))
        return cycle(found)


class DenseChip:
    """Random bit errors in the 8-bit weights of a float model: one uniform for every bit."""

    def __init__(self, model: nn.Module, generator: torch.Generator) -> None:
        self.model, self.generator = model, generator
        layers = [one for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
        scales = [float(one.weight.abs().max()) / 127 for one in layers]
        self.layers = [
            (one, (one.weight.detach() / scale).round().to(torch.int8), scale)
            for one, scale in zip(layers, scales, strict=True)
        ]

    def inject(self, ber: float) -> None:
        """Write another chip's weights into the model."""
        for layer, codes, scale in self.layers:
            flips = torch.zeros_like(codes)
            for bit in range(8):
                draw = torch.rand(codes.shape, generator=self.generator) < ber
                flips |= draw.to(torch.int8) << bit
            layer.weight.data = (codes ^ flips) * scale
