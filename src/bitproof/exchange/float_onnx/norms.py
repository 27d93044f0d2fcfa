"""Norms and softmax."""

from typing import Any

from torch import nn

from bitproof.exchange.float_onnx.graph import Building
from bitproof.exchange.float_onnx.operands import (
    Operands,
    filled,
    needed_weight,
    refused,
    tensor_at,
    weight_at,
)
from bitproof.exchange.onnx_file import OnnxNode

NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def batch_norm(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `BatchNormalization`."""
    if int(node.attrs.get("training_mode", 0)):
        raise refused(node, "no form for training_mode")
    x = tensor_at(node, operands)
    scale, shift, mean, var = (needed_weight(node, operands, place) for place in range(1, 5))
    rank = max(x.ndim - 2, 1)
    if rank not in NORMS:
        raise refused(node, f"no form for {x.ndim} axes")
    layer = NORMS[rank](
        x.shape[1],
        eps=float(node.attrs.get("epsilon", 1e-5)),
        momentum=1 - float(node.attrs.get("momentum", 0.9)),
    )
    tensors = {"weight": scale, "bias": shift, "running_mean": mean, "running_var": var}
    building.layer(node, filled(layer, **tensors), node.input(0))


def instance_norm(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `InstanceNormalization`: a group norm with one channel in a group."""
    x, weight, bias = (
        tensor_at(node, operands),
        needed_weight(node, operands, 1),
        weight_at(node, operands, 2),
    )
    layer = nn.GroupNorm(x.shape[1], x.shape[1], float(node.attrs.get("epsilon", 1e-5)))
    building.layer(node, filled(layer, weight=weight, bias=bias), node.input(0))


def layer_norm(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `LayerNormalization`."""
    x = tensor_at(node, operands)
    axis = int(node.attrs.get("axis", -1)) % x.ndim
    weight, bias = needed_weight(node, operands, 1), weight_at(node, operands, 2)
    eps = float(node.attrs.get("epsilon", 1e-5))
    layer = nn.LayerNorm(list(x.shape[axis:]), eps=eps, bias=bias is not None)
    building.layer(node, filled(layer, weight=weight, bias=bias), node.input(0))


def softmax(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Softmax` and `LogSoftmax`."""
    x = tensor_at(node, operands)
    late = building.file.opset >= 13
    axis = int(node.attrs.get("axis", -1 if late else 1)) % x.ndim
    if not late and axis != x.ndim - 1:
        raise refused(node, "no form for a softmax over several axes")
    kind = nn.Softmax if node.op == "Softmax" else nn.LogSoftmax
    building.layer(node, kind(axis), node.input(0))
