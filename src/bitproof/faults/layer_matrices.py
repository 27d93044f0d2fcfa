"""A convolution or linear layer as products of matrices, which is how arrays of multipliers see it.

Model:  the output of one image is `Y[m, n] = sum_k A[m, k] W[k, n]` in each group of channels: m
        counts places of the output (outer axes first, columns fastest), n output channels of the
        group, and k the taps of a weight as they are stored (channel, kernel rows, kernel columns).
        A is never built: `words` says where each of its entries lies in the input.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from bitproof.quant.graph import Node

Index = Int64[np.ndarray, " _"]


@dataclass(frozen=True)
class LayerMatrices:
    """The sizes of one layer, for one image.

    Example:
        >>> attrs = {"stride": [1], "padding": [0], "dilation": [1], "groups": 1}
        >>> node = Node("conv", "conv", ("x",), attrs)
        >>> layer = LayerMatrices.of(node, weight=(2, 1, 3), codes=(1, 5))
        >>> layer.n_outputs, layer.n_taps, layer.n_channels
        (3, 3, 2)
        >>> layer.words(np.arange(1), np.arange(3), np.arange(3)).tolist()
        [[[0, 1, 2], [1, 2, 3], [2, 3, 4]]]
    """

    groups: int
    lead: int
    """Rows of a linear layer, or outer axes of maps; 1 mostly."""
    n_channels: int
    """Output channels of a group."""
    channels_in: int
    """Input channels of a group."""
    kernel: tuple[int, ...]
    """Axes of space; none for linear layers."""
    sizes_in: tuple[int, ...]
    sizes_out: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @classmethod
    def of(cls, node: Node, *, weight: tuple[int, ...], codes: tuple[int, ...]) -> "LayerMatrices":
        """Return the sizes of a node; `codes` is the shape of one image's input words."""
        if node.op == "linear":
            lead = prod(codes[:-1])
            return cls(1, lead, weight[0], weight[1], (), (), (), (), (), ())
        move, kernel = node.geometry, weight[2:]
        space = codes[len(codes) - len(kernel) :]
        outer = codes[: len(codes) - len(kernel) - 1]
        return cls(
            groups=move.groups,
            lead=prod(outer),
            n_channels=weight[0] // move.groups,
            channels_in=weight[1],
            kernel=tuple(kernel),
            sizes_in=tuple(space),
            sizes_out=tuple(move.outputs(space, kernel)),
            stride=tuple(move.stride),
            padding=tuple(move.padding),
            dilation=tuple(move.dilation),
        )

    @property
    def n_taps(self) -> int:
        """Products in each sum."""
        return self.channels_in * prod(self.kernel)

    @property
    def n_places(self) -> int:
        """Places of the map that comes out."""
        return prod(self.sizes_out)

    @property
    def n_outputs(self) -> int:
        """Rows of Y: places of all maps of one channel."""
        return self.lead * self.n_places

    @property
    def columns(self) -> tuple[int, int]:
        """Kernel columns, and columns of the map that comes out; 1 for linear layers."""
        return (self.kernel[-1], self.sizes_out[-1]) if self.kernel else (1, 1)

    @property
    def channels_last(self) -> Index:
        """Taps in the order of an array that is fed channel by channel at each kernel place."""
        taps = np.arange(self.n_taps).reshape(self.channels_in, -1)
        return np.ascontiguousarray(taps.T).reshape(-1)

    @cached_property
    def n_words(self) -> int:
        """Input words; the number of the padding word, which `words` gives beyond the map."""
        return self.lead * self.groups * self.channels_in * prod(self.sizes_in)

    def words(self, groups: Index, outputs: Index, taps: Index) -> Int64[np.ndarray, "g m k"]:
        """Return which input word each product reads, counted as if laid out flat."""
        per_kernel = prod(self.kernel)
        channel, at = np.divmod(taps, per_kernel)
        lead, place = np.divmod(outputs, self.n_places)
        channels = groups[:, None] * self.channels_in + channel
        index = lead[None, :, None] * (self.groups * self.channels_in) + channels[:, None, :]
        outside = np.zeros((len(outputs), len(taps)), bool)
        for axis in range(len(self.kernel)):
            row = self.reads(axis, place, at)
            outside |= (row < 0) | (row >= self.sizes_in[axis])
            index = index * self.sizes_in[axis] + row[None]
        return np.where(outside[None], self.n_words, index)

    def reads(self, axis: int, place: Index, at: Index) -> Int64[np.ndarray, "m k"]:
        """Return the row of the input, along an axis of space, of places of map and kernel."""
        y = np.unravel_index(place, self.sizes_out)[axis]
        tap = np.unravel_index(at, self.kernel)[axis]
        step, gap = self.stride[axis], self.dilation[axis]
        rows: np.ndarray = (y * step - self.padding[axis])[:, None] + (tap * gap)[None]
        return rows

    def elements(
        self, groups: Index, outputs: Index, channels: Index
    ) -> Int64[np.ndarray, "g m n"]:
        """Return which output word each sum becomes, counted as if laid out flat."""
        lead, place = np.divmod(outputs, self.n_places)
        of = groups[:, None, None] * self.n_channels + channels[None, None, :]
        total = self.groups * self.n_channels
        found: np.ndarray = (lead[None, :, None] * total + of) * self.n_places + place[
            None, :, None
        ]
        return found


def columns_of_images(
    codes: Integer[Tensor, "n *shape"], zero_point: int
) -> Integer[Tensor, "words n"]:
    """Return input words with images last, and the padding word behind them."""
    flat = codes.reshape(len(codes), -1)
    words = torch.empty(flat.shape[1] + 1, len(codes), dtype=torch.int16, device=codes.device)
    words[:-1] = flat.T
    words[-1] = zero_point
    return words
