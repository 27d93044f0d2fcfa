"""Multiply-accumulate on the CPU's 8-bit dot products: oneDNN's quantized convolution.

Model:  stored words go in as they are; oneDNN subtracts their zero point, pads with it, sums in
        int32 registers and hands the sums over as float32. On CPUs where `supported` holds, three
        things make that exact:
        - weights `code - zero_point` beyond int8 are moved into it, one shift per channel; the
          shift times the sum over the window is added back;
        - sums that could pass 2**24 are taken over slices of the input channels, each below it,
          and added in int32, where they wrap as a single register would;
        - each new shape is compared with `accumulate` once, because oneDNN has bugs at odd shapes.
        Linear layers are convolutions with kernels of one pixel. Results equal `accumulate`.
Source: oneDNN developer guide, "Nuances of int8 Computations".
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from bitproof.kernels.exact_floats import EXACT_FLOAT32, fits_float32, sum_bounds
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.int8_convolution import INT8, Packed, pack, sum_windows
from bitproof.quant.arithmetic import accumulate, wrap_int32
from bitproof.quant.constants import Constants
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid

UINT8 = torch.iinfo(torch.uint8)
MOST_EXCESS = 8
"""Weights beyond int8 that are made up for one by one; more are shifted together."""
CHECKED = 2
"""Inputs of each shape whose sums are compared when the shape comes for the first time."""


def native_totals(node: Node, constants: Constants, codes: Tensor, grid: Grid) -> Tensor | None:
    """Return the exact accumulators of `node`, or None where oneDNN cannot help.

    They are in float32 where that holds every one of them, else in int32. `grid` is that of the
    stored input, `codes`. The kernel is prepared once and lives as long as `constants` do.
    """
    if codes.device.type != "cpu" or not codes.numel() or not torch.backends.mkldnn.enabled:
        return None
    if constants not in _KERNELS:
        _KERNELS[constants] = prepare_kernel(node, constants, grid)
    kernel = _KERNELS[constants]
    if kernel is None or not kernel.covers(codes):
        return None
    shape = kernel.shape(codes)
    if not _RIGHT.get(shape, True):
        return None
    totals = kernel.totals(codes)
    if shape not in _RIGHT:
        few = codes[:CHECKED]
        exact = accumulate(node, constants, [few.float() - constants.zero_points[0]])
        exact = exact if constants.dtype == torch.float32 else wrap_int32(exact).float()
        _RIGHT[shape] = torch.equal(totals[:CHECKED].float(), exact)
    return totals if _RIGHT[shape] else None


@dataclass(frozen=True)
class Excess:
    """What one weight has beyond int8."""

    out: int
    channel: int
    tap: tuple[int, int]
    value: int


@dataclass(frozen=True)
class Kernel:
    """Everything that one node needs; its verb turns words into accumulators."""

    node: Node
    parts: tuple[Packed, ...]
    """Slices of the input channels, each with sums that float32 holds."""
    wide: bool
    """Whether the slices are added in int32, because float32 does not hold every total."""
    bias: Tensor | None
    """Int32 if `wide`, else float32."""
    shift: Tensor | None
    """What was taken from each channel's weights to make them fit, shaped for maps."""
    pixel: Packed | None
    """Sums the channels of each group in every pixel, for `shift`."""
    excess: tuple[Excess, ...] = ()
    """What was clipped off single weights to make them fit, where there are few."""

    def totals(self, codes: Tensor) -> Tensor:
        """Return the accumulators for stored `codes`: a new tensor, of int32 if `wide`."""
        # The eighth bit is the sign of an int8 word: flipped, it adds 128, as the zero point knows.
        raw = codes.view(torch.uint8) ^ 128 if codes.dtype == torch.int8 else codes
        maps = as_maps(raw, self.node)
        x = self._at_least_a_window(maps)
        total = self._sums(x)
        if x is not maps:
            rows, columns = self._places(maps)
            total = total[:, :, :rows, :columns]
        return from_maps(total, codes, self.node)

    def covers(self, codes: Tensor) -> bool:
        """Tell whether oneDNN 3.x is right for maps of this size, as random trials found it.

        It is where each window has its middle in the map; beyond, it is wrong at times, or fails.
        """
        maps = as_maps(codes, self.node)
        padding, point = self.parts[0].geometry.padding, self.parts[0].zero_point
        centred = all(2 * edge < reach for edge, reach in zip(padding, self._reaches, strict=True))
        pairs = zip(maps.shape[2:], self._reaches, strict=True)
        large = all(size >= reach for size, reach in pairs)
        return centred and min(self._places(maps)) > 0 and (large or 0 <= point <= UINT8.max)

    @cached_property
    def _reaches(self) -> list[int]:
        return self.parts[0].geometry.reaches(self.parts[0].shape[2:])

    def _places(self, maps: Tensor) -> list[int]:
        """Return the size of the output, for each axis."""
        return self.parts[0].geometry.outputs(maps.shape[2:], self.parts[0].shape[2:])

    def _at_least_a_window(self, maps: Tensor) -> Tensor:
        """Return `maps`, with words that stand for 0 below and to the right where they are small.

        oneDNN is wrong at times where a window is larger than the map.
        """
        pairs = zip(maps.shape[2:], self._reaches, strict=True)
        down, across = (max(reach - size, 0) for size, reach in pairs)
        if not down and not across:
            return maps
        return functional.pad(maps, [0, across, 0, down], value=self.parts[0].zero_point)

    def shape(self, codes: Tensor) -> Hashable:
        """Return all that oneDNN chooses its code by."""
        parts = tuple((part.shape, part.geometry) for part in self.parts)
        return parts, self.shift is None, not self.excess, codes.shape, torch.get_num_threads()

    def _sums(self, x: Tensor) -> Tensor:
        total = self.parts[0].convolve(x, None if self.wide else self.bias)
        if self.wide:
            total = total.to(torch.int32)
            for part in self.parts[1:]:
                total += part.convolve(x).to(torch.int32)
            if self.bias is not None:
                total += self.bias.reshape(-1, 1, 1)
        if self.shift is not None:
            total.addcmul_(self._under_window(x).to(total.dtype), self.shift)
        return self._add_excess_(total, x)

    def _add_excess_(self, total: Tensor, x: Tensor) -> Tensor:
        """Add the products that the clipped weights lack, one shifted plane for each."""
        first = self.parts[0]
        (down, across), kernel = first.geometry.padding, first.shape[2:]
        for one in self.excess:
            plane = x[:, one.channel].to(total.dtype) - first.zero_point
            plane = functional.pad(plane, [across, across, down, down])
            total[:, one.out] += one.value * first.geometry.tap(plane, kernel, one.tap)
        return total

    def _under_window(self, x: Tensor) -> Tensor:
        """Return the sum of the words under the window, for each output channel or for all."""
        assert self.pixel is not None
        move, channels = self.parts[0].geometry, len(self.parts[0].ones)
        # First over channels, which is fast in 8 bits, then over one map for each group.
        sums = sum_windows(self.pixel.convolve(x), self.parts[0].shape[2:], move)
        return sums.repeat_interleave(channels // move.groups, 1) if move.groups > 1 else sums


_RIGHT: dict[Hashable, bool] = {}
"""Whether the sums of a shape were right when it came for the first time."""
_KERNELS: WeakKeyDictionary[Constants, Kernel | None] = WeakKeyDictionary()
"""What was prepared, by identity. Not kept in `Constants`: packed weights cannot be pickled."""


def prepare_kernel(node: Node, constants: Constants, grid: Grid) -> Kernel | None:
    """Return the kernel of a convolution over one or two axes or a linear layer, else None."""
    if node.op not in {"conv", "linear"} or constants.weight is None or constants.weight.ndim > 4:
        return None
    weight, geometry = as_kernel(constants.weight, node)
    if weight.shape[1] < 2:
        return None  # oneDNN's code for a single channel is wrong at times
    excess = find_excess(weight) if geometry.groups == 1 else ()
    clipped = weight.clamp(INT8.min, INT8.max) if excess else weight
    codes, shift = fit_int8(clipped)
    bias, peak = constants.bias, grid.peak
    window_bound = weight[0].numel() * peak
    by_channel = codes.float().abs_().sum((2, 3)).double() * peak
    bounds = by_channel.sum(1) + (0 if bias is None else bias.double().abs())
    if excess:
        bounds += sum_bounds(weight - clipped, peak)
    if shift is not None:
        bounds += shift.double().abs() * window_bound
    wide = not fits_float32(bounds)
    parts = slices_within(by_channel, EXACT_FLOAT32) if wide else [slice(None)]
    if parts is None or not fits_float32(window_bound):
        return None
    point = constants.zero_points[0]
    raw_point = point + 128 if grid.signed else point
    dtype = torch.int32 if wide else torch.float32
    groups = geometry.groups
    pixel = torch.ones(groups, weight.shape[1], 1, 1, dtype=torch.int8)
    return Kernel(
        node,
        parts=tuple(pack(codes, raw_point, geometry, part) for part in parts),
        wide=wide,
        bias=None if bias is None else bias.to(dtype),
        shift=None if shift is None else shift.to(dtype).reshape(-1, 1, 1),
        pixel=None if shift is None else pack(pixel, raw_point, Geometry(groups=groups)),
        excess=excess,
    )


def find_excess(weight: Tensor) -> tuple[Excess, ...]:
    """Return what the weights have beyond int8, nothing where these are many.

    Example:
        >>> find_excess(torch.tensor([[[[1.0]], [[130.0]]]]))
        (Excess(out=0, channel=1, tap=(0, 0), value=3),)
    """
    outside = (weight < INT8.min) | (weight > INT8.max)
    if not 0 < int(outside.count_nonzero()) <= MOST_EXCESS:
        return ()
    beyond = weight - weight.clamp(INT8.min, INT8.max)
    return tuple(
        Excess(out, channel, (row, column), int(beyond[out, channel, row, column]))
        for out, channel, row, column in outside.nonzero().tolist()
    )


def fit_int8(weight: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return weights as int8 and what was taken from each output channel, None for nothing.

    The weights of a channel are words of at most 8 bits minus one zero point, so that they
    always fit once they are shifted.

    Example:
        >>> fit_int8(torch.tensor([[-3.0, 130.0], [1.0, 2.0]]))
        (tensor([[ -6, 127],
                [  1,   2]], dtype=torch.int8), tensor([3., 0.]))
    """
    axes = tuple(range(1, weight.ndim))
    low, high = weight.amin(axes), weight.amax(axes)
    shift = (high - INT8.max).clamp(min=0) + (low - INT8.min).clamp(max=0)
    if not bool(shift.any()):
        return weight.to(torch.int8), None
    assert bool((high - low <= INT8.max - INT8.min).all())
    return (weight - shift.reshape([-1] + [1] * len(axes))).to(torch.int8), shift


def slices_within(load: Tensor, bound: int) -> list[slice] | None:
    """Return the fewest equal slices of the columns whose row sums all stay below `bound`.

    A slice has two columns or more; None where that is too many.

    Example:
        >>> slices_within(torch.tensor([[5.0, 4.0, 3.0, 2.0]]), bound=10)
        [slice(0, 2, None), slice(2, 4, None)]
    """
    columns = load.shape[1]
    for count in range(1, columns // 2 + 1):
        edges = [columns * i // count for i in range(count + 1)]
        parts = [slice(*pair) for pair in pairwise(edges)]
        if all(float(load[:, part].sum(1).max()) < bound for part in parts):
            return parts
    return None


def as_kernel(weight: Tensor, node: Node) -> tuple[Tensor, Geometry]:
    """Return weights with two axes of space, and how they move."""
    if node.op == "affine":
        return weight[:, None, None, None], Geometry(groups=len(weight))
    if node.op == "linear":
        return weight[:, :, None, None], Geometry()
    move = node.geometry
    if weight.ndim == 3:
        weight = weight.unsqueeze(2)
        move = Geometry((1, *move.stride), (0, *move.padding), (1, *move.dilation), move.groups)
    gaps = zip(weight.shape[2:], move.dilation, strict=True)
    return weight, replace(move, dilation=tuple(1 if taps == 1 else gap for taps, gap in gaps))


def as_maps(x: Tensor, node: Node) -> Tensor:
    """Return the node's input with two axes of space; rows of a linear layer become pixels."""
    if node.op == "linear":
        return x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    if node.op == "affine":
        return x.reshape(*x.shape[:2], 1, -1)
    return x if x.ndim == 4 else x.unsqueeze(2)


def from_maps(sums: Tensor, x: Tensor, node: Node) -> Tensor:
    """Undo `as_maps` for the output; `x` is the node's input."""
    if node.op == "linear":
        return sums.permute(0, 2, 3, 1).reshape(*x.shape[:-1], sums.shape[1])
    if node.op == "affine":
        return sums.reshape(x.shape)
    return sums if x.ndim == 4 else sums.squeeze(2)
