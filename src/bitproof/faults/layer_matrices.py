"""A convolution or linear layer as products of matrices, which is how arrays of multipliers see it.

Model:  the output of one image is `Y[m, n] = sum_k A[m, k] W[k, n]` in each group of channels: m
        counts places of the output (outer axes first, columns fastest), n output channels of the
        group, and k the taps of a weight as they are stored (channel, kernel rows, kernel columns).
        A is never built: `words` says where each of its entries lies in the input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from jaxtyping import Int64, Integer, Shaped
from torch import Tensor

from bitproof.quant.graph import Node
from bitproof.quant.network import IntegerNetwork

Indices = Int64[np.ndarray, " _"]


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
    def channels_last(self) -> Indices:
        """Taps in the order of an array that is fed channel by channel at each kernel place."""
        taps = np.arange(self.n_taps).reshape(self.channels_in, -1)
        return np.ascontiguousarray(taps.T).reshape(-1)

    @cached_property
    def n_words(self) -> int:
        """Input words of one image."""
        return self.lead * self.groups * self.channels_in * prod(self.sizes_in)

    def words(self, groups: Indices, outputs: Indices, taps: Indices) -> Int64[np.ndarray, "g m k"]:
        """Return which input word each product reads, as laid out by `flat_words`."""
        channel, at = np.divmod(taps, prod(self.kernel))
        pixels = self.pixels(outputs, at)
        channels = groups[:, None] * self.channels_in + channel
        index = pixels[None] * (self.groups * self.channels_in) + channels[:, None]
        return np.where(pixels[None] < 0, self.n_words, index)

    def pixels(self, outputs: Indices, at: Indices) -> Int64[np.ndarray, "m k"]:
        """Return which place of the input places of output and kernel meet; -1 in the padding."""
        lead, place = np.divmod(outputs, self.n_places)
        index = np.broadcast_to(lead[:, None], (len(outputs), len(at)))
        outside = np.zeros(index.shape, bool)
        for axis in range(len(self.kernel)):
            row = self.reads(axis, place, at)
            outside |= (row < 0) | (row >= self.sizes_in[axis])
            index = index * self.sizes_in[axis] + row
        return np.where(outside, -1, index)

    def reads(self, axis: int, place: Indices, at: Indices) -> Int64[np.ndarray, "m k"]:
        """Return the row of the input, along an axis of space, of places of map and kernel."""
        y = np.unravel_index(place, self.sizes_out)[axis]
        tap = np.unravel_index(at, self.kernel)[axis]
        step, gap = self.stride[axis], self.dilation[axis]
        rows: np.ndarray = (y * step - self.padding[axis])[:, None] + (tap * gap)[None]
        return rows

    def flat_words(
        self, codes: Integer[Tensor, "n *shape"], zero_point: int
    ) -> Integer[Tensor, "n words"]:
        """Return the words of each image in a row, channels fastest, and one of the padding last.

        `codes` are the words that the layer reads.
        """
        n, space = len(codes), len(self.kernel)
        last = codes.movedim(-1 - space, -1) if space else codes
        padding = torch.full((n, 1), zero_point, dtype=codes.dtype, device=codes.device)
        return torch.cat([last.reshape(n, -1), padding], 1)

    def as_matrix(self, sums: Shaped[Tensor, "n *shape"]) -> Shaped[Tensor, "n m g c"]:
        """Return what a layer gives, `Y[m, n]` of each group, as a view where that is possible."""
        channels = self.groups * self.n_channels
        maps = sums.reshape(len(sums), self.lead, channels, self.n_places)
        return maps.movedim(2, 3).reshape(len(sums), -1, self.groups, self.n_channels)

    def as_output(
        self, matrix: Shaped[Tensor, "n m g c"], shape: Sequence[int]
    ) -> Shaped[Tensor, "n *shape"]:
        """Return what `as_matrix` took apart, of its `shape`."""
        maps = matrix.reshape(len(matrix), self.lead, self.n_places, -1)
        return maps.movedim(3, 2).reshape(tuple(shape))


def matrices_of(network: IntegerNetwork, node: Node, codes: tuple[int, ...]) -> LayerMatrices:
    """Return the sizes of a node of a network; `codes` is the shape of one image's input words."""
    weight = tuple(network.tensors[node.key("weight")].codes.shape)
    return LayerMatrices.of(node, weight=weight, codes=codes)
