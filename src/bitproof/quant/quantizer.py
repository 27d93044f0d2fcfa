"""Affine quantizers: from real values to stored words and back.

Model:  `code = round(value / scale + zero_point)`, clipped to the word. Symmetric or asymmetric
        range, signed or unsigned word, rounding or truncation, one grid per tensor or per
        channel: the ladder NORMAL to RQUANT of the source are points of this space. One
        difference is deliberate: the zero point is an integer, so that the network needs integer
        arithmetic only; a code stands for a value at most half a step away from the source's.
Source: Stutz et al., "Bit Error Robustness for Energy-Efficient DNN Accelerators", MLSys 2021;
        METHODS E.1.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bitproof.core.errors import QuantizationError
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import Bits, NonNegative, Positive
from bitproof.quant.grid import CodedTensor, Grid

Rounding = Literal["nearest", "truncate"]

FLATTEST = 2.0**-12
"""Half the range of a tensor over its distance from zero, below which it counts as constant."""


class Quantizer(Spec):
    """Turns values into codes on a grid fitted to them, and back."""

    kind: str
    bits: Bits = 8
    """Word width, in bits."""
    rounding: Rounding = "nearest"
    """`nearest` rounds half to even; `truncate` cuts toward zero, as a C cast does."""

    @abstractmethod
    def fit(self, values: Float[Tensor, "*shape"], *, shrink: float = 1.0) -> Grid:
        """Return the grid for `values`, its range multiplied by `shrink`."""

    def fit_all(
        self, tensors: Sequence[Float[Tensor, "..."]], *, shrinks: Sequence[float]
    ) -> list[Grid]:
        """Return the grid for each tensor, as `fit` does, one after the other.

        Training calls this at every step; a kind that can answer for all tensors at once, or
        without waiting for the device, does so here, and may take finite numbers for granted.
        """
        return [
            self.fit(values, shrink=shrink) for values, shrink in zip(tensors, shrinks, strict=True)
        ]

    @abstractmethod
    def encode(self, values: Float[Tensor, "*shape"], grid: Grid | None = None) -> CodedTensor:
        """Return the codes of `values`, on `grid` or on one fitted to them."""

    def decode(self, coded: CodedTensor) -> Float[Tensor, "*shape"]:
        """Return the values that `coded` stands for."""
        return coded.values()


QUANTIZERS: Registry[Quantizer] = Registry("quant")


@QUANTIZERS.register
class AffineQuantizer(Quantizer):
    """Uniform quantization with an integer zero point.

    Example:
        >>> coded = AffineQuantizer(bits=4).encode(torch.tensor([-1.0, 0.0, 1.0]))
        >>> coded.codes
        tensor([ 1,  8, 15], dtype=torch.uint8)
        >>> coded.values()
        tensor([-1.0010,  0.0000,  1.0010])
    """

    kind: Literal["affine"] = "affine"
    symmetric: bool = False
    """Range `[-max|w|, max|w|]` instead of `[min w, max w]`."""
    signed: bool = False
    """Two's complement words instead of unsigned ones."""
    per_channel: bool = False
    """One grid for each slice along the first axis, instead of one for the tensor."""
    narrow: bool = True
    """Use `2**bits - 1` codes, placed symmetrically, as the source does; else all of them."""
    margin: NonNegative = 1e-3
    """Widening of the range (`eps0` of the source): absolute if symmetric, else relative."""
    w_max: Positive | None = None
    """Bound on the range, value units: beyond it values are clipped. None: no bound."""
    fixed_range: Positive | None = None
    """Use `[-fixed_range, fixed_range]` whatever the values are. None: adapt to the values."""

    def fit(self, values: Float[Tensor, "*shape"], *, shrink: float = 1.0) -> Grid:
        """Return the grid for `values`, its range multiplied by `shrink`.

        Raises:
            QuantizationError: `values` is empty or holds NaN or infinity, or `shrink` is no
                factor in (0, 1].
        """
        ends = self._ends(values, shrink)
        if not bool(torch.stack(ends).isfinite().all()):
            raise QuantizationError("values: wanted finite numbers, got NaN or infinity")
        return self._grids([ends])[0]

    def fit_all(
        self, tensors: Sequence[Float[Tensor, "..."]], *, shrinks: Sequence[float]
    ) -> list[Grid]:
        """Return the grid for each tensor, all at once and without waiting for the device.

        NaN and infinity are not refused: their grid is no finite one, which a loss will show.

        Raises:
            QuantizationError: a tensor is empty, or a shrink is no factor in (0, 1].
        """
        ends = [self._ends(values, shrink) for values, shrink in zip(tensors, shrinks, strict=True)]
        return self._grids(ends) if ends else []

    def grid_for(self, low: Float[Tensor, " c"], high: Float[Tensor, " c"]) -> Grid:
        """Return per-channel grids for the ranges from `low` to `high`."""
        if self.fixed_range is not None:
            low = torch.full_like(low, -self.fixed_range)
            high = torch.full_like(high, self.fixed_range)
        if self.w_max is not None:
            low, high = (end.clamp(-self.w_max, self.w_max) for end in (low, high))
        if self.symmetric:
            high = torch.maximum(low.abs(), high.abs()) + self.margin
            if self.w_max is not None:
                high = high.clamp(max=self.w_max)
            low = -high
        half, middle = (high - low) / 2, (high + low) / 2
        # A tensor that is all but constant has no range of its own: reach from zero to it. It
        # also bounds the zero point, which a narrow range far from zero would make huge.
        flat = half <= FLATTEST * middle.abs()
        half = torch.where(flat, middle.abs() / 2, half)
        middle = torch.where(flat, middle / 2, middle)
        half = torch.where(half == 0, torch.full_like(half, 0.5), half)
        if not self.symmetric:
            half = half * (1 + self.margin)
        steps = (1 << self.bits) - 1 - int(self.narrow)
        scale = (2 * half / steps).float().clamp(min=torch.finfo(torch.float32).tiny)
        offset = 0 if self.signed else 1 << (self.bits - 1)
        center = offset + (0.0 if self.narrow else -0.5)
        zero_point = (center - middle / scale.double()).round().to(torch.int32)
        return Grid(scale, zero_point, self.bits, self.signed, axis=0)

    def encode(self, values: Float[Tensor, "*shape"], grid: Grid | None = None) -> CodedTensor:
        """Return the codes of `values`, on `grid` or on one fitted to them.

        Raises:
            QuantizationError: `values` is empty or holds NaN or infinity.
        """
        grid, bound = grid or self.fit(values), self.fixed_range or self.w_max
        clipped = values if bound is None else values.clamp(-bound, bound)
        steps = clipped.detach().to(torch.float64, copy=True)
        steps /= grid.spread(grid.scale, values.ndim).double()
        point, nearest = grid.spread(grid.zero_point, values.ndim), self.rounding == "nearest"
        codes = steps.round_().add_(point) if nearest else steps.add_(point).trunc_()
        # Truncation may cut the end of a range into the code that a narrow grid leaves unused.
        lowest = grid.low + int(self.narrow and not nearest)
        return CodedTensor(codes.clamp_(lowest, grid.high).to(grid.dtype), grid)

    def _ends(
        self, values: Float[Tensor, "*shape"], shrink: float
    ) -> tuple[Float[Tensor, "*channels"], Float[Tensor, "*channels"]]:
        """Return the least and the largest value, of each channel if asked, times `shrink`."""
        if not values.numel():
            raise QuantizationError("values: wanted finite numbers, got none")
        if not 0 < shrink <= 1:
            raise QuantizationError(f"shrink: wanted a factor in (0, 1], got {shrink}")
        inside = tuple(range(1, values.ndim)) if self.per_channel else ()  # (): of all values
        low, high = values.detach().amin(inside), values.detach().amax(inside)
        return low.double() * shrink, high.double() * shrink

    def _grids(self, ends: Sequence[tuple[Tensor, Tensor]]) -> list[Grid]:
        """Return a grid for each pair of ends, from one call of `grid_for`."""
        low, high = (torch.cat([end.reshape(-1) for end in s]) for s in zip(*ends, strict=True))
        grid, shapes = self.grid_for(low, high), [low.shape for low, _ in ends]
        sizes = [shape.numel() for shape in shapes]
        scales, points = torch.split(grid.scale, sizes), torch.split(grid.zero_point, sizes)
        return [
            Grid(scale.view(shape), point.view(shape), grid.bits, grid.signed, 0 if shape else None)
            for shape, scale, point in zip(shapes, scales, points, strict=True)
        ]


RQUANT = AffineQuantizer()
"""Robust quantization: asymmetric, unsigned, rounded; the default for weights and biases."""
LADDER = {
    "normal": AffineQuantizer(symmetric=True, signed=True, rounding="truncate"),
    "asymmetric": AffineQuantizer(signed=True, rounding="truncate"),
    "unsigned": AffineQuantizer(rounding="truncate"),
    "rquant": RQUANT,
}
"""The four rungs, in the order of the source's table."""
PRESETS = {
    "global": AffineQuantizer(symmetric=True, signed=True, rounding="truncate", fixed_range=1.0),
    **LADDER,
}
"""Quantizers by name: one range for all tensors, and the rungs of the ladder."""
