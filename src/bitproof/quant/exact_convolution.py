"""Exact sums of words times integers over maps: what tables of products are put together from."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bitproof.kernels.exact_floats import sum_bounds, sum_type
from bitproof.kernels.geometry import Geometry
from bitproof.quant.arithmetic import accumulate, wrap_int32
from bitproof.quant.constants import Constants
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.onednn import native_totals


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
        moves = {name: list(getattr(geometry, name)) for name in ("stride", "padding", "dilation")}
        node = Node("products", "conv", ("words",), {**moves, "groups": geometry.groups})
        dtype = sum_type(sum_bounds(weight, grid.peak, bias))
        kernel = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        bias = None if bias is None else bias.to(dtype)
        return cls(node, Constants((int(grid.zero_point),), (1.0,), kernel, bias, dtype), grid)

    @cached_property
    def largest(self) -> float:
        """Bound on the size of the sums."""
        weight, bias = self.constants.weight, self.constants.bias
        assert weight is not None
        return float(sum_bounds(weight, self.grid.peak, bias).max())

    def totals(self, maps: Integer[Tensor, "n c h w"]) -> Tensor:
        """Return the sums: in float32 where that holds them all, else in int32, which wraps."""
        found = native_totals(self.node, self.constants, maps, self.grid)
        if found is not None:
            return found
        sums = accumulate(self.node, self.constants, [maps.float() - self.constants.zero_points[0]])
        return sums if self.constants.dtype == torch.float32 else wrap_int32(sums).to(torch.int32)
