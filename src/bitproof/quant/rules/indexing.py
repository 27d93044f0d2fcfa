"""Rules for calls that choose words: indices, ranges, pieces, assignments to parts."""

from typing import Any

import torch

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref


def getitem(call: Call) -> Any:
    """Lower indexing by integers and slices; of a list of results, pick one."""
    if isinstance(call.args[0], tuple | list):
        return call.args[0][call.args[1]]
    index = list(call.args[1]) if isinstance(call.args[1], tuple) else [call.args[1]]
    rank = len(call.x.shape)
    if any(isinstance(i, Ref | list) for i in index):
        return _getitem_by_list(call, index)
    if any(not _is_plain_index(i) for i in index):
        raise TraceError(f"{call.path}: wanted an index of constant integers and slices")
    if Ellipsis in index:
        at = index.index(Ellipsis)
        filled = rank - sum(i is not None for i in index) + 1
        index = [*index[:at], *[slice(None)] * filled, *index[at + 1 :]]
    plain: list[Any] = [_plain(i) for i in index if i is not None]
    part = call.step("slice", call.x, shape=(), index=plain)
    if None not in index:
        return Ref(part.name, tuple(call.value.shape))
    return call.emit("reshape", part, shape=call.shape)


def _getitem_by_list(call: Call, index: list[Any]) -> Ref:
    """Lower an index with one fixed list of entries, beside slices that take everything."""
    others = [i for i in index if not isinstance(i, Ref | list)]
    if len(others) + 1 != len(index) or any(i not in (slice(None), Ellipsis) for i in others):
        raise TraceError(f"{call.path}: wanted an index with one list, and whole axes beside it")
    place = next(at for at, i in enumerate(index) if isinstance(i, Ref | list))
    dim = place - len(index) if Ellipsis in index[:place] else place
    return taken(call, dim % len(call.x.shape), index[place])


def taken(call: Call, dim: int, index: Any) -> Ref:
    """Append entries of one axis that a fixed index, of any rank, chooses."""
    if isinstance(index, Ref):
        if index.value is None:
            raise TraceError(f"{call.path}: no rule for an index that depends on the input")
        chosen = index.value
    else:
        chosen = torch.tensor(index)
    if chosen.dtype == torch.bool:
        chosen = chosen.nonzero()[:, 0] if chosen.ndim == 1 else chosen
    size = call.x.shape[dim]
    if chosen.is_floating_point() or chosen.dtype == torch.bool:
        raise TraceError(f"{call.path}: wanted an index of integers, got {chosen.dtype}")
    x = call.take(call.x, dim, [int(at) % size for at in chosen.flatten()])
    if chosen.ndim == 1:
        return x
    return call.step("reshape", x, shape=call.value.shape, to=call.shape)


def index_select(call: Call) -> Ref:
    """Lower a choice of entries of one axis."""
    return taken(call, call.get(1, "dim") % len(call.x.shape), call.get(2, "index"))


def index(call: Call) -> Ref:
    """Lower `aten.index`: at most one fixed list, None for whole axes."""
    given = [(dim, one) for dim, one in enumerate(call.get(1, "indices")) if one is not None]
    if len(given) != 1:
        raise TraceError(f"{call.path}: wanted an index with one list, got {len(given)}")
    return taken(call, *given[0])


def select(call: Call) -> Ref:
    """Lower one entry of an axis."""
    dim, at = call.get(1, "dim") % len(call.x.shape), call.get(2, "index")
    return call.select(call.x, dim, at)


def narrow(call: Call) -> Ref:
    """Lower a range of an axis, given by its start and length."""
    dim, start, length = (call.get(n, name) for n, name in enumerate(("dim", "start", "length"), 1))
    dim %= len(call.x.shape)
    start %= call.x.shape[dim]
    return call.slice(call.x, dim, start, start + length)


def operator_slice(call: Call) -> Ref:
    """Lower `aten.slice`: a range of an axis, with a step."""
    dim, step = call.get(1, "dim", 0) % len(call.x.shape), call.get(4, "step", 1)
    start, stop = call.get(2, "start"), call.get(3, "end")
    if any(isinstance(end, list) for end in (start, stop)):
        if call.value.shape == call.x.shape:
            return call.x
        raise TraceError(f"{call.path}: no rule for a range that depends on the batch")
    if call.value.shape == call.x.shape:
        return call.x
    whole: list[Any] = [[None, None, None]] * dim
    ends = [start, None if stop is None or stop > 1 << 40 else stop, step]
    return call.step("slice", call.x, shape=call.value.shape, index=[*whole, ends])


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


def scatter(call: Call) -> Ref:
    """Lower `select_scatter` and `slice_scatter`: a tensor with a part of one axis replaced."""
    x, part, dim = call.x, call.get(1, "src"), call.get(2, "dim", 0) % len(call.x.shape)
    start, stop, step = call.get(3, "start"), call.get(4, "end"), call.get(5, "step", 1)
    size = x.shape[dim]
    if len(part.shape) < len(x.shape):
        start %= size
        stop, shape = start + 1, [*x.shape[:dim], 1, *x.shape[dim + 1 :]]
        to = list(call.shape)
        to[dim] = 1
        part = call.step("reshape", part, shape=shape, to=to)
    start, stop, _ = slice(start, stop).indices(size)
    if step != 1:
        raise TraceError(f"{call.path}: no rule for an assignment to every {step}th entry")
    before = [call.slice(x, dim, 0, start)] if start else []
    after = [call.slice(x, dim, stop, size)] if stop < size else []
    parts = [*before, part, *after]
    return call.step("concat", *parts, shape=x.shape, dim=dim) if len(parts) > 1 else part


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


def flip(call: Call) -> Ref:
    """Lower a reversal of axes."""
    x, dims = call.x, call.get(1, "dims")
    for dim in dims if isinstance(dims, tuple | list) else call.args[1:]:
        axis = dim % len(x.shape)
        x = call.take(x, axis, list(range(x.shape[axis]))[::-1])
    return x


def repeat_interleave(call: Call) -> Ref:
    """Lower a repetition of every entry of an axis."""
    count, dim = call.get(1, "repeats"), call.get(2, "dim")
    if dim is None or not isinstance(count, int):
        raise TraceError(f"{call.path}: wanted one number of repeats and an axis")
    dim %= len(call.x.shape)
    return call.take(call.x, dim, [at for at in range(call.x.shape[dim]) for _ in range(count)])
