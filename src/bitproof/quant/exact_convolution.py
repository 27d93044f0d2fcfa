"""Exact sums of words times integers over maps: what tables of products are put together from."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bitproof.kernels.int8_convolution import Geometry
from bitproof.quant.constants import EXACT_FLOAT32, Constants
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.onednn import native_totals
from bitproof.quant.steps import accumulate, wrap_int32


@dataclass(frozen=True, eq=False)
class ExactConvolution:
    """A convolution over two axes, of words minus their zero point.

    Example:
        >>> grid = Grid(torch.tensor(1.0), torch.tensor(5, dtype=torch.int32), 8, signed=False)
        >>> layer = ExactConvolution.of(torch.full((1, 1, 1, 1), 3.0), None, Geometry(), grid)
        >>> layer.totals(torch.full((1, 1, 1, 1), 7, dtype=torch.uint8)).item()
        6.0
    """

    node: Node
    constants: Constants
    grid: Grid
    """Of the words that go in."""

    @classmethod
    def of(
        cls,
        weight: Float[Tensor, "m d kh kw"],
        bias: Float[Tensor, " m"] | None,
        geometry: Geometry,
        grid: Grid,
    ) -> "ExactConvolution":
        """Return the layer that multiplies by whole numbers in `weight`."""
        names = ("stride", "padding", "dilation")
        moves = {name: list(getattr(geometry, name)) for name in names}
        node = Node("products", "conv", ("words",), {**moves, "groups": geometry.groups})
        point = int(grid.zero_point)
        peak = max(abs(grid.low - point), abs(grid.high - point))
        reach = weight.abs().flatten(1).sum(1).double() * peak
        reach = reach if bias is None else reach + bias.abs().double()
        narrow = bool(reach.max() < EXACT_FLOAT32) and weight.device.type == "cpu"
        dtype = torch.float32 if narrow else torch.float64
        kernel = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        bias = None if bias is None else bias.to(dtype)
        return cls(node, Constants((point,), (1.0,), kernel, bias, dtype), grid)

    @cached_property
    def largest(self) -> float:
        """Bound on the size of the sums."""
        weight, bias = self.constants.weight, self.constants.bias
        point = self.constants.zero_points[0]
        assert weight is not None
        peak = max(abs(self.grid.low - point), abs(self.grid.high - point))
        reach = weight.double().abs().flatten(1).sum(1) * peak
        return float((reach if bias is None else reach + bias.abs()).max())

    def totals(self, maps: Integer[Tensor, "n c h w"]) -> Tensor:
        """Return the sums: in float32 where that holds them all, else in int32, which wraps."""
        found = native_totals(self.node, self.constants, maps, self.grid)
        if found is not None:
            return found
        sums = accumulate(self.node, self.constants, [maps.float() - self.constants.zero_points[0]])
        return sums if self.constants.dtype == torch.float32 else wrap_int32(sums).to(torch.int32)
