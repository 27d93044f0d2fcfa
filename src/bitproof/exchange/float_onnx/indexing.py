"""Parts of what there is, and parts put together."""

from typing import Any

import torch
from torch import Tensor

from bitproof.exchange.float_onnx.graph import Building
from bitproof.exchange.float_onnx.operands import (
    Operands,
    array_at,
    arrays_of,
    indexed,
    refused,
    tensor_at,
)
from bitproof.exchange.onnx_arguments import (
    gathered,
    places_of,
    slices_of,
    split_sizes,
)
from bitproof.exchange.onnx_file import OnnxNode


def slices(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Slice`."""
    x = tensor_at(node, operands)
    index: list[Any] = [slice(None)] * x.ndim
    for axis, part in slices_of(node, arrays_of(node, operands), x.ndim).items():
        places = places_of(part, axis, x.shape, node)
        if places.step < 0:
            raise refused(node, "no form for steps backwards")
        if places != range(x.shape[axis]):
            index[axis] = slice(places.start, places.stop, places.step)
    building.call(node, indexed, node.input(0), index=tuple(index))


def split(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Split`."""
    x = tensor_at(node, operands)
    axis, sizes = split_sizes(x.shape, node, arrays_of(node, operands))
    start = 0
    for name, size in zip(node.outputs, sizes, strict=True):
        index = (*[slice(None)] * axis, slice(start, start + size))
        building.call(node, indexed, node.input(0), gives=name, index=index)
        start += size


def gather(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read a `Gather` of constant places."""
    x = tensor_at(node, operands)
    axis, places, sizes = gathered(x.shape, node, array_at(node, operands, 1))
    if not sizes:
        building.call(node, indexed, node.input(0), index=(*[slice(None)] * axis, places[0]))
    elif len(sizes) == 1:
        building.call(node, _taken, node.input(0), dim=axis, index=torch.tensor(places))
    else:
        raise refused(node, "wanted places along one axis")


def concat(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Concat`."""
    rank = next(one.ndim for one in operands if one is not None)
    names = [building.operand(node, place) for place in range(len(operands))]
    building.call(node, _concatenated, *names, dim=int(node.attrs["axis"]) % rank)


def _concatenated(*parts: Tensor, dim: int) -> Tensor:
    return torch.cat(parts, dim)


def _taken(x: Tensor, dim: int, index: Tensor) -> Tensor:
    return torch.index_select(x, dim, index)
