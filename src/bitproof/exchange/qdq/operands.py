"""What rules read of a node: operands that are constants, and the types of rules."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitproof.exchange.onnx_file import Array, OnnxNode
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.values import Known, Value

Operands = Sequence[Value | None]
Rule = Callable[[Reader, OnnxNode, Operands], Any]


def first_of(operands: Operands) -> Value:
    """Return the first operand."""
    assert operands[0] is not None
    return operands[0]


def constant_at(reader: Reader, node: OnnxNode, operands: Operands, place: int) -> Array | None:
    """Return an operand that is a constant; None: it is left out."""
    value = operands[place] if place < len(operands) else None
    if value is None:
        return None
    if not isinstance(value, Known):
        reader.refuse(node, f"wanted input {place} to be a constant")
    return value.array


def constants_of(reader: Reader, node: OnnxNode, operands: Operands) -> list[Array | None]:
    """Return all operands but the first, which are constants."""
    return [None, *(constant_at(reader, node, operands, at) for at in range(1, len(operands)))]


def as_array(values: Array) -> Tensor:
    """Return an array as a tensor of its own."""
    return torch.from_numpy(np.array(values, order="C"))
