"""Rules for calls that move or select words: reshaping, indexing, padding, joining."""

from typing import Any

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref


def reshape(call: Call) -> Ref:
    """Lower every call that only gives the same words another shape."""
    return call.emit("reshape", call.x, shape=call.shape)


def expand(call: Call) -> Ref:
    """Lower a repetition along axes of size one."""
    x = call.x
    if len(x.shape) < len(call.shape):
        shape = (1,) * (len(call.shape) - len(x.shape)) + x.shape
        x = call.step("reshape", x, shape=shape, to=list(shape))
    return call.emit("expand", x, shape=call.shape)


def repeat(call: Call) -> Ref:
    """Lower a repetition, where it only repeats axes of size one."""
    sizes = (1,) * (len(call.shape) - len(call.x.shape)) + call.x.shape
    if any(a not in (1, b) for a, b in zip(sizes, call.value.shape, strict=True)):
        raise TraceError(f"{call.path}: repeating an axis of more than one entry has no rule")
    return expand(call)


def permute(call: Call) -> Ref:
    """Lower a reordering of axes."""
    dims = call.get(1, "dims")
    order = dims if isinstance(dims, tuple | list) else call.args[1:]
    return call.emit("permute", call.x, dims=[d % len(call.x.shape) for d in order])


def transpose(call: Call) -> Ref:
    """Lower a swap of two axes."""
    rank = len(call.x.shape)
    a, b = call.get(1, "dim0") % rank, call.get(2, "dim1") % rank
    order = list(range(rank))
    order[a], order[b] = order[b], order[a]
    return call.emit("permute", call.x, dims=order)


def getitem(call: Call) -> Any:
    """Lower indexing by integers and slices; of a list of results, pick one."""
    if isinstance(call.args[0], tuple | list):
        return call.args[0][call.args[1]]
    index = list(call.args[1]) if isinstance(call.args[1], tuple) else [call.args[1]]
    if any(not _is_plain_index(i) for i in index):
        raise TraceError(f"{call.path}: wanted an index of constant integers and slices")
    rank = len(call.x.shape)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        filled = rank - sum(i is not None for i in index) + 1
        index = [*index[:at], *[slice(None)] * filled, *index[at + 1 :]]
    plain: list[Any] = [_plain(i) for i in index if i is not None]
    part = call.step("slice", call.x, shape=(), index=plain)
    if None not in index:
        return Ref(part.name, tuple(call.value.shape))
    return call.emit("reshape", part, shape=call.shape)


def _is_plain_index(index: Any) -> bool:
    if isinstance(index, slice):
        return all(part is None or type(part) is int for part in _plain(index))
    return index is None or index is Ellipsis or type(index) is int


def _plain(index: Any) -> Any:
    return [index.start, index.stop, index.step] if isinstance(index, slice) else index


def split(call: Call) -> list[Ref]:
    """Lower chunk and split: one slice for each piece."""
    dim = call.get(2, "dim", 0) % len(call.x.shape)
    pieces, start = [], 0
    for piece in call.value:
        stop = start + piece.shape[dim]
        index = [[None, None, None]] * dim + [[start, stop, None]]
        pieces.append(call.step("slice", call.x, shape=tuple(piece.shape), index=index))
        start = stop
    return pieces


def unbind(call: Call) -> list[Ref]:
    """Lower unbind: one index for each piece."""
    dim = call.get(1, "dim", 0) % len(call.x.shape)
    return [
        call.step("slice", call.x, shape=tuple(piece.shape), index=[[None, None, None]] * dim + [i])
        for i, piece in enumerate(call.value)
    ]


def pad(call: Call) -> Ref:
    """Lower padding with zeros."""
    mode, value = call.get(2, "mode", "constant"), call.get(3, "value") or 0
    if mode != "constant" or value != 0:
        raise TraceError(f"{call.path}: wanted padding with zeros, got {mode} {value}")
    return call.emit("pad", call.x, padding=list(call.get(1, "pad")))


def concat(call: Call) -> Ref:
    """Lower concatenation."""
    parts = call.get(0, "tensors")
    return call.emit("concat", *parts, dim=call.get(1, "dim", 0) % len(parts[0].shape))


def roll(call: Call) -> Ref:
    """Lower a cyclic shift: along each axis, the end goes before the rest."""
    shifts, dims = (
        list(given) if isinstance(given, tuple | list) else [given]
        for given in (call.get(1, "shifts"), call.get(2, "dims"))
    )
    x, shape = call.x, call.x.shape
    if len(dims) != len(shifts) or None in dims:
        raise TraceError(f"{call.path}: wanted roll with an axis for each shift, got dims={dims}")
    for shift, axis in zip(shifts, dims, strict=True):
        dim = axis % len(shape)
        if isinstance(call.shape[dim], list):
            raise TraceError(f"{call.path}: wanted roll within one image, got dim={axis}")
        start = shape[dim] - shift % shape[dim]
        if start == shape[dim]:
            continue
        parts = [
            call.step("slice", x, shape=(), index=[[None, None, None]] * dim + [ends])
            for ends in ([start, None, None], [None, start, None])
        ]
        x = call.step("concat", *parts, shape=shape, dim=dim)
    return x


def stack(call: Call) -> Ref:
    """Lower stacking: a new axis for each part, then concatenation."""
    parts, dim = call.get(0, "tensors"), call.get(1, "dim", 0) % len(call.shape)
    shape = list(call.shape)
    shape[dim] = 1
    grown = [call.step("reshape", part, shape=tuple(part.shape), to=shape) for part in parts]
    return call.emit("concat", *grown, dim=dim)
