"""What rules read of a node: activations, constants, weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitproof.core.errors import ExchangeError
from bitproof.exchange.float_onnx.graph import Operand
from bitproof.exchange.onnx_file import Array, OnnxNode

Operands = Sequence[Operand]


def refused(node: OnnxNode, problem: str) -> ExchangeError:
    """Return an error about a node."""
    return ExchangeError(f"{node.label}: {problem}")


def tensor_at(node: OnnxNode, operands: Operands, place: int = 0) -> Tensor:
    """Return an operand that depends on the images."""
    value = operands[place] if place < len(operands) else None
    if not isinstance(value, Tensor):
        raise refused(node, f"wanted input {place} to depend on the images")
    return value


def array_at(node: OnnxNode, operands: Operands, place: int) -> Array | None:
    """Return an operand that is a constant; None: it is left out."""
    value = operands[place] if place < len(operands) else None
    if isinstance(value, Tensor):
        raise refused(node, f"no form for input {place} that depends on the images")
    return value


def arrays_of(node: OnnxNode, operands: Operands) -> list[Array | None]:
    """Return all operands but the first, which are constants."""
    return [None, *(array_at(node, operands, place) for place in range(1, len(operands)))]


def weight_at(node: OnnxNode, operands: Operands, place: int) -> Tensor | None:
    """Return a weight, None where it is left out."""
    array = array_at(node, operands, place)
    if array is None:
        return None
    found = torch.from_numpy(np.asarray(array, np.float32).copy())
    if not bool(found.isfinite().all()):
        raise refused(node, "wanted finite weights")
    return found


def needed_weight(node: OnnxNode, operands: Operands, place: int) -> Tensor:
    """Return a weight that is not left out."""
    found = weight_at(node, operands, place)
    if found is None:
        raise refused(node, f"wanted input {place} to be a constant")
    return found


def filled(layer: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """Return a layer with these parameters and buffers."""
    for name, tensor in tensors.items():
        if tensor is not None:
            target = getattr(layer, name)
            target.data = tensor.reshape(target.shape).clone()
    return layer


def as_it_is(x: Tensor) -> Tensor:
    """Return the input."""
    return x


def indexed(x: Tensor, index: tuple[Any, ...]) -> Tensor:
    """Return a part."""
    return x[index]
