"""Other sizes and orders of the same numbers."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from bitproof.exchange.float_onnx.graph import Building
from bitproof.exchange.float_onnx.operands import (
    Operands,
    array_at,
    arrays_of,
    tensor_at,
)
from bitproof.exchange.onnx_arguments import (
    reshaped,
    squeezed,
    unsqueezed,
    whole_numbers,
    with_zeros_filled,
)
from bitproof.exchange.onnx_file import OnnxNode


def reshape(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Reshape`."""
    x = tensor_at(node, operands)
    wanted = whole_numbers(array_at(node, operands, 1), node)
    wanted = with_zeros_filled(tuple(x.shape), node, wanted)
    fixed = building.file.inputs[0].shape[0]
    if fixed and wanted and wanted[0] == fixed and math.prod(wanted) != x.numel():
        wanted[0] = len(x)  # a file for some number of images
    _to_shape(building, node, reshaped(tuple(x.shape), node, wanted))


def flatten(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Flatten`."""
    x = tensor_at(node, operands)
    axis = int(node.attrs.get("axis", 1))
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 1:
        building.layer(node, nn.Flatten(), node.input(0))
        return
    _to_shape(building, node, [math.prod(x.shape[:axis]), math.prod(x.shape[axis:])])


def squeeze(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Squeeze`."""
    x = tensor_at(node, operands)
    _to_shape(building, node, squeezed(x.shape, node, arrays_of(node, operands)))


def unsqueeze(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Unsqueeze`."""
    x = tensor_at(node, operands)
    _to_shape(building, node, unsqueezed(x.shape, node, arrays_of(node, operands)))


def transpose(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Transpose`."""
    x = tensor_at(node, operands)
    dims = [int(one) for one in node.attrs.get("perm", range(x.ndim)[::-1])]
    building.call(node, _permuted, node.input(0), dims=dims)


def expand(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Expand`."""
    x = tensor_at(node, operands)
    wanted = whole_numbers(array_at(node, operands, 1), node)
    sizes = np.broadcast_shapes(tuple(x.shape), tuple(wanted))
    building.call(node, _expanded, node.input(0), shape=[int(one) for one in sizes])


def _to_shape(building: Building, node: OnnxNode, sizes: Sequence[int]) -> None:
    building.call(node, _reshaped, node.input(0), shape=[int(size) for size in sizes])


def _reshaped(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape(shape)


def _permuted(x: Tensor, dims: list[int]) -> Tensor:
    return x.permute(dims)


def _expanded(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.expand(shape)
