"""Attributes and operands of ONNX nodes as plain numbers, for any version of the operators.

Both readers of graphs ask here: that of quantized graphs (`qdq`) and that of float ones
(`float_onnx`), and `constant_folding`.
"""

import math
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from bitproof.core.errors import ExchangeError
from bitproof.exchange.onnx_file import Array, OnnxNode

Operands = Sequence[Array | None]
"""Constants among what a node reads; None where there is none, or something else."""


def refuse(node: OnnxNode, problem: str) -> NoReturn:
    """Raise an error about a node.

    Raises:
        ExchangeError: always.
    """
    raise ExchangeError(f"{node.label}: {problem}")


def axes_of(node: OnnxNode, operands: Operands, rank: int) -> list[int] | None:
    """Return the axes of an attribute or, since later versions, of the second operand."""
    given = node.attrs.get("axes")
    if given is None and len(operands) > 1 and operands[1] is not None:
        given = operands[1].reshape(-1).tolist()
    if not given and node.attrs.get("noop_with_empty_axes"):
        refuse(node, "no form for a reduction over no axes")
    return None if given is None else [int(axis) % rank for axis in given]


def whole_numbers(array: Array | None, node: OnnxNode) -> list[int]:
    """Return an array as a flat list of integers.

    Raises:
        ExchangeError: it holds others, or there is none.
    """
    if array is None or array.dtype.kind not in "iu":
        raise ExchangeError(f"{node.label}: wanted whole numbers, got {_kind(array)}")
    return [int(one) for one in array.reshape(-1)]


def _kind(array: Array | None) -> str:
    return "none" if array is None else str(array.dtype)


def clip_bounds(node: OnnxNode, xs: Operands) -> tuple[float | None, float | None]:
    """Return the bounds of a `Clip`, from attributes or, in later versions, operands."""
    ends = []
    for place, name in ((1, "min"), (2, "max")):
        one = xs[place] if place < len(xs) else None
        value = node.attrs.get(name) if one is None else one.reshape(-1)[0]
        ends.append(None if value is None or abs(float(value)) > 1e38 else float(value))
    return ends[0], ends[1]


def reshaped(shape: Sequence[int], node: OnnxNode, wanted: Sequence[int]) -> list[int]:
    """Return the sizes that a `Reshape` asks for, those of zeros and of -1 filled in."""
    sizes = with_zeros_filled(shape, node, wanted)
    if sizes.count(-1) == 1:
        rest = math.prod(one for one in sizes if one != -1)
        if rest > 0 and math.prod(shape) % rest == 0:
            sizes[sizes.index(-1)] = math.prod(shape) // rest
    return sizes


def with_zeros_filled(shape: Sequence[int], node: OnnxNode, wanted: Sequence[int]) -> list[int]:
    """Return sizes of a `Reshape` with those that were there in the places of zeros.

    Raises:
        ExchangeError: a zero stands for a size that was not there.
    """
    if node.attrs.get("allowzero"):
        return list(wanted)
    if any(one == 0 for one in wanted[len(shape) :]):
        refuse(node, f"wanted sizes for {tuple(shape)}, got {list(wanted)}")
    return [shape[at] if one == 0 else one for at, one in enumerate(wanted)]


def squeezed(shape: Sequence[int], node: OnnxNode, operands: Operands) -> list[int]:
    """Return the sizes behind a `Squeeze`."""
    axes = axes_of(node, operands, len(shape))
    axes = [at for at, size in enumerate(shape) if size == 1] if axes is None else axes
    return [size for at, size in enumerate(shape) if at not in axes]


def unsqueezed(shape: Sequence[int], node: OnnxNode, operands: Operands) -> list[int]:
    """Return the sizes behind an `Unsqueeze`, whose axes are those of its output."""
    given = axes_of(node, operands, 1) or []
    sizes = list(shape)
    for axis in sorted(axes_of(node, operands, len(shape) + len(given)) or []):
        sizes.insert(axis, 1)
    return sizes


def slices_of(node: OnnxNode, operands: Operands, rank: int) -> dict[int, slice]:
    """Return what a `Slice` keeps of each axis that it names."""
    if "starts" in node.attrs:
        starts, ends = node.attrs["starts"], node.attrs["ends"]
        axes, steps = node.attrs.get("axes"), None
    else:
        given = [*operands[1:], None, None, None, None][:4]
        starts, ends = whole_numbers(given[0], node), whole_numbers(given[1], node)
        axes = None if given[2] is None else whole_numbers(given[2], node)
        steps = None if given[3] is None else whole_numbers(given[3], node)
    axes = list(range(len(starts))) if axes is None else [axis % rank for axis in axes]
    steps = [1] * len(starts) if steps is None else steps
    found = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # An end before the first entry, which Python counts from the last.
        stop = None if step < 0 and end < -(1 << 31) + 2 else end
        found[axis] = slice(start, stop, step)
    return found


def places_of(part: slice, axis: int, shape: Sequence[int], node: OnnxNode) -> range:
    """Return the places that a slice keeps, which are all of the first axis."""
    places = range(*part.indices(shape[axis]))
    if axis == 0 and places != range(shape[0]):
        refuse(node, "wanted a part of each image, got a part of the batch")
    return places


def split_sizes(shape: Sequence[int], node: OnnxNode, operands: Operands) -> tuple[int, list[int]]:
    """Return the axis of a `Split`, and the sizes of its parts."""
    axis = int(node.attrs.get("axis", 0)) % len(shape)
    sizes = node.attrs.get("split")
    if sizes is None and len(operands) > 1 and operands[1] is not None:
        sizes = whole_numbers(operands[1], node)
    if sizes is None:
        each = -(-shape[axis] // len(node.outputs))
        sizes = [min(each, shape[axis] - at * each) for at in range(len(node.outputs))]
    if sum(sizes) != shape[axis] or len(sizes) != len(node.outputs) or axis == 0:
        refuse(node, f"wanted parts of axis {axis} of {tuple(shape)}, got {sizes}")
    return axis, [int(size) for size in sizes]


def gathered(
    shape: Sequence[int], node: OnnxNode, index: Array | None
) -> tuple[int, list[int], tuple[int, ...]]:
    """Return the axis of a `Gather`, its places counted from 0, and the sizes of the index."""
    axis = int(node.attrs.get("axis", 0)) % len(shape)
    places = [place % shape[axis] for place in whole_numbers(index, node)]
    if axis == 0:
        refuse(node, "wanted a choice within each image, got one of images")
    assert index is not None
    return axis, places, tuple(index.shape)


def edges_of(
    node: OnnxNode, pads: Array | None, axes: Array | None, rank: int
) -> dict[int, tuple[int, int]]:
    """Return what a `Pad` adds before and behind each axis that it names."""
    edges = node.attrs.get("pads")
    edges = whole_numbers(pads, node) if edges is None else edges
    named = list(range(rank)) if axes is None else [at % rank for at in whole_numbers(axes, node)]
    count = len(named)
    if len(edges) != 2 * count:
        refuse(node, f"wanted two numbers for each of {count} axes, got {len(edges)}")
    return dict(zip(named, zip(edges[:count], edges[count:], strict=True), strict=True))


def padding_of(edges: dict[int, tuple[int, int]], rank: int) -> list[int]:
    """Return padding as torch lists it: the last axis first, as many axes as there is any on."""
    padding = [edge for axis in range(rank)[::-1] for edge in edges.get(axis, (0, 0))]
    while padding and not any(padding[-2:]):
        padding = padding[:-2]
    return padding


def resized(
    shape: Sequence[int], node: OnnxNode, scales: Array | None, sizes: Array | None
) -> tuple[list[int], list[float]]:
    """Return the sizes that a `Resize` asks for, and by which factors it says so."""
    if "axes" in node.attrs or node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        refuse(node, "no form for axes or keep_aspect_ratio_policy")
    if sizes is not None and sizes.size:
        wanted = whole_numbers(sizes, node)
        return wanted, [new / old for new, old in zip(wanted, shape, strict=True)]
    if scales is None or scales.size != len(shape):
        refuse(node, "wanted a size or a factor for each axis")
    factors = [float(one) for one in scales.reshape(-1)]
    products = np.asarray(shape, np.float32) * scales.reshape(-1).astype(
        np.float32
    )  # rounded, as elsewhere
    return [math.floor(product) for product in products.tolist()], factors
