"""Elementwise functions of one operand."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bitproof.exchange.float_onnx.graph import Building, Rule
from bitproof.exchange.float_onnx.operands import (
    Operands,
    arrays_of,
    as_it_is,
    refused,
    tensor_at,
)
from bitproof.exchange.onnx_arguments import clip_bounds
from bitproof.exchange.onnx_file import OnnxNode


def activation(make: Callable[[OnnxNode], nn.Module]) -> Rule:
    """Return the rule of a layer without weights."""

    def rule(building: Building, node: OnnxNode, operands: Operands) -> None:
        tensor_at(node, operands)
        building.layer(node, make(node), node.input(0))

    return rule


def function(called: Callable[..., Any]) -> Rule:
    """Return the rule of a function of one operand."""

    def rule(building: Building, node: OnnxNode, operands: Operands) -> None:
        tensor_at(node, operands)
        building.call(node, called, node.input(0))

    return rule


def hard_sigmoid(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `HardSigmoid`, whose slope may be another than torch's."""
    tensor_at(node, operands)
    slope, middle = float(node.attrs.get("alpha", 0.2)), float(node.attrs.get("beta", 0.5))
    if math.isclose(slope, 1 / 6, rel_tol=1e-5) and middle == 0.5:
        building.layer(node, nn.Hardsigmoid(), node.input(0))
        return
    scaled, moved = (f"{node.outputs[0]}/{part}" for part in ("scaled", "moved"))
    building.call(node, torch.mul, node.input(0), gives=scaled, other=slope)
    building.call(node, torch.add, scaled, gives=moved, other=middle)
    building.call(node, torch.clamp, moved, min=0.0, max=1.0)


def clip(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Clip`."""
    tensor_at(node, operands)
    low, high = clip_bounds(node, arrays_of(node, operands))
    if (low, high) == (0.0, 6.0):
        building.layer(node, nn.ReLU6(), node.input(0))
    elif (low, high) == (0.0, None):
        building.layer(node, nn.ReLU(), node.input(0))
    elif (low, high) == (None, None):
        building.call(node, torch.clone, node.input(0))
    else:
        building.call(node, torch.clamp, node.input(0), min=low, max=high)


def cast(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read a `Cast` between floats."""
    tensor_at(node, operands)
    if int(node.attrs.get("to", 1)) not in {1, 10, 11}:
        raise refused(node, "no form for a cast to integers")
    building.call(node, as_it_is, node.input(0))


def same(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read what hands on its input."""
    tensor_at(node, operands)
    building.call(node, as_it_is, node.input(0))


def alpha(node: OnnxNode, default: float) -> float:
    """Return the attribute `alpha`."""
    return float(node.attrs.get("alpha", default))
