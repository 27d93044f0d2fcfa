"""Layers as convolutions over maps with two axes of space, and sums under windows of these."""

from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from bitproof.kernels.geometry import Geometry
from bitproof.quant.graph import Node


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
        return x if x.ndim == 4 else x.reshape(*x.shape[:2], 1, -1)
    return x if x.ndim == 4 else x.unsqueeze(2)


def from_maps(sums: Tensor, x: Tensor, node: Node) -> Tensor:
    """Undo `as_maps` for the output; `x` is the node's input."""
    if node.op == "linear":
        return sums.permute(0, 2, 3, 1).reshape(*x.shape[:-1], sums.shape[1])
    if node.op == "affine":
        return sums.reshape(x.shape)
    return sums if x.ndim == 4 else sums.squeeze(2)


def sum_windows(maps: Tensor, size: tuple[int, ...], move: Geometry) -> Tensor:
    """Return the sum under each window of `size`, map by map.

    Example:
        >>> import torch
        >>> sum_windows(torch.ones(1, 1, 3, 3), (3, 3), Geometry(padding=(1, 1)))
        tensor([[[[4., 6., 4.],
                  [6., 9., 6.],
                  [4., 6., 4.]]]])
    """
    for axis, around in ((2, (0, 0, 1, 1)), (3, (1, 1))):
        taps, step, edge, gap = (
            values[axis - 2] for values in (size, move.stride, move.padding, move.dilation)
        )
        padded = functional.pad(maps, [edge * side for side in around]) if edge else maps
        stop, before = padded.shape[axis] - gap * (taps - 1), (slice(None),) * axis
        maps = padded[(*before, slice(0, stop, step))]
        for start in range(gap, gap * taps, gap):
            maps = maps + padded[(*before, slice(start, start + stop, step))]
    return maps
