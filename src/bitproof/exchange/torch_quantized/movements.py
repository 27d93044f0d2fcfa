"""Means, parts, orders and sizes."""

from typing import Any

import numpy as np
from torch import Tensor, fx

from bitproof.core.errors import ExchangeError
from bitproof.exchange.torch_quantized.translator import Translator, name_of


def concatenated(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `cat`."""
    parts, dim = t.argument(n, 0, "tensors"), t.value(t.argument(n, 1, "dim", 0))
    t.give(n, "Concat", [t.real(part) for part in parts], value, axis=int(dim) % value.ndim)


def mean(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate a mean over axes."""
    dims = t.argument(n, 1, "dim")
    rank = t.value(n.args[0]).ndim
    axes = [int(one) % rank for one in ([dims] if isinstance(dims, int) else dims)]
    keeps = int(t.argument(n, 2, "keepdim", 0))
    t.give(n, "ReduceMean", [t.real(n.args[0])], value, axes=axes, keepdims=keeps)


def permuted(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `permute` and `transpose`."""
    x = t.value(n.args[0])
    arguments: Any = n.args
    rank = x.ndim
    if name_of(n) in {"transpose", "t"}:
        a, b = (0, 1) if name_of(n) == "t" else (int(one) % rank for one in arguments[1:3])
        dims = list(range(rank))
        dims[a], dims[b] = b, a
    else:
        given = arguments[1] if isinstance(arguments[1], tuple | list) else arguments[1:]
        dims = [int(one) % rank for one in given]
    t.give(n, "Transpose", [t.real(n.args[0])], value, perm=dims)


def _sliced(t: Translator, n: fx.Node, parts: dict[int, slice], value: Tensor) -> None:
    """Translate what keeps a part of some axes."""
    x = t.value(n.args[0])
    ends = {axis: part.indices(x.shape[axis]) for axis, part in parts.items()}
    lists = {
        "start": [first for first, _, _ in ends.values()],
        "end": [last for _, last, _ in ends.values()],
        "axis": list(ends),
        "step": [step for _, _, step in ends.values()],
    }
    names = [t.constant(f"{n.name}/{k}", np.asarray(v, np.int64)) for k, v in lists.items()]
    t.give(n, "Slice", [t.real(n.args[0]), *names], value)


def slice_function(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `slice`."""
    x, axis, start, end, step = (
        t.value(t.argument(n, at, k, d))
        for at, (k, d) in enumerate(
            (("input", None), ("dim", 0), ("start", None), ("end", None), ("step", 1))
        )
    )
    _sliced(t, n, {int(axis) % x.ndim: slice(start, end, step)}, value)


def get_item(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate an index of slices."""
    source, index = t.value(n.args[0]), t.value(n.args[1])
    if not isinstance(source, Tensor):
        raise ExchangeError(f"{n.name}: no form for one of several results")
    parts = list(index) if isinstance(index, tuple) else [index]
    cut = {at: one for at, one in enumerate(parts) if one != slice(None)}
    if not all(isinstance(one, slice) for one in cut.values()):
        raise ExchangeError(f"{n.name}: no form for this index")
    if cut:
        _sliced(t, n, cut, value)
    else:
        t.alias(n, n.args[0], value)


def padded(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `pad`."""
    edges, mode = t.value(t.argument(n, 1, "pad")), t.argument(n, 2, "mode", "constant")
    number = t.argument(n, 3, "value") or 0.0
    names = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    if mode not in names:
        raise ExchangeError(f"{n.name}: no form for padding of mode {mode}")
    before = [0] * (value.ndim - len(edges) // 2) + list(edges[::2])[::-1]
    behind = [0] * (value.ndim - len(edges) // 2) + list(edges[1::2])[::-1]
    pads = t.constant(f"{n.name}/pads", np.asarray([*before, *behind], np.int64))
    inputs = [t.real(n.args[0]), pads]
    if mode == "constant":
        inputs.append(t.constant(f"{n.name}/value", np.asarray(number, np.float32)))
    t.give(n, "Pad", inputs, value, mode=names[mode])


def give_reshaped(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate whatever gives the same numbers in other sizes."""
    sizes = t.constant(f"{n.name}/sizes", np.asarray(value.shape, np.int64))
    t.give(n, "Reshape", [t.real(n.args[0]), sizes], value)
