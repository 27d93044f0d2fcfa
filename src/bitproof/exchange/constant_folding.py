"""What nodes of an ONNX graph give that read constants alone: arithmetic of shapes, mostly.

Model:  results are counted before they are made: a few bytes may ask for more than fits in memory.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitproof.core.errors import ExchangeError
from bitproof.exchange.onnx_arguments import (
    axes_of,
    clip_bounds,
    reshaped,
    slices_of,
    unsqueezed,
    whole_numbers,
)
from bitproof.exchange.onnx_file import Array, OnnxNode

MOST_NUMBERS = 1 << 25
"""By which all results together may be larger than what they are made of."""
ODD = (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError)
"""What numpy raises on arguments that do not go together."""
MISFITS = (*ODD, KeyError, AttributeError, AssertionError, RuntimeError)
"""What a rule raises on attributes and operands that no operator of its kind has."""
DTYPES: dict[int, Any] = {
    **{1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32},
    **{7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64},
}
"""Of the numbers that ONNX has for element types."""
OUTPUT_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 21: "uint4", 22: "int4"}
"""Types of words, of the numbers that ONNX has for element types."""
WORDS = frozenset(OUTPUT_TYPES.values())

Operands = Sequence[Array | None]


@dataclass
class Budget:
    """How many numbers results may still have."""

    left: int = MOST_NUMBERS

    def take(self, count: int, node: OnnxNode) -> None:
        """Count numbers.

        Raises:
            ExchangeError: there are too many.
        """
        self.left -= count
        if self.left < 0:
            raise ExchangeError(f"{node.label}: wanted constants that fit in memory, got more")


def fold(node: OnnxNode, operands: Operands, budget: Budget) -> Array:
    """Return what a node gives for known operands; None stands for one that is left out.

    Raises:
        ExchangeError: the operator has no form for constants, or does not take such ones.
    """
    function = FUNCTIONS.get(node.op)
    if function is None:
        raise ExchangeError(f"{node.label}: no form for this operator on constants")
    try:
        held = max((one.size for one in operands if one is not None), default=0)
        budget.take(max(_count(node, operands) - held, 0), node)
        with np.errstate(all="ignore"):
            return np.asarray(function(node, operands))
    except MISFITS as error:
        raise ExchangeError(f"{node.label}: {misfit(error)}") from None


def misfit(error: Exception) -> str:
    """Say in one line that a node has attributes or operands of a wrong kind."""
    said = f"{type(error).__name__} {error}"
    return f"no form for its attributes and operands ({' '.join(said.split())[:200]})"


def _count(node: OnnxNode, operands: Operands) -> int:
    """Return how many numbers a result can have."""
    known = [one for one in operands if one is not None]
    if node.op in {"ConstantOfShape", "Expand", "Tile"}:
        sizes = math.prod(max(1, one) for one in whole_numbers(known[-1], node))
        return sizes * (1 if node.op == "ConstantOfShape" else max(known[0].size, 1))
    if node.op == "Range":
        first, stop, step = (float(one.reshape(-1)[0]) for one in known)
        return max(0, math.ceil((stop - first) / step))
    if node.op == "Gather":
        return known[0].size * known[1].size
    if node.op in {"Concat", "QuantizeLinear"}:
        return sum(one.size for one in known)
    if node.op in ELEMENTWISE:
        return math.prod(np.broadcast_shapes(*(one.shape for one in known)))
    return known[0].size if known else 0


def _slice(node: OnnxNode, xs: Operands) -> Array:
    x = _first(xs)
    found = slices_of(node, xs, x.ndim)
    result: Array = x[tuple(found.get(axis, slice(None)) for axis in range(x.ndim))]
    return result


def _first(xs: Operands) -> Array:
    assert xs[0] is not None
    return xs[0]


def _squeeze(node: OnnxNode, xs: Operands) -> Array:
    x = _first(xs)
    axes = axes_of(node, xs, x.ndim)
    return x.squeeze(None if axes is None else tuple(axes))


def _unsqueeze(node: OnnxNode, xs: Operands) -> Array:
    x = _first(xs)
    return x.reshape(unsqueezed(x.shape, node, xs))


def _size(x: Array | None) -> int:
    return 0 if x is None else int(x.size)


def _cast(node: OnnxNode, xs: Operands) -> Array:
    dtype = DTYPES.get(int(node.attrs.get("to", 0)))
    if dtype is None:
        raise ExchangeError(f"{node.label}: no form for type {node.attrs.get('to')}")
    return _first(xs).astype(dtype)


def _constant_of_shape(node: OnnxNode, xs: Operands) -> Array:
    value = np.asarray(node.attrs.get("value", np.zeros(1, np.float32))).reshape(-1)[:1]
    return np.full(whole_numbers(xs[0], node), value[0], value.dtype)


def _product(node: OnnxNode, xs: Operands) -> Array:
    x = _first(xs)
    axes, keeps = axes_of(node, xs, x.ndim), bool(node.attrs.get("keepdims", 1))
    return np.asarray(np.prod(x, tuple(axes) if axes else None, keepdims=keeps), x.dtype)


def _divide(_: OnnxNode, xs: Operands) -> Array:
    a, b = _first(xs), xs[1]
    assert b is not None
    if a.dtype.kind in "iu":
        return np.asarray(np.trunc(a / b)).astype(a.dtype)
    return np.asarray(a / b)


def _gather(node: OnnxNode, xs: Operands) -> Array:
    assert xs[1] is not None
    return np.asarray(np.take(_first(xs), xs[1], axis=int(node.attrs.get("axis", 0))))


def _concat(node: OnnxNode, xs: Operands) -> Array:
    return np.concatenate([one for one in xs if one is not None], int(node.attrs.get("axis", 0)))


def _transpose(node: OnnxNode, xs: Operands) -> Array:
    return np.transpose(_first(xs), node.attrs.get("perm"))


def _flatten(node: OnnxNode, xs: Operands) -> Array:
    x, axis = _first(xs), int(node.attrs.get("axis", 1))
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _clip(node: OnnxNode, xs: Operands) -> Array:
    x = _first(xs)
    low, high = clip_bounds(node, xs)
    return np.clip(x, low, high).astype(x.dtype)


def spread_along(vector: Array, axis: int, shape: Sequence[int]) -> Array:
    """Return scales or zero points of each channel, shaped to go with what they are for.

    Raises:
        ValueError: there is not one for all, nor one for each entry of the axis.
    """
    if vector.size == 1 and vector.ndim <= 1:
        return vector.reshape(())
    rank = len(shape)
    if vector.ndim != 1 or not -rank <= axis < rank or vector.size != shape[axis]:
        raise ValueError(f"wanted one for each entry of axis {axis} of {shape}, got {vector.shape}")
    return vector.reshape([-1 if place == axis % rank else 1 for place in range(rank)])


def _quantize(node: OnnxNode, xs: Operands) -> Array:
    x, scale, zero = _first(xs), xs[1], xs[2] if len(xs) > 2 else None
    assert scale is not None
    if int(node.attrs.get("block_size", 0)):
        raise ExchangeError(f"{node.label}: no form for scales of blocks")
    name, axis = type_of_words(node, zero), int(node.attrs.get("axis", 1))
    steps = np.rint(x.astype(np.float32) / spread_along(scale, axis, x.shape).astype(np.float32))
    if zero is not None:
        steps = steps + spread_along(zero, axis, x.shape).astype(np.float32)
    return np.asarray(np.clip(steps, *word_ends(name))).astype(name)


def type_of_words(node: OnnxNode, zero: Array | None) -> str:
    """Return the name of the type of words that a QuantizeLinear gives.

    Raises:
        ExchangeError: there is no integer form for them.
    """
    said = int(node.attrs.get("output_dtype", 0))
    name = OUTPUT_TYPES.get(said, f"{said}") if said else "uint8" if zero is None else ""
    if zero is not None:
        if said and name != str(zero.dtype):
            raise ExchangeError(
                f"{node.label}: wanted a zero point of type {name}, got {zero.dtype}"
            )
        name = str(zero.dtype)
    if name not in WORDS:
        raise ExchangeError(f"{node.label}: no integer form for words of type {name}")
    return name


def word_ends(dtype: str) -> tuple[int, int]:
    """Return the least and the largest number of an integer type, by its name.

    Example:
        >>> word_ends("int4"), word_ends("uint8")
        ((-8, 7), (0, 255))
    """
    bits = int(dtype.lstrip("uint"))
    return (
        (0, (1 << bits) - 1) if dtype.startswith("u") else (-1 << (bits - 1), (1 << bits - 1) - 1)
    )


def _both(function: Callable[..., Any]) -> Callable[[OnnxNode, Operands], Array]:
    return lambda _, xs: np.asarray(function(*xs))


ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Equal", "Greater", "Less", "Where", "And"}
)

FUNCTIONS: dict[str, Callable[[OnnxNode, Operands], Array]] = {
    "Identity": lambda _, xs: _first(xs),
    "Cast": _cast,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": lambda node, xs: _first(xs).reshape(
        reshaped(_first(xs).shape, node, whole_numbers(xs[1], node))
    ),
    "Transpose": _transpose,
    "Flatten": _flatten,
    "ConstantOfShape": _constant_of_shape,
    "Range": lambda _, xs: np.arange(*(one.reshape(-1)[0] for one in xs if one is not None)),
    "Expand": lambda node, xs: _first(xs) * np.ones(whole_numbers(xs[1], node), _first(xs).dtype),
    "Tile": lambda node, xs: np.tile(_first(xs), whole_numbers(xs[1], node)),
    "Shape": lambda node, xs: np.asarray(
        _first(xs).shape[int(node.attrs.get("start", 0)) : node.attrs.get("end")], np.int64
    ),
    "Size": lambda _, xs: np.asarray(_first(xs).size, np.int64),
    "Add": _both(np.add),
    "Sub": _both(np.subtract),
    "Mul": _both(np.multiply),
    "Div": _divide,
    "Pow": lambda _, xs: np.power(_first(xs), np.asarray(xs[1])).astype(_first(xs).dtype),
    "Min": lambda _, xs: np.minimum.reduce([one for one in xs if one is not None]),
    "Max": lambda _, xs: np.maximum.reduce([one for one in xs if one is not None]),
    "Equal": _both(np.equal),
    "Greater": _both(np.greater),
    "Less": _both(np.less),
    "And": _both(np.logical_and),
    "Not": _both(np.logical_not),
    "Where": _both(np.where),
    "Neg": _both(np.negative),
    "Abs": _both(np.abs),
    "Sqrt": _both(np.sqrt),
    "Reciprocal": lambda _, xs: np.asarray(1 / _first(xs), _first(xs).dtype),
    "Exp": _both(np.exp),
    "Floor": _both(np.floor),
    "Ceil": _both(np.ceil),
    "ReduceProd": _product,
    "Clip": _clip,
    "QuantizeLinear": _quantize,
}
"""Operators on constants."""
