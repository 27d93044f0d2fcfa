"""The words of one layer as matrices: what its products read, and what its sums become."""

from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor

from bitproof.faults.layer_matrices import Indices, matrices_of
from bitproof.quant.arithmetic import requantize
from bitproof.quant.compiled import words_of_sums
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.network import IntegerNetwork


class LayerWords:
    """One layer of a network and the words that it reads, images on the first axis."""

    def __init__(self, network: IntegerNetwork, node: Node, codes: Tensor) -> None:
        self.network, self.node, self.codes = network, node, codes
        self.layer = matrices_of(network, node, tuple(codes.shape[1:]))
        self.constants = network.constants[node.name]

    def gather(self, *index: Indices) -> Int32[Tensor, "images m g k"]:
        """Return the input words of products."""
        words = self.layer.words(*index).transpose(1, 0, 2)
        flat = torch.from_numpy(np.ascontiguousarray(words).reshape(-1)).to(self.words.device)
        found = torch.gather(self.words, 1, flat.expand(len(self.words), -1)).to(torch.int32)
        return found.reshape(len(found), *words.shape)

    def weights(
        self, groups: Indices, channels: Indices, taps: Indices
    ) -> tuple[Int32[Tensor, "g n k"], Int32[Tensor, "g n 1"]]:
        """Return weight words, and their zero points."""
        layer, coded = self.layer, self.network.tensors[self.node.key("weight")]
        codes = coded.codes.reshape(layer.groups, layer.n_channels, layer.n_taps)
        points = coded.grid.zero_point.reshape(-1)
        points = points.expand(len(coded.codes)).reshape(layer.groups, layer.n_channels, 1)
        g, n, k = (torch.from_numpy(each).to(codes.device) for each in (groups, channels, taps))
        chosen = codes[g][:, n][:, :, k]
        return chosen.to(torch.int32), points[g][:, n].to(torch.int32)

    def output(self, sums: Tensor) -> Tensor:
        """Return the words that sums in float32 become; real logits, for the last layer."""
        multiplier, out = self.constants.multipliers[0], self.network.grids.get(self.node.name)
        if out is not None:
            words = words_of_sums(sums, multiplier, self.constants, out.dtype)
            if words is not None:
                return words
        values = sums * multiplier
        return values if out is None else requantize(values, self.constants).to(out.dtype)

    @cached_property
    def words(self) -> Tensor:
        """The words of each image in a row, and one of the padding last."""
        return self.layer.flat_words(self.codes, self.point)

    @property
    def grid(self) -> Grid:
        """The grid of the words that are read."""
        return self.network.grids[self.node.inputs[0]]

    @property
    def point(self) -> int:
        """The word that stands for 0."""
        return self.constants.zero_points[0]


def add_at(
    sums: Tensor,
    change: Int32[Tensor, "images m g n"],
    outputs: Indices,
    groups: Indices,
    channels: Indices,
) -> None:
    """Add changes to sums in place, at all combinations of outputs, groups and channels."""
    places = (outputs, groups, channels)
    m, g, n = (_index(each) for each in places)
    if isinstance(m, slice) and isinstance(g, slice) and isinstance(n, slice):
        sums[:, m, g, n] += change
    else:
        i, j, k = (torch.from_numpy(each).to(sums.device) for each in places)
        sums[:, i[:, None, None], j[:, None], k] += change


def _index(values: Indices) -> slice | Indices:
    """Return indices as a slice, where they are evenly spaced."""
    if len(values) == 1:
        return slice(int(values[0]), int(values[0]) + 1)
    steps = np.diff(values)
    if len(values) and (steps == steps[0]).all() and steps[0] > 0:
        return slice(int(values[0]), int(values[-1]) + 1, int(steps[0]))
    return values
