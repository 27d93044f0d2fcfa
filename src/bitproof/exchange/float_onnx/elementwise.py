"""Elementwise operators of two inputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bitproof.exchange.float_onnx.graph import Building, Operand
from bitproof.exchange.float_onnx.operands import Operands, as_it_is, refused
from bitproof.exchange.onnx_file import OnnxNode

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Pow": torch.pow,
}


def binary(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read an elementwise operator of two inputs."""
    if len(operands) != 2:
        raise refused(node, f"wanted two inputs, got {len(operands)}")
    if node.op == "Add" and node.outputs[0] in building.added:
        source = next(n for n, one in zip(node.inputs, operands, strict=True) if _varies(one))
        building.call(node, as_it_is, source)
        return
    for place, other in ((0, 1), (1, 0)):
        value = operands[other]
        if value is not None and not isinstance(value, Tensor) and value.size == 1:
            number = float(value.reshape(-1)[0])
            keywords = _with_number(node.op, number, second=other == 1)
            if keywords is not None:
                called = torch.clamp if node.op in {"Max", "Min"} else FUNCTIONS[node.op]
                building.call(node, called, node.input(place), **keywords)
                return
    names = building.operand(node, 0), building.operand(node, 1)
    building.call(node, FUNCTIONS[node.op], *names)


def _with_number(op: str, number: float, *, second: bool) -> dict[str, Any] | None:
    """Return what an operator with a number takes; None where it takes two tensors."""
    if op in {"Max", "Min"}:
        return {"min" if op == "Max" else "max": number}
    if op == "Pow":
        return {"exponent": number} if second else None
    return {"other": number} if second or op in {"Add", "Mul"} else None


def _varies(one: Operand) -> bool:
    return isinstance(one, Tensor)
