"""Rules for calls that move or select words: reshaping, indexing, padding, joining."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref
from bitproof.quant.rules.resampling import mixed


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
    """Lower a repetition of whole axes."""
    x = call.x
    if len(x.shape) < len(call.shape):
        shape = (1,) * (len(call.shape) - len(x.shape)) + x.shape
        x = call.step("reshape", x, shape=shape, to=list(shape))
    if all(a in (1, b) for a, b in zip(x.shape, call.value.shape, strict=True)):
        return call.emit("expand", x, shape=call.shape)
    for dim, (size, wanted) in enumerate(zip(x.shape, call.value.shape, strict=True)):
        if size != wanted:
            if isinstance(call.shape[dim], list):
                raise TraceError(f"{call.path}: no rule to repeat the axis that holds the images")
            x = call.take(x, dim, list(range(size)) * (wanted // size))
    return x


def repeat_interleave(call: Call) -> Ref:
    """Lower a repetition of every entry of an axis."""
    count, dim = call.get(1, "repeats"), call.get(2, "dim")
    if dim is None or not isinstance(count, int):
        raise TraceError(f"{call.path}: wanted one number of repeats and an axis")
    dim %= len(call.x.shape)
    return call.take(call.x, dim, [at for at in range(call.x.shape[dim]) for _ in range(count)])


def flip(call: Call) -> Ref:
    """Lower a reversal of axes."""
    x, dims = call.x, call.get(1, "dims")
    for dim in dims if isinstance(dims, tuple | list) else call.args[1:]:
        axis = dim % len(x.shape)
        x = call.take(x, axis, list(range(x.shape[axis]))[::-1])
    return x


def permute(call: Call) -> Ref:
    """Lower a reordering of axes."""
    dims = call.get(1, "dims")
    order = dims if isinstance(dims, tuple | list) else call.args[1:]
    return call.permute(call.x, [d % len(call.x.shape) for d in order])


def movedim(call: Call) -> Ref:
    """Lower a move of axes to other places."""
    rank, given = len(call.x.shape), (call.get(1, "source"), call.get(2, "destination"))
    sources, places = (
        [d % rank for d in (part if isinstance(part, tuple | list) else [part])] for part in given
    )
    rest = iter(d for d in range(rank) if d not in sources)
    order = [sources[places.index(d)] if d in places else next(rest) for d in range(rank)]
    return call.permute(call.x, order)


def turn(call: Call) -> Ref:
    """Lower a swap of the last two axes."""
    rank = len(call.x.shape)
    return call.permute(call.x, [*range(rank - 2), rank - 1, rank - 2])


def transpose(call: Call) -> Ref:
    """Lower a swap of two axes."""
    rank = len(call.x.shape)
    a, b = call.get(1, "dim0") % rank, call.get(2, "dim1") % rank
    order = list(range(rank))
    order[a], order[b] = order[b], order[a]
    return call.permute(call.x, order)


def attribute(call: Call) -> Ref:
    """Lower a tensor that another one has as an attribute."""
    name = call.get(1, "name")
    if name in {"mT", "mH"} or (name in {"T", "H"} and len(call.x.shape) == 2):
        return turn(call)
    if name in {"data", "real"}:
        return call.x
    raise TraceError(f"{call.path}: no rule for the attribute '{name}' of a tensor")


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


def unfold(call: Call) -> Ref:
    """Lower `Tensor.unfold`: windows of an axis, as a last axis."""
    dim, size, step = (call.get(n, name) for n, name in enumerate(("dimension", "size", "step"), 1))
    dim %= len(call.x.shape)
    count = (call.x.shape[dim] - size) // step + 1
    x = call.take(call.x, dim, [w * step + at for w in range(count) for at in range(size)])
    shape = [*call.x.shape[:dim], count, size, *call.x.shape[dim + 1 :]]
    to = [*call.shape[: dim + 1], size, *call.shape[dim + 1 : -1]]
    apart = call.step("reshape", x, shape=shape, to=to)
    order = [d for d in range(len(shape)) if d != dim + 1]
    return call.permute(apart, [*order, dim + 1])


def image_to_columns(call: Call, layer: Any = None) -> Ref:
    """Lower `nn.Unfold`: the words under each place of a kernel, as columns."""
    names = ("kernel_size", "dilation", "padding", "stride")
    given = call.given(layer, *names)
    kernel, dilation, padding, stride = (
        [neutral] * 2
        if value is None
        else list(value)
        if isinstance(value, tuple | list)
        else [value] * 2
        for value, neutral in zip(given, (1, 1, 0, 1), strict=True)
    )
    x = pad_by(call, call.x, [(edge, edge) for edge in padding])
    n, channels, high, wide = x.shape
    counts = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, d, s in zip((high, wide), kernel, dilation, stride, strict=True)
    ]
    rows, columns = (
        [place * s + tap * d for tap in range(k) for place in range(count)]
        for k, d, s, count in zip(kernel, dilation, stride, counts, strict=True)
    )
    x = call.take(call.take(x, 2, rows), 3, columns)
    apart = (n, channels, kernel[0], counts[0], kernel[1], counts[1])
    x = call.permute(call.reshape(x, apart), [0, 1, 2, 4, 3, 5])
    return call.reshape(x, (n, channels * kernel[0] * kernel[1], counts[0] * counts[1]))


def columns_to_image(call: Call) -> Ref:
    """Lower `nn.Fold`: columns added up where they overlap."""
    size, kernel, dilation, padding, stride = (list(call.get(n, "")) for n in range(1, 6))
    x, (high, wide) = call.x, size
    counts = [
        (edge + 2 * p - d * (k - 1) - 1) // s + 1
        for edge, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True)
    ]
    n, channels = x.shape[0], x.shape[1] // (kernel[0] * kernel[1])
    x = call.reshape(x, (n, channels, *kernel, *counts))
    x = call.permute(x, [0, 1, 2, 4, 3, 5])
    x = call.reshape(x, (n, channels, kernel[0] * counts[0], kernel[1] * counts[1]))
    for dim, (edge, k, d, p, s, count) in enumerate(
        zip((high, wide), kernel, dilation, padding, stride, counts, strict=True), 2
    ):
        places = [tap * d + at * s - p for tap in range(k) for at in range(count)]
        rows = [[int(place == row) for place in places] for row in range(edge)]
        x = mixed(call, x, dim, rows, [1] * edge)
    return x


def shuffle(*, up: bool) -> Callable[..., Ref]:
    """Return the rule of channels that become places, or places that become channels."""

    def rule(call: Call, layer: Any = None) -> Ref:
        names = ("upscale_factor",) if up else ("downscale_factor",)
        (r,), x = call.given(layer, *names), call.x
        n, channels, high, wide = x.shape
        if up:
            x = call.reshape(x, (n, channels // (r * r), r, r, high, wide))
            x = call.permute(x, [0, 1, 4, 2, 5, 3])
            return call.reshape(x, (n, channels // (r * r), high * r, wide * r))
        x = call.reshape(x, (n, channels, high // r, r, wide // r, r))
        x = call.permute(x, [0, 1, 3, 5, 2, 4])
        return call.reshape(x, (n, channels * r * r, high // r, wide // r))

    return rule


def channel_shuffle(call: Call, layer: Any = None) -> Ref:
    """Lower channels that change places between groups."""
    (groups,), x = call.given(layer, "groups"), call.x
    n, channels, *rest = x.shape
    order = [
        g * (channels // groups) + at for at in range(channels // groups) for g in range(groups)
    ]
    return call.take(x, 1, order)


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


def copied(call: Call) -> Ref:
    """Lower `aten.copy`: the source, in the shape of what it overwrites."""
    source = call.get(1, "src")
    if source.shape == call.value.shape:
        return Ref(source.name, source.shape, source.value)
    return expand(replace(call, args=(source,)))


def filled(call: Call) -> Ref:
    """Lower `aten.fill`: one number everywhere."""
    return call.table(
        call.table(call.x, "multiply", other=0.0), "shift", other=call.number(call.get(1, "value"))
    )


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


def pad(call: Call, layer: Any = None) -> Ref:
    """Lower padding with zeros, another number, or what is there already."""
    if layer is not None:
        edges, value = list(layer.padding), getattr(layer, "value", 0)
        kind = type(layer).__name__.lower()
        mode = next(
            (name for name in ("reflection", "replication", "circular") if name in kind), ""
        )
    else:
        edges, value = list(call.get(1, "pad")), call.get(3, "value")
        mode = call.get(2, "mode", "constant")
    around = list(zip(edges[::2], edges[1::2], strict=True))[::-1]
    return pad_by(call, call.x, around, mode=mode or "constant", value=call.number(value or 0))


MODES = {"reflection": "reflect", "replication": "replicate"}


def pad_by(
    call: Call,
    x: Ref,
    around: Sequence[tuple[int, int]],
    *,
    mode: str = "constant",
    value: float = 0.0,
) -> Ref:
    """Append padding before and after the last axes; what is negative is cut off."""
    lead = len(x.shape) - len(around)
    if mode not in {"constant", "zeros"}:
        for dim, (before, after) in enumerate(around, lead):
            if before or after:
                places = torch.arange(x.shape[dim], dtype=torch.float32)[None, None]
                mode = MODES.get(mode, mode)
                index = functional.pad(places, (before, after), mode=mode).flatten().int().tolist()
                x = call.take(x, dim, index)
        return x
    if not any(before or after for before, after in around):
        return x
    sizes = zip(x.shape[lead:], around, strict=True)
    shape = [*x.shape[:lead], *(size + before + after for size, (before, after) in sizes)]
    edges = [edge for pair in reversed(around) for edge in pair]
    if value == 0:
        return call.step("pad", x, shape=shape, padding=edges)
    if value == -math.inf:
        return call.step("pad", x, shape=shape, padding=edges, lowest=True)
    moved = call.table(x, "shift", other=-value)
    return call.table(call.step("pad", moved, shape=shape, padding=edges), "shift", other=value)


def packed(mask: Tensor) -> str:
    """Return a mask as hexadecimal digits.

    Example:
        >>> packed(torch.tensor([True, False, False, False, True]))
        '88'
    """
    flat = mask.flatten().tolist()
    flat += [False] * (-len(flat) % 8)
    digits = "".join("1" if bit else "0" for bit in flat)
    return f"{int(digits, 2):0{len(digits) // 4}x}" if digits else ""


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
