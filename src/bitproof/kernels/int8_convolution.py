"""Convolutions of 8-bit words, on the CPU's 8-bit dot products: oneDNN through torch.

Model:  uint8 words with a zero point, int8 weights, sums in int32 registers that come back as
        float32. `supported` compares with float64 on the largest operands before anything relies
        on it, because CPUs without VNNI add pairs of products in 16 bits, with saturation.
Source: oneDNN developer guide, "Nuances of int8 Computations".
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bitproof.core.rng import make_generator
from bitproof.kernels.geometry import Geometry

INT8 = torch.iinfo(torch.int8)
MISSING = (AttributeError, RuntimeError, TypeError)
"""What torch raises where it has no such operation, or oneDNN none for this CPU."""


@lru_cache(maxsize=1)
def supported() -> bool:
    """Tell whether this CPU and this torch sum 8-bit products exactly.

    Example:
        >>> supported() in {True, False}
        True
    """
    try:
        return all(sums_exactly(case) for case in SELF_TEST)
    except MISSING:
        return False


@dataclass(frozen=True)
class Packed:
    """Weights in the layout that oneDNN wants, for a slice of each group's input channels."""

    weight: Tensor
    ones: Tensor
    zeros: Tensor
    zero_point: int
    """Of the uint8 words that go in."""
    geometry: Geometry
    shape: torch.Size
    """Of the weights."""
    part: slice
    """Input channels of each group that these weights are for."""

    def convolve(self, words: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the sums of `words`, uint8 maps, as float32 maps that lie channels last."""
        move = self.geometry
        if self.part != slice(None):
            grouped = words.reshape(len(words), move.groups, -1, *words.shape[2:])
            words = grouped[:, :, self.part].flatten(1, 2)
        read = (words, 1.0, self.zero_point, self.weight, self.ones, self.zeros, bias)
        written: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")
        sums: Tensor = torch.ops.onednn.qconv2d_pointwise.default(*read, *_moves(move), *written)
        return sums


def pack(weight: Tensor, zero_point: int, geometry: Geometry, part: slice = slice(None)) -> Packed:
    """Return int8 weights, ready for words with `zero_point`."""
    ones, zeros = torch.ones(len(weight)), torch.zeros(len(weight), dtype=torch.int64)
    chosen = weight[:, part].contiguous(memory_format=torch.channels_last)
    packed = torch.ops.onednn.qconv_prepack.default(
        chosen, ones, 1.0, zero_point, *_moves(geometry), None
    )
    return Packed(packed, ones, zeros, zero_point, geometry, chosen.shape, part)


def _moves(geometry: Geometry) -> tuple[Any, ...]:
    return geometry.stride, geometry.padding, geometry.dilation, geometry.groups


def sum_windows(maps: Tensor, size: tuple[int, ...], move: Geometry) -> Tensor:
    """Return the sum under each window of `size`, map by map.

    A convolution with ones would do, but oneDNN's for a single channel is wrong at times.

    Example:
        >>> sum_windows(torch.ones(1, 1, 3, 3), (3, 3), Geometry(padding=(1, 1)))
        tensor([[[[4., 6., 4.],
                  [6., 9., 6.],
                  [4., 6., 4.]]]])
    """
    for axis, around in ((2, (0, 0, 1, 1)), (3, (1, 1))):
        taps, step, edge, gap = (
            values[axis - 2] for values in (size, move.stride, move.padding, move.dilation)
        )
        padded = functional.pad(maps, [edge * side for side in around]) if edge else maps
        stop, before = padded.shape[axis] - gap * (taps - 1), (slice(None),) * axis
        maps = padded[(*before, slice(0, stop, step))]
        for start in range(gap, gap * taps, gap):
            maps = maps + padded[(*before, slice(start, start + stop, step))]
    return maps


@dataclass(frozen=True)
class Case:
    """A convolution of extreme operands: shapes for which oneDNN has code of its own."""

    channels: tuple[int, int]
    kernel: tuple[int, int]
    size: tuple[int, int]
    geometry: Geometry
    zero_point: int = 0


SELF_TEST = (
    Case((3, 16), (3, 3), (8, 8), Geometry(padding=(1, 1)), 128),
    Case((16, 16), (3, 3), (8, 8), Geometry(padding=(1, 1))),
    Case((48, 33), (3, 3), (5, 7), Geometry(padding=(1, 1)), 255),
    Case((40, 24), (3, 3), (9, 9), Geometry((2, 2), (2, 2), (2, 2)), 7),
    Case((64, 70), (1, 1), (6, 6), Geometry(stride=(2, 2)), -300),
    Case((500, 20), (1, 1), (37, 1), Geometry(), 100),
    Case((7, 5), (1, 5), (1, 12), Geometry(padding=(0, 2)), 3),
    Case((32, 32), (3, 3), (7, 7), Geometry(padding=(1, 1), groups=32), 9),
    Case((36, 8), (3, 3), (6, 6), Geometry(padding=(1, 1), groups=4), 200),
)


def sums_exactly(case: Case) -> bool:
    """Tell whether the largest and the smallest operands give the same sums as in float64."""
    generator = make_generator(0, "onednn self-test", repr(case))
    inputs, outputs = case.channels
    words = 255 * torch.randint(0, 2, (3, inputs, *case.size), generator=generator)
    words[1], words[2] = 0, 255
    shape = (outputs, inputs // case.geometry.groups, *case.kernel)
    weight = 255 * torch.randint(0, 2, shape, generator=generator) + INT8.min
    weight[::4], weight[1::4] = INT8.max, INT8.min
    packed = pack(weight.to(torch.int8), case.zero_point, case.geometry)
    sums = packed.convolve(words.to(torch.uint8))
    exact = functional.conv2d(
        words.double() - case.zero_point, weight.double(), **vars(case.geometry)
    )
    return bool(torch.equal(sums.double(), exact.float().double()))
