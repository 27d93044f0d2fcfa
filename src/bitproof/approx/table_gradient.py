"""Gradients of a product table: how products really change with either operand, for retraining.

Model:  a table is smoothed along one operand, by the mean of 2 h + 1 neighbours in the order of
        values (of those that exist, near the ends), and differentiated by central differences
        (one-sided at the ends), over the distance of the means of the neighbours, so that the
        gradient of an exact product is the other operand, exactly. Each gradient D[a, w] is cut
        to a sum of `rank` products u_r(a) v_r(w), which turns the backward pass into convolutions:
        with g the gradient of the sums and A, W the zero points,

            for an activation  sum_r u_r(a) conv_T(g, v_r(w))  -  conv_T(g, W)
            for a weight       sum_r v'_r(w) conv_w(g, u'_r(a))  -  A sum g

        where conv_T and conv_w are the gradients of a convolution. Padding is the word A.
Source: "AppMult-aware retraining" (arXiv 2509.10519): smoothed finite differences in place of
        the straight-through rule. The low rank is bitproof's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float32, Float64, Int32, Int64, Integer, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bitproof.approx.base import ProductTable
from bitproof.core.errors import SpecError
from bitproof.kernels.forms import WORDS
from bitproof.kernels.geometry import Geometry
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.maps import as_kernel, as_maps, from_maps
from bitproof.quant.products import OperandEncoding, Products


@dataclass(frozen=True, eq=False)
class LowRank:
    """A table as a sum of products of a function of its row and one of its column."""

    first: Float32[Tensor, "r 256"]
    """By the pattern of the first operand."""
    second: Float32[Tensor, "r 256"]
    """By the pattern of the second operand."""


@dataclass(frozen=True, eq=False)
class TableGradient:
    """How the products of a table change with both operands, at low rank."""

    by_first: LowRank
    """Change with the first operand (activation)."""
    by_second: LowRank
    """Change with the second operand (weight)."""


def gradients_of(products: Products, *, half_width: int, rank: int) -> list[TableGradient]:
    """Return the gradient of each table of a layer; layers that share tables can share it.

    Raises:
        SpecError: see `gradient_tables` and `low_rank`.

    Example:
        >>> words = torch.arange(256).int()
        >>> products = Products.of(words.outer(words), signed=False, filters=4)
        >>> gradients_of(products, half_width=4, rank=1)[0].by_first.first.shape
        torch.Size([1, 256])
    """
    tables = [ProductTable(table.cpu(), products.signed) for table in products.tables]
    slopes = [gradient_tables(table, half_width=half_width) for table in tables]
    return [TableGradient(*(low_rank(each, rank=rank) for each in both)) for both in slopes]


def gradient_tables(
    table: ProductTable, *, half_width: int
) -> tuple[Float32[Tensor, "256 256"], Float32[Tensor, "256 256"]]:
    """Return the change of products with the first and with the second operand, by patterns.

    A product is averaged with `half_width` neighbours on either side, 0 for none.

    Raises:
        SpecError: `half_width` is negative, or half of all words or more.

    Example:
        >>> from bitproof.approx import Exact
        >>> first, second = gradient_tables(Exact(signed=True).table(), half_width=3)
        >>> float(first[5, 255]), float(second[5, 255])
        (-1.0, 5.0)
    """
    if not 0 <= half_width < WORDS // 2:
        raise SpecError(f"half_width: wanted 0 to {WORDS // 2 - 1}, got {half_width}")
    by_value = table.by_value(table.products).double()
    slopes = _slopes(by_value, half_width), _slopes(by_value.T, half_width).T
    first, second = (table.by_value(each).float().contiguous() for each in slopes)
    return first, second


def low_rank(gradient: Float32[Tensor, "256 256"], *, rank: int) -> LowRank:
    """Return the nearest sum of `rank` products, in the sense of squares.

    Raises:
        SpecError: `rank` is not between 1 and 256.

    Example:
        >>> ones = low_rank(torch.ones(256, 256), rank=1)
        >>> float((ones.first.T @ ones.second).mean())
        1.0
    """
    if not 1 <= rank <= WORDS:
        raise SpecError(f"rank: wanted 1 to {WORDS}, got {rank}")
    left, sizes, right = torch.linalg.svd(gradient.double())
    spread = sizes[:rank].sqrt()
    return LowRank(
        first=(left[:, :rank] * spread).T.float().contiguous(),
        second=(right[:rank] * spread[:, None]).float(),
    )


@dataclass(frozen=True, eq=False)
class Multiplied:
    """What a layer multiplied in a forward pass, as its multipliers saw it."""

    codes: UInt8[Tensor, "n *shape"]
    """Patterns of the input."""
    weight: UInt8[Tensor, "m *taps"]
    """Patterns of the weight."""
    point: int
    """Zero point of the input, at the multiplier (`OperandEncoding.point`)."""
    weight_point: Int32[Tensor, " m"]
    """Zero point of each filter, at the multiplier."""
    gradients: Sequence[TableGradient]
    """Of each table, all of one rank."""
    choice: Int64[Tensor, " m"]
    """The table of each filter."""

    @classmethod
    def of(
        cls,
        codes: Integer[Tensor, "n *shape"],
        weight: CodedTensor,
        *,
        grid: Grid,
        products: Products,
        gradients: Sequence[TableGradient],
    ) -> "Multiplied":
        """Return what a layer with `products` sees; `grid` is that of the input."""
        first, second = (
            OperandEncoding.of(own, signed=products.signed) for own in (grid, weight.grid)
        )
        weight_point = second.point(weight.grid.zero_point).reshape(-1)
        return cls(
            codes=first.patterns(codes),
            weight=second.patterns(weight.codes),
            point=int(first.point(grid.zero_point)),
            weight_point=weight_point.expand(len(weight.codes)),
            gradients=gradients,
            choice=products.choice,
        )


def through_table(
    node: Node,
    operands: tuple[Float32[Tensor, "n *shape"], Float32[Tensor, "m *taps"]],
    sums: Float32[Tensor, "n *out"],
    *,
    seen: Multiplied,
) -> Float32[Tensor, "n *out"]:
    """Return `sums`; input and weight get the gradient of their tables.

    The operands are the centered words of both, for the graph; `seen` has the numbers. A bias is
    not among them: add what has its gradient, `bias - bias.detach()`.
    """
    (x, weight), maps = operands, as_maps(sums.detach(), node)
    kernel, geometry = as_kernel(weight, node)
    (up, left), codes = geometry.padding, as_maps(seen.codes, node)
    padded = functional.pad(codes, (left, left, up, up), value=seen.point % WORDS)
    layer = _Layer(padded, as_kernel(seen.weight, node)[0], geometry, seen)
    passed: Tensor = _ThroughTable.apply(as_maps(x, node), kernel, maps, layer)  # type: ignore[no-untyped-call]
    return from_maps(passed, x, node)


@dataclass(frozen=True, eq=False)
class _Layer:
    """The backward pass of a layer over maps; all kernels of all tables in one convolution."""

    codes: UInt8[Tensor, "n c h w"]
    """With the padding around them, words that stand for 0."""
    weight: UInt8[Tensor, "m d kh kw"]
    geometry: Geometry
    seen: Multiplied

    def gradient_of_words(self, gradient: Float[Tensor, "n m oh ow"]) -> Tensor:
        """Return the gradient of the input, without its padding."""
        first, kernel = self._spread([own.by_first for own in self.seen.gradients])
        points = self.seen.weight_point.to(kernel)
        if points.any():
            # One more plane, of ones: what the zero points of the weights take off.
            off = points.reshape(-1, 1, 1, 1, 1).expand_as(kernel[:, :, :1])
            kernel = torch.cat([kernel, -off], 2)
            first = torch.cat([first, torch.ones_like(first[:, :1])], 1)
        maps = self._maps(first)
        found = (self._backward(gradient, maps, kernel.flatten(1, 2), of=0) * maps).movedim(1, -1)
        result = found.reshape(*found.shape[:3], -1, first.shape[1]).sum(-1).movedim(-1, 1)
        (up, left), (rows, columns) = self.geometry.padding, self.codes.shape[2:]
        return result[:, :, up : rows - up, left : columns - left]

    def gradient_of_weight(self, gradient: Float[Tensor, "n m oh ow"]) -> Tensor:
        """Return the gradient of the weight."""
        first, kernel = self._spread([own.by_second for own in self.seen.gradients])
        found = self._backward(gradient, self._maps(first), kernel.flatten(1, 2), of=1)
        result = (found.reshape(kernel.shape) * kernel).sum(2)
        return result - self.seen.point * gradient.sum((0, 2, 3)).reshape(-1, 1, 1, 1)

    def _spread(
        self, factors: list[LowRank]
    ) -> tuple[Float32[Tensor, "256 tr"], Float32[Tensor, "m d tr kh kw"]]:
        """Return the factors of each word, and kernels of the factors of the weights."""
        first = torch.cat([own.first for own in factors]).T.to(self.codes.device)
        second = torch.stack([own.second for own in factors]).to(self.codes.device)
        if first.shape[1] * self.weight.shape[1] == 1:
            # oneDNN's code for a single channel is wrong at times: two, the other one of zeros.
            first, second = functional.pad(first, (0, 1)), functional.pad(second, (0, 0, 0, 1))
        # Filters have zeros in the planes of tables that they do not use.
        tables = torch.arange(len(second), device=second.device)
        used = (self.seen.choice == tables[:, None]).to(second)[:, None, :, None, None, None]
        kernel = second[:, :, self.weight.long()] * used
        return first, kernel.flatten(0, 1).movedim(0, 2)

    def _maps(self, first: Float32[Tensor, "256 p"]) -> Float32[Tensor, "n cp h w"]:
        """Return the factors of all words, those of one word side by side; channels last."""
        codes = self.codes.movedim(1, -1).int()
        return functional.embedding(codes, first.contiguous()).flatten(3).movedim(-1, 1)

    def _backward(self, gradient: Tensor, x: Tensor, kernel: Tensor, *, of: int) -> Tensor:
        """Return the gradient of a convolution by its input (0) or its weight (1)."""
        move = self.geometry
        moves = (move.stride, (0, 0), move.dilation, False, (0, 0), move.groups)
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            gradient, x, kernel, None, *moves, [of == 0, of == 1, False]
        )
        return found[of]


class _ThroughTable(torch.autograd.Function):
    """Return sums that were computed before; input and weight get the gradient of tables."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, sums: Tensor, layer: _Layer) -> Tensor:  # noqa: ARG004
        """Return `sums`."""
        ctx.layer = layer
        return sums.view_as(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients of input and weight."""
        layer: _Layer = ctx.layer
        x = layer.gradient_of_words(gradient) if ctx.needs_input_grad[0] else None
        kernel = layer.gradient_of_weight(gradient) if ctx.needs_input_grad[1] else None
        return x, kernel, None, None


def _slopes(
    entries: Float64[Tensor, "256 others"], half_width: int
) -> Float64[Tensor, "256 others"]:
    """Return smoothed differences along the rows, which are in the order of values."""
    count = len(entries)
    places = torch.arange(count)
    ends = (places + half_width + 1).clamp(max=count)
    starts = (places - half_width).clamp(min=0)
    sums = functional.pad(entries.cumsum(0), (0, 0, 1, 0))  # whole numbers: exact in float64
    means = (sums[ends] - sums[starts]) / (ends - starts)[:, None]
    centers = (starts + ends - 1).double() / 2
    after, before = (places + 1).clamp(max=count - 1), (places - 1).clamp(min=0)
    return (means[after] - means[before]) / (centers[after] - centers[before])[:, None]
