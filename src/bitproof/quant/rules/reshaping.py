"""Rules for calls that move words: shapes, axes, repetition, joining."""

from collections.abc import Callable
from dataclasses import replace
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
    channels = x.shape[1]
    order = [
        g * (channels // groups) + at for at in range(channels // groups) for g in range(groups)
    ]
    return call.take(x, 1, order)


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


def concat(call: Call) -> Ref:
    """Lower concatenation; empty parts, such as new caches, add nothing."""
    parts = [part for part in call.get(0, "tensors") if 0 not in part.shape]
    if len(parts) == 1:
        only: Ref = parts[0]
        return only
    return call.emit("concat", *parts, dim=call.get(1, "dim", 0) % len(parts[0].shape))


def stack(call: Call) -> Ref:
    """Lower stacking: a new axis for each part, then concatenation."""
    parts, dim = call.get(0, "tensors"), call.get(1, "dim", 0) % len(call.shape)
    shape = list(call.shape)
    shape[dim] = 1
    grown = [call.step("reshape", part, shape=tuple(part.shape), to=shape) for part in parts]
    return call.emit("concat", *grown, dim=dim)
