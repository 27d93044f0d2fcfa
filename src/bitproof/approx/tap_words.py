"""What the taps of filters read, and the mean and variance of multiplication errors that follow.

Model:  with p_t(a) how often tap t of a filter reads word a, and e[a, w] the error of a product,
        a filter with weights w_t is too large by sum_t mu_t on average, where
        mu_t = sum_a p_t(a) e[a, w_t]; the variance of its error is
        sum_t (sum_a p_t(a) e[a, w_t]^2 - mu_t^2), as if taps read words independently. Padding
        counts as often as a tap reads it, and so do pixels that a stride leaves out.
Source: METHODS B.4, operator and filter level.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64, Integer, Num, UInt8
from torch import Tensor
from torch.nn import functional

from bitproof.kernels.forms import WORDS
from bitproof.kernels.geometry import Geometry
from bitproof.quant.graph import Node
from bitproof.quant.maps import as_kernel, as_maps
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.products import OperandEncoding

FEW = 16
"""Images whose words are counted at once."""


@dataclass(frozen=True, eq=False)
class TapWords:
    """The words that the taps of one layer's filters read, and the weights that they meet."""

    counts: Int64[Tensor, "g taps 256"]
    """How often each tap reads each pattern, by group of channels."""
    kernel: UInt8[Tensor, "m taps"]
    """Patterns of the weights."""

    @classmethod
    def of(
        cls,
        network: IntegerNetwork,
        node: Node,
        codes: Integer[Tensor, "n *shape"],
        *,
        signed: bool,
    ) -> "TapWords":
        """Count what a node with a weight reads, as multipliers of these signs see it."""
        weight = network.tensors[node.key("weight")]
        encoding = OperandEncoding.of(network.grids[node.inputs[0]], signed=signed)
        patterns = OperandEncoding.of(weight.grid, signed=signed).patterns(weight.codes)
        (kernel, geometry), maps = as_kernel(patterns, node), as_maps(codes, node)
        point = (network.constants[node.name].zero_points[0] + encoding.shift) % WORDS
        counts = _counts(encoding.patterns(maps), tuple(kernel.shape[2:]), geometry, point=point)
        by_group = counts.reshape(geometry.groups, -1, WORDS)
        return cls(by_group, kernel.flatten(1))

    def __add__(self, other: "TapWords") -> "TapWords":
        """Add what was counted on other images of the same layer."""
        return TapWords(self.counts + other.counts, self.kernel)

    @property
    def shares(self) -> Float64[Tensor, "g taps 256"]:
        """How often each tap reads each pattern, as a fraction."""
        windows = self.counts[0, 0].sum().double()
        return self.counts.double() / windows

    def expected(self, entries: Num[Tensor, "256 256"]) -> Float64[Tensor, " m"]:
        """Return the mean over windows of the sum of `entries[a, w]`, by filter."""
        return self._by_tap(entries).sum(1)

    def moments(
        self, errors: Num[Tensor, "256 256"]
    ) -> tuple[Float64[Tensor, " m"], Float64[Tensor, " m"]]:
        """Return mean and variance of the error of each filter's sums, in accumulator steps."""
        means = self._by_tap(errors)
        squares = self._by_tap(errors.double() ** 2)
        return means.sum(1), (squares - means**2).clamp(min=0).sum(1)

    def _by_tap(self, entries: Num[Tensor, "256 256"]) -> Float64[Tensor, "m taps"]:
        """Return the mean of the entries that each tap of each filter meets."""
        groups, taps = self.counts.shape[:2]
        by_weight = self.shares @ entries.double().to(self.kernel.device)  # [g, taps, 256]
        patterns = self.kernel.reshape(groups, -1, taps).transpose(1, 2).long()
        return by_weight.gather(2, patterns).transpose(1, 2).reshape(-1, taps)


def _counts(
    maps: UInt8[Tensor, "n c h w"], size: tuple[int, ...], geometry: Geometry, *, point: int
) -> Int64[Tensor, "c kh kw 256"]:
    """Return how often each tap sees each pattern; `point` is that of padding."""
    (up, left), channels = geometry.padding, maps.shape[1]
    padded = functional.pad(maps, (left, left, up, up), value=point)
    first = torch.arange(channels, device=maps.device)[:, None, None] * WORDS
    counts = [_count(view, first) for view in geometry.taps(padded, size)]
    return torch.stack(counts, 1).reshape(channels, WORDS, *size).movedim(1, -1)


def _count(
    codes: UInt8[Tensor, "n c h w"], first: Int64[Tensor, "c 1 1"]
) -> Int64[Tensor, " places"]:
    """Return how often each word comes in each channel, whose counts begin at `first`."""
    places = WORDS * len(first)
    parts = (part + first for part in torch.split(codes, FEW))  # eight bytes a word
    return torch.stack([part.flatten().bincount(minlength=places) for part in parts]).sum(0)
