"""Where the images of a batch are in an output, and whether each has an output of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from bitproof.quant.graph import Node

MAPS = frozenset({"conv", "affine", "max_pool", "avg_pool"})
"""Operations that want images on their first axis, and channels on the second one."""
WITHIN = {
    **dict.fromkeys(("linear", "softmax", "layer_norm"), 1),
    "matmul": 2,
    **dict.fromkeys(("add", "sub", "mul", "requantize", "concat", "table"), 0),
    **dict.fromkeys(("rescale", "expand", "pad"), 0),
}
"""On how many of the last axes an operation works, in each place of the others; these stay, or get
more before them."""
Shapes = tuple[torch.Size, torch.Size]
"""Of one output, for two images and for three."""


class MixedImagesError(Exception):
    """An output is made of several images, or may be."""


def follow_images(
    node: Node, operands: Sequence[tuple[Shapes, int | None]], out: Shapes
) -> int | None:
    """Return the axis of a node's output that counts images, or None where all share one output.

    Args:
        node: what makes the output.
        operands: shapes of what it reads, and the axis of each.
        out: shapes of its output.

    Raises:
        MixedImagesError: one image may have an influence on the output of another.

    Example:
        >>> node = Node("y", "permute", ("x",), {"dims": [1, 0]})
        >>> two, three = torch.Size([2, 5]), torch.Size([3, 5])
        >>> follow_images(node, [((two, three), 0)], (two[::-1], three[::-1]))
        1
    """
    places = [i for i, sizes in enumerate(zip(*out, strict=False)) if sizes == (2, 3)]
    same = [i for i, (few, more) in enumerate(zip(*out, strict=False)) if few == more]
    read = [axis for _, axis in operands if axis is not None]
    if not read and len(same) == len(out[0]) == len(out[1]) and node.op != "input":
        return None
    if len(places) != 1 or len(same) != len(out[0]) - 1 or len(out[0]) != len(out[1]):
        raise MixedImagesError
    (place,) = places
    for (few, _), axis in operands:
        if axis is not None and not _stays(node, few, axis, out[0], place):
            raise MixedImagesError
    return place


def _stays(node: Node, shape: torch.Size, axis: int, out: torch.Size, place: int) -> bool:
    """Tell whether the images on `axis` of an operand are those on `place` of the output."""
    if node.op in MAPS:
        return axis == place == 0
    if node.op in MOVED:
        return MOVED[node.op](node.attrs, shape, axis, out, place)
    same = len(shape) - axis == len(out) - place  # from the last axis on
    return same and node.op in WITHIN and axis < len(shape) - WITHIN[node.op]


def _stays_in_slice(
    attrs: dict[str, Any], _: torch.Size, axis: int, __: torch.Size, place: int
) -> bool:
    index = attrs["index"]
    whole = axis >= len(index) or index[axis] in ([None, None, None], [None, None])
    return whole and place == axis - sum(isinstance(one, int) for one in index[:axis])


def _stays_in_mean(
    attrs: dict[str, Any], shape: torch.Size, axis: int, _: torch.Size, place: int
) -> bool:
    dims = {dim % len(shape) for dim in attrs["dims"]}
    before = 0 if attrs["keepdim"] else sum(dim < axis for dim in dims)
    return axis not in dims and place == axis - before


MOVED: dict[str, Callable[[dict[str, Any], torch.Size, int, torch.Size, int], bool]] = {
    "reshape": lambda _, shape, axis, out, place: shape[:axis].numel() == out[:place].numel(),
    "permute": lambda attrs, _, axis, __, place: bool(attrs["dims"][place] == axis),
    "slice": _stays_in_slice,
    "mean": _stays_in_mean,
}
"""Whether images on an axis are those on a place of the output, where places change."""
