"""Layers with weights: convolutions, `Gemm`, `MatMul`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitproof.exchange.float_onnx.graph import Building
from bitproof.exchange.float_onnx.operands import (
    Operands,
    filled,
    needed_weight,
    refused,
    tensor_at,
    weight_at,
)
from bitproof.exchange.float_onnx.padding import padded
from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.onnx_windows import windows_of

CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


def convolution(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Conv`."""
    x, weight, bias = (
        tensor_at(node, operands),
        needed_weight(node, operands, 1),
        weight_at(node, operands, 2),
    )
    kernel, groups = list(weight.shape[2:]), int(node.attrs.get("group", 1))
    if (
        len(kernel) not in CONVOLUTIONS
        or x.ndim != weight.ndim
        or (x.shape[1] != weight.shape[1] * groups)
    ):
        raise refused(node, f"wanted maps for a weight of {tuple(weight.shape)}, got {x.shape}")
    move = windows_of(node, x.shape, kernel)
    source, padding = node.input(0), move.before
    if move.uneven:
        source, padding = padded(building, node, move, 0.0), [0] * len(kernel)
    layer = CONVOLUTIONS[len(kernel)](
        x.shape[1],
        len(weight),
        kernel,
        move.stride,
        padding,
        move.dilation,
        groups,
        bias=bias is not None,
    )
    building.layer(node, filled(layer, weight=weight, bias=bias), source)


def transposed_convolution(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `ConvTranspose`."""
    x, weight, bias = (
        tensor_at(node, operands),
        needed_weight(node, operands, 1),
        weight_at(node, operands, 2),
    )
    kernel, groups = list(weight.shape[2:]), int(node.attrs.get("group", 1))
    move = windows_of(node, x.shape, kernel)
    if move.uneven or {"output_shape", "auto_pad"} & set(node.attrs):
        raise refused(node, "no form for uneven padding, auto_pad or output_shape")
    extra = node.attrs.get("output_padding", [0] * len(kernel))
    layer = TRANSPOSED[len(kernel)](
        x.shape[1],
        weight.shape[1] * groups,
        kernel,
        move.stride,
        move.before,
        extra,
        groups,
        bias is not None,
        move.dilation,
    )
    building.layer(node, filled(layer, weight=weight, bias=bias), node.input(0))


def gemm(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Gemm`."""
    tensor_at(node, operands)
    weight, bias = needed_weight(node, operands, 1), weight_at(node, operands, 2)
    if int(node.attrs.get("transA", 0)):
        raise refused(node, "no form for a transposed first operand")
    rows = weight if int(node.attrs.get("transB", 0)) else weight.t()
    rows = rows * float(node.attrs.get("alpha", 1.0))
    if bias is not None:
        if bias.numel() > 1 and not bias.numel() == bias.shape[-1] == len(rows):
            raise refused(node, f"wanted a bias for {len(rows)} outputs, got {tuple(bias.shape)}")
        bias = (bias * float(node.attrs.get("beta", 1.0))).reshape(-1).expand(len(rows))
    layer = nn.Linear(rows.shape[1], rows.shape[0], bias=bias is not None)
    building.layer(node, filled(layer, weight=rows, bias=bias), node.input(0))


def matmul(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `MatMul`; with a constant matrix, a linear layer."""
    right = operands[1]
    if isinstance(right, Tensor) or right is None or right.ndim != 2:
        names = building.operand(node, 0), building.operand(node, 1)
        building.call(node, torch.matmul, *names)
        return
    weight = needed_weight(node, operands, 1).t()
    bias = _bias_behind(building, node, len(weight))
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    building.layer(node, filled(layer, weight=weight, bias=bias), node.input(0))


def _bias_behind(building: Building, node: OnnxNode, size: int) -> Tensor | None:
    """Return the vector that the one reader of a product adds, which then adds zeros no more."""
    readers = [one for one in building.file.nodes if node.outputs[0] in one.inputs]
    if len(readers) != 1 or readers[0].op != "Add" or node.outputs[0] in building.file.outputs:
        return None
    other = next((name for name in readers[0].inputs if name != node.outputs[0]), "")
    value = building.values.get(other)
    if not isinstance(value, np.ndarray) or value.shape not in {(size,), (1, size)}:
        return None
    building.added.add(readers[0].outputs[0])
    return torch.from_numpy(value.astype(np.float32).reshape(-1).copy())
