"""Pools and reductions."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bitproof.exchange.float_onnx.graph import Building
from bitproof.exchange.float_onnx.operands import (
    Operands,
    arrays_of,
    refused,
    tensor_at,
)
from bitproof.exchange.float_onnx.padding import padded
from bitproof.exchange.onnx_arguments import (
    axes_of,
)
from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.onnx_windows import windows_of

MAX_POOLS: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE_POOLS: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


def max_pool(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `MaxPool`."""
    x, kernel = tensor_at(node, operands), [int(one) for one in node.attrs["kernel_shape"]]
    move = windows_of(node, x.shape, kernel)
    ceil = bool(node.attrs.get("ceil_mode", 0))
    source, padding = node.input(0), move.before
    if move.uneven:
        move, ceil = move.cut(x.shape, kernel, ceil=ceil), False
        source, padding = padded(building, node, move, -math.inf), [0] * len(kernel)
    layer = MAX_POOLS[len(kernel)](kernel, move.stride, padding, move.dilation, ceil_mode=ceil)
    building.layer(node, layer, source)


def average_pool(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `AveragePool`."""
    x, kernel = tensor_at(node, operands), [int(one) for one in node.attrs["kernel_shape"]]
    move = windows_of(node, x.shape, kernel)
    counts = bool(node.attrs.get("count_include_pad", 0))
    if any(gap != 1 for gap in move.dilation):
        raise refused(node, "no form for dilations")
    source, padding = node.input(0), move.before
    if move.uneven:
        if not counts or node.attrs.get("ceil_mode", 0):
            raise refused(node, "no form for uneven padding that does not count, or is cut")
        source, padding = padded(building, node, move, 0.0), [0] * len(kernel)
    ceil = bool(node.attrs.get("ceil_mode", 0))
    layer = AVERAGE_POOLS[len(kernel)](kernel, move.stride, padding, ceil, counts)
    building.layer(node, layer, source)


def reduction(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read means, sums, maxima and minima over axes."""
    x = tensor_at(node, operands)
    if node.op.startswith("Global"):
        dims, keeps = list(range(2, x.ndim)), True
    else:
        given = axes_of(node, arrays_of(node, operands), x.ndim)
        dims, keeps = given or list(range(x.ndim)), bool(node.attrs.get("keepdims", 1))
    functions: dict[str, Callable[..., Any]] = {
        "GlobalAveragePool": torch.mean,
        "GlobalMaxPool": torch.amax,
        "ReduceMean": torch.mean,
        "ReduceSum": torch.sum,
        "ReduceMax": torch.amax,
        "ReduceMin": torch.amin,
    }
    building.call(node, functions[node.op], node.input(0), dim=dims, keepdim=keeps)
