"""How one node multiplies and accumulates: exactly, or (in `product_layer`) through tables."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bitproof.core.errors import QuantizationError
from bitproof.kernels.exact_floats import sum_bounds, sum_type
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.library import library, why_absent
from bitproof.quant.arithmetic import accumulate, center, requantize_, uncenter, wrap_int32
from bitproof.quant.compiled import words_of_sums
from bitproof.quant.constants import Constants
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.int8_layer import Int8Layer, multiply_words, prepare_int8
from bitproof.quant.pass_gradient import through_exact

READ_BY_ADDRESS = frozenset({"int8_layer", "fused"})
"""Cached properties that hold what the library reads."""


@dataclass(frozen=True, eq=False)
class Accumulator(ABC):
    """The multiply-accumulate of one node."""

    node: Node
    constants: Constants
    grids: tuple[Grid, ...]
    """Of the codes that go in, operand by operand."""

    def __getstate__(self) -> dict[str, object]:
        """Return what can be pickled: not what the library reads, by its address.

        Torch moves tensors that it gives to other processes, and these prepare their own soon.
        """
        return {name: one for name, one in self.__dict__.items() if name not in READ_BY_ADDRESS}

    @abstractmethod
    def sums(self, operands: list[Tensor]) -> Tensor:
        """Return the accumulators for stored codes, rounded to float32, in a new tensor."""

    def run(self, operands: list[Tensor], out: Grid | None) -> Tensor:
        """Return the codes of the output, or real logits where `out` is None."""
        words = self.words(operands, out)
        if words is not None:
            return words
        sums, multiplier = self.sums(operands), self.constants.multipliers[0]
        if out is not None:
            words = words_of_sums(sums, multiplier, self.constants, out.dtype)
            if words is not None:
                return words
        values = sums.mul_(multiplier)
        return values if out is None else requantize_(values, self.constants).to(out.dtype)

    def words(self, operands: list[Tensor], out: Grid | None) -> Tensor | None:  # noqa: ARG002
        """Return what `run` does where sums become words at once, else None."""
        return None

    def differentiable(self, operands: list[Tensor]) -> Tensor:
        """Return the accumulators for centered codes; their gradient is that of exact products."""
        sums = self.sums(uncenter(operands, self.constants, self.grids))
        if not any(x.requires_grad for x in operands):
            return sums
        return through_exact(self.node, self.constants.in_float32, operands, sums)


@dataclass(frozen=True, eq=False)
class ExactAccumulator(Accumulator):
    """Exact products: in 8 bits by the C library, or in floats that hold the same integers."""

    weight: CodedTensor | None = None
    """The node's stored words; None where the whole numbers of `constants` are all there is."""
    native: bool | None = None
    """Whether 8-bit words are multiplied as such; None: where that is faster on this CPU."""

    def words(self, operands: list[Tensor], out: Grid | None) -> Tensor | None:
        """Return the words of the output by the C library, which makes them from sums at once."""
        on_cpu = all(x.device.type == "cpu" for x in operands)
        if self.node.op == "matmul" and on_cpu and self._in_8_bits():
            dtype = torch.float32 if out is None else out.dtype
            return multiply_words(operands, self.constants, self.grids, dtype)
        layer = self._layer(operands)
        return None if layer is None else layer.words(operands[0], out)

    def _layer(self, operands: list[Tensor]) -> Int8Layer | None:
        usable = operands[0].numel() and operands[0].device.type == "cpu"
        return self.usable_layer if usable else None

    @property
    def usable_layer(self) -> Int8Layer | None:
        """What the library multiplies with; None where it cannot, or floats are faster."""
        return self.int8_layer if self._in_8_bits() else None

    def _in_8_bits(self) -> bool:
        """Tell whether to multiply words as such; floats are faster than plain C."""
        compiled = library()
        if self.native is False or compiled is None:
            return False
        return bool(self.native) or compiled.level != "portable"

    @cached_property
    def int8_layer(self) -> Int8Layer | None:
        """What the library multiplies with; None where it cannot."""
        return prepare_int8(self.node, self.constants, self.weight, self.grids[0])

    def sums(self, operands: list[Tensor]) -> Tensor:
        """Return the accumulators for stored codes.

        Raises:
            QuantizationError: `native` is true, but there is no C library.
        """
        return self._exact(operands).float()

    def totals(self, codes: Integer[Tensor, "n *features"]) -> Tensor:
        """Return the accumulators: in float32 where that holds them all, else in int32."""
        found = self._exact([codes])
        return found if found.dtype == torch.float32 else found.to(torch.int32)

    def _exact(self, operands: list[Tensor]) -> Tensor:
        layer = self._layer(operands)
        if layer is not None:
            return layer.totals(operands[0])
        constants = self.constants
        if self.native and library() is None:
            raise QuantizationError(f"native: wanted the C library, got none: {why_absent()}")
        points = constants.zero_points
        centered = [center(x, point) for x, point in zip(operands, points, strict=True)]
        sums = accumulate(self.node, constants, centered)
        return wrap_int32(sums) if constants.dtype == torch.float64 else sums

    def differentiable(self, operands: list[Tensor]) -> Tensor:
        """Return the accumulators for centered codes; of convolutions in 8 bits, if they can."""
        weight = self.constants.weight
        moved = weight is not None and weight.requires_grad  # then it has a gradient, too
        if self.node.op == "conv" and not moved and self._layer(operands) is not None:
            return super().differentiable(operands)
        sums = accumulate(self.node, self.constants.in_float32, operands)
        if self.constants.dtype == torch.float64:
            sums = wrap_int32(sums.double()).float()
        return sums

    @cached_property
    def largest(self) -> float:
        """Bound on the size of the sums, of a node with a weight."""
        weight, bias = self.constants.weight, self.constants.bias
        assert weight is not None
        return float(sum_bounds(weight, self.grids[0].peak, bias).max())


def exact_convolution(
    weight: Float[Tensor, "m d kh kw"],
    bias: Float[Tensor, " m"] | None,
    geometry: Geometry,
    grid: Grid,
) -> ExactAccumulator:
    """Return the layer that multiplies words on `grid` by the whole numbers in `weight`.

    Example:
        >>> grid = Grid(torch.tensor(1.0), torch.tensor(5, dtype=torch.int32), 8, signed=False)
        >>> layer = exact_convolution(torch.full((1, 1, 1, 1), 3.0), None, Geometry(), grid)
        >>> layer.totals(torch.full((1, 1, 1, 1), 7, dtype=torch.uint8)).item()
        6.0
    """
    moves = {name: list(getattr(geometry, name)) for name in ("stride", "padding", "dilation")}
    node = Node("products", "conv", ("words",), {**moves, "groups": geometry.groups})
    dtype = sum_type(sum_bounds(weight, grid.peak, bias))
    kernel = weight.to(dtype).contiguous(memory_format=torch.channels_last)
    bias = None if bias is None else bias.to(dtype)
    constants = Constants((int(grid.zero_point),), (1.0,), kernel, bias, dtype)
    return ExactAccumulator(node, constants, (grid,))
