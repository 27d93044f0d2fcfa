"""Rules for sums, means, moments and extremes over axes."""

import math
from typing import Any

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref, Rule


def axes(call: Call, dim: Any) -> list[int]:
    """Return axes in rising order; none given: all but the first."""
    rank = len(call.x.shape)
    if dim is None or dim == []:
        raise TraceError(f"{call.path}: no rule for a reduction over all axes, the images included")
    return sorted(d % rank for d in (dim if isinstance(dim, tuple | list) else [dim]))


def reduced(call: Call, dims: list[int], *, keepdim: bool) -> list[int]:
    """Return the shape of a reduction, for a batch of two."""
    sizes = enumerate(call.x.shape)
    return [1 if d in dims else size for d, size in sizes if keepdim or d not in dims]


def mean(call: Call) -> Ref:
    """Lower a mean over axes."""
    dims, keepdim = axes(call, call.get(1, "dim")), bool(call.get(2, "keepdim", False))
    return _mean(call, call.x, dims, keepdim=keepdim)


def _mean(call: Call, x: Ref, dims: list[int], *, keepdim: bool) -> Ref:
    shape = reduced(call, dims, keepdim=keepdim)
    return call.step("mean", x, shape=shape, dims=dims, keepdim=keepdim)


def total(call: Call) -> Ref:
    """Lower a sum over axes: the mean, in steps that are worth more."""
    dims, keepdim = axes(call, call.get(1, "dim")), bool(call.get(2, "keepdim", False))
    count = math.prod(call.x.shape[d] for d in dims)
    return call.rescale(_mean(call, call.x, dims, keepdim=keepdim), float(count))


def extreme(op: str) -> Rule:
    """Return the rule of the largest or smallest entry over axes."""

    def rule(call: Call) -> Ref:
        dims, keepdim = axes(call, call.get(1, "dim")), bool(call.get(2, "keepdim", False))
        shape = reduced(call, dims, keepdim=keepdim)
        return call.step(op, call.x, shape=shape, dims=dims, keepdim=keepdim)

    return rule


def extreme_or_elementwise(op: str, of_two: str) -> Rule:
    """Return the rule of `max` and `min`: over one axis, or of two tensors."""

    def rule(call: Call) -> Any:
        other = call.get(1, "dim", call.kwargs.get("other"))
        if isinstance(other, Ref):
            return call.emit(of_two, call.x, other)
        return [extreme(op)(call), None]

    return rule


def length(call: Call) -> Ref:
    """Lower the Euclidean length along axes: `linalg_vector_norm`, `norm`."""
    order = call.get(1, "ord", call.kwargs.get("p", 2))
    if order not in (2, 2.0, None, "fro"):
        raise TraceError(f"{call.path}: no rule for a norm of order {order}")
    dims, keepdim = axes(call, call.get(2, "dim")), bool(call.get(3, "keepdim", False))
    count = math.prod(call.x.shape[d] for d in dims)
    return call.rescale(_rms(call, call.x, dims, keepdim=keepdim), math.sqrt(count))


def _rms(call: Call, x: Ref, dims: list[int], *, keepdim: bool) -> Ref:
    shape = reduced(call, dims, keepdim=keepdim)
    return call.step("rms", x, shape=shape, dims=dims, keepdim=keepdim, eps=0.0)


def spread(*, squared: bool) -> Rule:
    """Return the rule of a variance, or of its root."""

    def rule(call: Call) -> Ref:
        dims, keepdim = axes(call, call.get(1, "dim")), call.get(3, "keepdim", False)
        correction = call.kwargs.get("correction", call.get(2, "unbiased", 1))
        count = math.prod(call.x.shape[d] for d in dims)
        degrees = count - float(1 if correction is None else correction)
        centered = call.step(
            "sub", call.x, _mean(call, call.x, dims, keepdim=True), shape=call.x.shape
        )
        root = _rms(call, centered, dims, keepdim=bool(keepdim))
        root = call.rescale(root, math.sqrt(count / degrees))
        return call.table(root, "square") if squared else root

    return rule
