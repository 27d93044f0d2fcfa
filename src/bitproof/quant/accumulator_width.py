"""Grids of weights whose sums fit int32 accumulators.

Model:  a sum is at most `sum |code - zero_point| * peak + |bias|` in steps of the accumulator, with
        `peak` the largest size of what is read. A grid that could let it pass 2**31 (weights of one
        sign far from zero, whose zero point is huge; weights so small that a bias has more than
        2**31 of their steps; very long sums) gets the least step at which it cannot.
"""

import torch
from torch import Tensor

from bitproof.core.errors import QuantizationError
from bitproof.kernels.exact_floats import sum_bounds
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.quantizer import Quantizer

LIMIT = 0.99 * 2.0**31
"""What sums may reach; the rest is left to the rounding of biases and to their correction."""


def fit_accumulator(
    node: Node,
    coded: CodedTensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    source: Grid,
    quantizer: Quantizer,
    shrink: float = 1.0,
) -> CodedTensor:
    """Return the words of a layer's weight, on a coarser grid where sums could wrap.

    Args:
        node: the layer.
        coded: its weight as `quantizer` encodes it.
        weight: the same as real values.
        bias: real values.
        source: grid of what the layer reads.
        quantizer: gives the coarser grid.
        shrink: factor on the range.

    Raises:
        QuantizationError: sums could wrap on any grid that `quantizer` gives.
    """
    if fits_accumulator(coded, bias, source):
        return coded
    step = _least_step(weight, bias, source)
    rows = weight.double().reshape(len(weight), -1)
    middle = (rows.amax(1) + rows.amin(1)) / 2
    half = step * 2.0 ** (quantizer.bits - 1)
    ends = torch.stack([middle - half, middle + half], 1) / shrink
    stretched = torch.cat([rows, ends], 1) if weight.ndim > 1 else ends.flatten()
    wide = quantizer.encode(weight, quantizer.fit(stretched, shrink=shrink))
    bound = _bound(wide, bias, source)
    if bound >= LIMIT:
        raise QuantizationError(
            f"{node.path or node.name}: sums of up to {bound:.2g} would wrap in an int32 "
            f"accumulator, which holds {2.0**31:.2g}; use fewer weight bits, or a quantizer whose "
            "range is free"
        )
    return wide


def check_accumulator(node: Node, coded: CodedTensor, bias: Tensor | None, *, source: Grid) -> None:
    """Check a layer that reads the words of another one, whose grid is given.

    Raises:
        QuantizationError: its sums could wrap.
    """
    if not fits_accumulator(coded, bias, source):
        raise QuantizationError(
            f"{node.path or node.name}: sums of up to {_bound(coded, bias, source):.2g} would wrap "
            "in an int32 accumulator when the layer is used again; use fewer weight bits"
        )


def fits_accumulator(coded: CodedTensor, bias: Tensor | None, source: Grid) -> bool:
    """Tell whether the sums of a layer with these weights and real biases cannot wrap."""
    return _surely_fits(coded, bias, source) or _bound(coded, bias, source) < LIMIT


def _surely_fits(coded: CodedTensor, bias: Tensor | None, source: Grid) -> bool:
    """Tell from a few numbers alone whether sums fit, as they do in nearly all layers."""
    grid, taps = coded.grid, coded.codes[0].numel()
    points = grid.zero_point.double()
    peak = torch.maximum((points - grid.low).abs(), (points - grid.high).abs()).max()
    bound = peak * taps * source.peak
    if bias is not None:
        bound = bound + (bias.abs().max() / (grid.scale.double().min() * source.scale.double()))
    return float(bound) < LIMIT


def _bound(coded: CodedTensor, bias: Tensor | None, source: Grid) -> float:
    step = coded.grid.scale.double() * source.scale.double()
    steps = None if bias is None else bias.double() / step
    return float(sum_bounds(coded.centered(), source.peak, steps).max())


def _least_step(weight: Tensor, bias: Tensor | None, source: Grid) -> Tensor:
    """Return the step of each channel's weights at which sums stay within the limit."""
    sizes = weight.double().abs().reshape(len(weight), -1)
    needed = sizes.sum(1) * source.peak
    if bias is not None:
        needed = needed + bias.double().abs() / source.scale.double()
    # A word is at most one step away from its share: half from rounding, half from the zero point.
    return needed / max(LIMIT - sizes.shape[1] * source.peak, 1.0)
