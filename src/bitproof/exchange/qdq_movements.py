"""ONNX operators that only move words, and how windows move over maps."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitproof.exchange.constant_folding import axes_of, reshaped, slices_of, whole_numbers
from bitproof.exchange.onnx_file import Array, OnnxNode
from bitproof.exchange.qdq_reader import Reader
from bitproof.exchange.values import Known, KnownWords, Rounded, Value, scalar
from bitproof.quant.grid import CodedTensor

Operands = Sequence[Value | None]
ONE = 1 << 16
"""What the number 1 is among the fractions of an interpolation."""


@dataclass(frozen=True)
class Windows:
    """How windows move over maps, axis by axis."""

    stride: list[int]
    dilation: list[int]
    pads: list[tuple[int, int]]
    """Before and behind."""

    @property
    def uneven(self) -> bool:
        """Whether there is more padding on one side."""
        return any(before != after or before < 0 for before, after in self.pads)

    def edges_of(self, kernel: Sequence[int]) -> Iterator[tuple[tuple[int, int], int, int]]:
        """Yield padding, gap and number of taps of each axis."""
        return zip(self.pads, self.dilation, kernel, strict=True)

    def attrs(self) -> dict[str, Any]:
        """Return them as attributes of a node; padding is that before."""
        padding = [before for before, _ in self.pads]
        return {"stride": self.stride, "padding": padding, "dilation": self.dilation}

    def as_pad(self) -> dict[str, Any]:
        """Return the padding as attributes of a node that does nothing else."""
        return {"padding": [edge for pair in reversed(self.pads) for edge in pair]}

    def without_padding(self) -> "Windows":
        """Return the same over maps that are padded already."""
        return replace(self, pads=[(0, 0)] * len(self.pads))


def windows_of(
    reader: Reader, node: OnnxNode, shape: Sequence[int], kernel: Sequence[int]
) -> Windows:
    """Return how the windows of a node move over maps of a shape."""
    rank = len(kernel)
    wanted = node.attrs.get("kernel_shape", kernel)
    if list(wanted) != list(kernel) or len(shape) != rank + 2:
        reader.refuse(node, f"wanted maps and a kernel that fit, got {tuple(shape)} and {wanted}")
    stride = [int(one) for one in node.attrs.get("strides", [1] * rank)]
    dilation = [int(one) for one in node.attrs.get("dilations", [1] * rank)]
    pads = [int(one) for one in node.attrs.get("pads", [0] * 2 * rank)]
    if not len(stride) == len(dilation) == rank == len(pads) // 2 or min(stride + dilation) < 1:
        reader.refuse(node, f"wanted strides, dilations and pads for {rank} axes")
    auto = node.attrs.get("auto_pad", "NOTSET")
    pairs = list(zip(pads[:rank], pads[rank:], strict=True))
    if auto == "VALID":
        pairs = [(0, 0)] * rank
    elif auto in {"SAME_UPPER", "SAME_LOWER"}:
        pairs = []
        for size, taps, step, gap in zip(shape[2:], kernel, stride, dilation, strict=True):
            total = max((-(-size // step) - 1) * step + gap * (taps - 1) + 1 - size, 0)
            less, more = total // 2, total - total // 2
            pairs.append((less, more) if auto == "SAME_UPPER" else (more, less))
    elif auto != "NOTSET":
        reader.refuse(node, f"no form for auto_pad {auto}")
    return Windows(stride, dilation, pairs)


def _first(operands: Operands) -> Value:
    assert operands[0] is not None
    return operands[0]


def _known(reader: Reader, node: OnnxNode, operands: Operands, place: int) -> Array | None:
    value = operands[place] if place < len(operands) else None
    if value is None:
        return None
    if not isinstance(value, Known):
        reader.refuse(node, f"wanted input {place} to be a constant")
    return value.array


def _arrays(reader: Reader, node: OnnxNode, operands: Operands) -> list[Array | None]:
    return [None, *(_known(reader, node, operands, at) for at in range(1, len(operands)))]


def reshape_to(reader: Reader, node: OnnxNode, value: Value, sizes: Sequence[int]) -> Value:
    """Return a value with other sizes; a file for some number of images may have that in them."""
    shape, wanted = reader.shape(value, node), list(sizes)
    if isinstance(value, KnownWords):
        if value.coded.grid.axis is not None:
            reader.refuse(node, "no form for other sizes of words with several scales")
        coded = CodedTensor(value.coded.codes.reshape(wanted), value.coded.grid)
        return KnownWords(coded, f"{value.key} {wanted}")
    fixed, n = reader.fixed_batch, reader.assembly.images
    count = math.prod(shape)
    if fixed and -1 not in wanted and wanted and math.prod(wanted) * n == count * fixed:
        if wanted[0] % fixed == 0 and math.prod(wanted) != count:
            wanted[0] = wanted[0] // fixed * n
    elif fixed and wanted and wanted[0] == fixed and -1 in wanted[1:] and shape[0] == n:
        wanted[0] = n
    wanted = reshaped(shape, node, wanted)
    if tuple(wanted) == tuple(shape):
        return value
    return reader.move(value, "reshape", {"shape": wanted}, node)


def reshape(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Reshape`."""
    wanted = whole_numbers(_known(reader, node, operands, 1), node)
    value = _first(operands)
    shape = reader.shape(value, node)
    keeps = not node.attrs.get("allowzero")
    if keeps and any(one == 0 and at >= len(shape) for at, one in enumerate(wanted)):
        reader.refuse(node, f"wanted sizes for {shape}, got {wanted}")
    sizes = [shape[at] if one == 0 and keeps else one for at, one in enumerate(wanted)]
    return reshape_to(reader, node, value, sizes)


def flatten(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Flatten`."""
    shape = reader.shape(_first(operands), node)
    axis = int(node.attrs.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    sizes = [math.prod(shape[:axis]), math.prod(shape[axis:])]
    return reshape_to(reader, node, _first(operands), sizes)


def squeeze(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Squeeze`."""
    shape = reader.shape(_first(operands), node)
    axes = axes_of(node, _arrays(reader, node, operands), len(shape))
    axes = [at for at, size in enumerate(shape) if size == 1] if axes is None else axes
    sizes = [size for at, size in enumerate(shape) if at not in axes]
    return reshape_to(reader, node, _first(operands), sizes)


def unsqueeze(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Unsqueeze`."""
    shape, arrays = list(reader.shape(_first(operands), node)), _arrays(reader, node, operands)
    given = node.attrs.get("axes")
    count = len(given) if given is not None else (0 if len(arrays) < 2 else arrays[1].size)  # type: ignore[union-attr]
    for axis in sorted(axes_of(node, arrays, len(shape) + count) or []):
        shape.insert(axis, 1)
    return reshape_to(reader, node, _first(operands), shape)


def transpose(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Transpose`; stored words are turned here and now."""
    value = _first(operands)
    rank = len(reader.shape(value, node))
    dims = [int(one) % rank for one in node.attrs.get("perm", range(rank)[::-1])]
    if isinstance(value, KnownWords):
        grid = value.coded.grid
        axis = None if grid.axis is None else dims.index(grid.axis)
        codes = value.coded.codes.permute(dims).contiguous()
        return KnownWords(CodedTensor(codes, replace(grid, axis=axis)), f"{value.key} {dims}")
    return reader.move(value, "permute", {"dims": dims}, node)


def slices(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Slice`; backwards, as a choice of places."""
    value = _first(operands)
    shape = reader.shape(value, node)
    found = slices_of(node, _arrays(reader, node, operands), len(shape))
    plain: list[Any] = [[None, None, None] for _ in shape]
    for axis, part in found.items():
        places = range(*part.indices(shape[axis]))
        if axis == 0 and len(places) != shape[0]:
            reader.refuse(node, "wanted a part of each image, got a part of the batch")
        if places == range(shape[axis]):
            continue
        if places.step < 0:
            value = reader.move(value, "take", {"dim": axis, "index": list(places)}, node)
        else:
            plain[axis] = [places.start, places.stop, places.step]
    if all(entry == [None, None, None] for entry in plain):
        return value
    return reader.move(value, "slice", {"index": plain}, node)


def split(reader: Reader, node: OnnxNode, operands: Operands) -> list[Value]:
    """Lower `Split`."""
    value = _first(operands)
    shape = reader.shape(value, node)
    axis = int(node.attrs.get("axis", 0)) % len(shape)
    sizes = node.attrs.get("split")
    if sizes is None and len(operands) > 1 and operands[1] is not None:
        sizes = whole_numbers(_known(reader, node, operands, 1), node)
    if sizes is None:
        each = -(-shape[axis] // len(node.outputs))
        sizes = [min(each, shape[axis] - at * each) for at in range(len(node.outputs))]
    if sum(sizes) != shape[axis] or len(sizes) != len(node.outputs) or axis == 0:
        reader.refuse(node, f"wanted parts of axis {axis} of {shape}, got {sizes}")
    found, start = [], 0
    for size in sizes:
        index: list[Any] = [[None, None, None] for _ in shape]
        index[axis] = [start, start + int(size), 1]
        found.append(reader.move(value, "slice", {"index": index}, node))
        start += int(size)
    return found


def gather(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower a `Gather` of constant places."""
    value, shape = _first(operands), reader.shape(_first(operands), node)
    index = _known(reader, node, operands, 1)
    axis = int(node.attrs.get("axis", 0)) % len(shape)
    places = [place % shape[axis] for place in whole_numbers(index, node)]
    assert index is not None
    if axis == 0:
        reader.refuse(node, "wanted a choice within each image, got one of images")
    if index.ndim == 0:
        entry: list[Any] = [[None, None, None] for _ in shape]
        entry[axis] = places[0]
        return reader.move(value, "slice", {"index": entry}, node)
    taken = reader.move(value, "take", {"dim": axis, "index": places}, node)
    sizes = [*shape[:axis], *index.shape, *shape[axis + 1 :]]
    return reshape_to(reader, node, taken, sizes)


def expand(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Expand`."""
    value = _first(operands)
    shape, wanted = (
        reader.shape(value, node),
        whole_numbers(_known(reader, node, operands, 1), node),
    )
    sizes = list(np.broadcast_shapes(shape, tuple(wanted)))
    return reader.move(value, "expand", {"shape": [int(one) for one in sizes]}, node)


def pad(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Pad`, with zeros or with what is there already."""
    value = _first(operands)
    rank = len(reader.shape(value, node))
    edges = node.attrs.get("pads")
    if edges is None:
        edges = whole_numbers(_known(reader, node, operands, 1), node)
    axes = list(range(rank))
    if len(operands) > 3 and operands[3] is not None:
        axes = [one % rank for one in whole_numbers(_known(reader, node, operands, 3), node)]
    if len(edges) != 2 * len(axes):
        reader.refuse(node, f"wanted two numbers for each of {len(axes)} axes, got {len(edges)}")
    pairs = dict(zip(axes, zip(edges[: len(axes)], edges[len(axes) :], strict=True), strict=True))
    if any(pairs.get(0, (0, 0))):
        reader.refuse(node, "wanted padding of each image, got some of the batch")
    if node.attrs.get("mode", "constant") != "constant":
        return _pad_with_words(reader, node, value, pairs)
    given = operands[2] if len(operands) > 2 else None
    number = node.attrs.get("value", 0.0) if given is None else scalar(given)
    zero = float(int(value.grid.zero_point)) if isinstance(value, Rounded) else 0.0
    if number != zero:
        reader.refuse(node, f"wanted padding with zeros, got {number}")
    padding = [edge for axis in range(rank)[::-1] for edge in pairs.get(axis, (0, 0))]
    while padding and not any(padding[-2:]):
        padding = padding[:-2]
    return reader.move(value, "pad", {"padding": padding}, node) if padding else value


def _pad_with_words(
    reader: Reader, node: OnnxNode, value: Value, pairs: dict[int, tuple[int, int]]
) -> Value:
    """Return a value padded with what is there already."""
    shape = reader.shape(value, node)
    for axis, (before, after) in pairs.items():
        if before or after:
            mode = node.attrs["mode"]
            if mode not in {"reflect", "edge", "wrap"} or max(before, after) >= 2 * shape[axis]:
                reader.refuse(node, f"no form for padding of mode {mode} by {before}, {after}")
            places = np.arange(shape[axis])
            index = np.pad(places, (before, after), mode).tolist()
            value = reader.move(value, "take", {"dim": axis, "index": index}, node)
    return value


def max_pool(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `MaxPool`."""
    value = _first(operands)
    if len(node.outputs) > 1 and node.outputs[1]:
        reader.refuse(node, "no form for the places of maxima")
    kernel = [int(size) for size in node.attrs["kernel_shape"]]
    move = windows_of(reader, node, reader.shape(value, node), kernel)
    if move.uneven or any(2 * a > d * (k - 1) + 1 for (a, _), d, k in move.edges_of(kernel)):
        value = reader.move(value, "pad", {**move.as_pad(), "lowest": True}, node)
        move = move.without_padding()
    ceil = bool(node.attrs.get("ceil_mode", 0))
    attrs = {"kernel": kernel, **move.attrs(), "ceil_mode": ceil}
    return reader.move(value, "max_pool", attrs, node)


def extremes(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `ReduceMax`, `ReduceMin` and `GlobalMaxPool`."""
    value = _first(operands)
    rank = len(reader.shape(value, node))
    if node.op == "GlobalMaxPool":
        dims, keeps = list(range(2, rank)), True
    else:
        dims = axes_of(node, _arrays(reader, node, operands), rank) or list(range(rank))
        keeps = bool(node.attrs.get("keepdims", 1))
    if 0 in dims:
        reader.refuse(node, "wanted an extreme within one image, got one of several")
    op = "amin" if node.op == "ReduceMin" else "amax"
    return reader.move(value, op, {"dims": dims, "keepdim": keeps}, node)


def depth_to_space(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `DepthToSpace` and `SpaceToDepth`."""
    value, size = _first(operands), int(node.attrs["blocksize"])
    n, c, h, w = reader.shape(value, node)
    if node.op == "SpaceToDepth":
        apart, dims = [n, c, h // size, size, w // size, size], [0, 3, 5, 1, 2, 4]
        whole = [n, c * size * size, h // size, w // size]
    elif node.attrs.get("mode", "DCR") == "DCR":
        apart, dims = [n, size, size, c // size**2, h, w], [0, 3, 4, 1, 5, 2]
        whole = [n, c // size**2, h * size, w * size]
    else:
        apart, dims = [n, c // size**2, size, size, h, w], [0, 1, 4, 2, 5, 3]
        whole = [n, c // size**2, h * size, w * size]
    value = reader.move(value, "reshape", {"shape": apart}, node)
    value = reader.move(value, "permute", {"dims": dims}, node)
    return reader.move(value, "reshape", {"shape": whole}, node)


def resize(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Resize` and `Upsample`: the nearest place, or two places weighted."""
    value = _first(operands)
    shape = reader.shape(value, node)
    at = (1, 3) if node.op == "Upsample" or reader.opset < 11 else (2, 3)
    scales, sizes = (_known(reader, node, operands, place) for place in at)
    if reader.opset < 11:
        sizes = None
    if sizes is not None and sizes.size:
        wanted = whole_numbers(sizes, node)
        factors = [new / old for new, old in zip(wanted, shape, strict=True)]
    elif scales is not None and scales.size == len(shape):
        factors = [float(one) for one in scales.reshape(-1)]
        wanted = [math.floor(old * factor) for old, factor in zip(shape, factors, strict=True)]
    else:
        reader.refuse(node, "wanted a size or a factor for each axis")
    wanted[0] = shape[0]
    mode = node.attrs.get("mode", "nearest")
    if mode not in {"nearest", "linear"} or int(node.attrs.get("antialias", 0)):
        reader.refuse(node, f"no form for mode {mode}, or for antialias")
    places = [
        _places(reader, node, old, new, factor)
        for old, new, factor in zip(shape, wanted, factors, strict=True)
    ]
    if mode == "nearest":
        for axis, found in enumerate(places):
            index = [_nearest(node, place, shape[axis]) for place in found]
            if index != list(range(shape[axis])):
                value = reader.move(value, "take", {"dim": axis, "index": index}, node)
        return value
    rows = [_weights(found, size) for found, size in zip(places, shape, strict=True)]
    if rows[1] != _weights(list(map(float, range(shape[1]))), shape[1]):
        reader.refuse(node, "wanted other sizes of maps, got other numbers of channels")
    pairs = [(matrix, [ONE] * len(matrix)) for matrix in rows[2:]]
    return reader.mixed(reader.reals(value, node), pairs, node)


def _places(reader: Reader, node: OnnxNode, old: int, new: int, factor: float) -> list[float]:
    """Return where each output lies among the inputs of one axis."""
    how = node.attrs.get(
        "coordinate_transformation_mode", "asymmetric" if reader.opset < 11 else "half_pixel"
    )
    if how == "align_corners":
        return [at * (old - 1) / (new - 1) if new > 1 else 0.0 for at in range(new)]
    if how == "asymmetric":
        return [at / factor for at in range(new)]
    if how == "pytorch_half_pixel" and new == 1:
        return [0.0]
    if how not in {"half_pixel", "pytorch_half_pixel"}:
        reader.refuse(node, f"no form for coordinates of mode {how}")
    return [(at + 0.5) / factor - 0.5 for at in range(new)]


def _nearest(node: OnnxNode, place: float, size: int) -> int:
    how = node.attrs.get("nearest_mode", "round_prefer_floor")
    found = {
        "floor": math.floor(place),
        "ceil": math.ceil(place),
        "round_prefer_ceil": math.floor(place + 0.5),
    }.get(how, math.ceil(place - 0.5))
    return min(max(found, 0), size - 1)


def _weights(places: Sequence[float], size: int) -> list[list[int]]:
    """Return the two inputs that each output lies between, weighted."""
    rows = []
    for place in places:
        inside = min(max(place, 0.0), size - 1.0)
        left = min(int(inside), size - 1)
        right, part = min(left + 1, size - 1), round((inside - left) * ONE)
        row = [0] * size
        row[left] += ONE - part
        row[right] += part
        rows.append(row)
    return rows


MOVEMENTS: dict[str, Callable[[Reader, OnnxNode, Operands], Any]] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Slice": slices,
    "Split": split,
    "Gather": gather,
    "Expand": expand,
    "Pad": pad,
    "MaxPool": max_pool,
    "GlobalMaxPool": extremes,
    "ReduceMax": extremes,
    "ReduceMin": extremes,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": depth_to_space,
    "Resize": resize,
    "Upsample": resize,
}
"""Operators whose outputs are words that they read (but for a `Resize` between places)."""
