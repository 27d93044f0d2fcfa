"""What a value of a quantized graph is, on the way from a file to an integer network.

Model:  between a DequantizeLinear and a QuantizeLinear a graph computes with reals, an integer
        network does not: an operation there waits, unrounded, for the grid of its output.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from bitproof.exchange.onnx_file import Array
from bitproof.quant.grid import CodedTensor, Grid

Move = tuple[str, dict[str, Any]]
"""An operation that only moves words, and its attributes."""
Bounds = tuple[float | None, float | None]


@dataclass(frozen=True, eq=False)
class Known:
    """An array that depends on no image."""

    array: Array
    bounds: tuple[int, int] | None = None
    """What words were clipped to, where that is less than their type holds."""


@dataclass(frozen=True, eq=False)
class KnownWords:
    """Stored words with a grid: a weight, a bias or a constant."""

    coded: CodedTensor
    key: str
    """Where they come from: layers with equal keys have one memory."""


@dataclass(frozen=True, eq=False)
class Image:
    """The input on its way to its grid: `x * factor + summand` for x in [0, 1], then moved."""

    factor: Array
    summand: Array
    moves: tuple[Move, ...] = ()
    shape: tuple[int, ...] = ()
    integer: bool = False
    """Whether the graph takes integers."""


@dataclass(frozen=True, eq=False)
class Reals:
    """The values of a node's words."""

    node: str


@dataclass(frozen=True, eq=False)
class Function:
    """An elementwise function of one node's words: a lookup table, once there is a grid."""

    node: str
    compute: Callable[[Tensor], Tensor]
    """In float64."""
    label: str
    named: tuple[str, dict[str, float | str]] | None = None
    """The same as a function that tables know, with its parameters."""


@dataclass(frozen=True, eq=False)
class Unrounded:
    """A node that waits for the grid of its output."""

    op: str
    inputs: tuple[str, ...]
    name: str
    label: str
    """For messages."""
    shape: tuple[int, ...]
    """Of its output, with all moves."""
    attrs: dict[str, Any] = field(default_factory=dict)
    weight: KnownWords | None = None
    bias: KnownWords | Tensor | None = None
    """Words, or real values."""
    clamp: Bounds = (None, None)
    moves: tuple[Move, ...] = ()
    waiting: "Unrounded | None" = None
    """A layer that nobody rounded either, and that this adds as its first operand."""
    tail: tuple[Move, ...] = ()
    """What comes behind as reals up to the output of the graph: a softmax or a sigmoid."""

    def clamped(self, low: float | None, high: float | None) -> "Unrounded":
        """Return the same behind a clamp."""

        def within(end: float | None, otherwise: float | None) -> float | None:
            if end is None:
                return otherwise
            end = end if low is None else max(end, low)
            return end if high is None else min(end, high)

        return replace(self, clamp=(within(self.clamp[0], low), within(self.clamp[1], high)))


@dataclass(frozen=True, eq=False)
class Rounded:
    """What a QuantizeLinear gives: words of something that waited for this grid."""

    source: "Image | Reals | Function | Unrounded"
    grid: Grid
    bounds: tuple[int, int] | None = None
    """What words were clipped to, where that is less than their type holds."""


Value = Known | KnownWords | Image | Reals | Function | Unrounded | Rounded


def scalar(value: Value | None) -> float | None:
    """Return the one number that a constant holds, None where it holds more or is none."""
    if isinstance(value, KnownWords) and value.coded.codes.numel() == 1:
        return float(value.coded.values().reshape(()))
    if isinstance(value, Known) and value.array.size == 1 and value.array.dtype.kind in "fiub":
        return float(value.array.reshape(-1)[0])
    return None


def numbers(value: Value) -> Array | None:
    """Return the real values of a constant; None: it is none."""
    if isinstance(value, KnownWords):
        return np.asarray(value.coded.values().numpy())
    return value.array if isinstance(value, Known) else None
