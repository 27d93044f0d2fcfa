"""Rules for pooling: maxima and means over windows of one size."""

from collections.abc import Callable
from typing import Any

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref


def pool_sizes(call: Call, kernel: Any, stride: Any, padding: Any) -> dict[str, list[int]]:
    """Return kernel, stride and padding as lists, one entry per spatial axis."""
    rank = len(call.x.shape) - 2
    kernel = each_axis(kernel, rank)
    return {
        "kernel": kernel,
        "stride": kernel if stride in (None, []) else each_axis(stride, rank),
        "padding": each_axis(padding, rank),
    }


def max_pool(call: Call, layer: Any = None) -> Ref:
    """Lower a max-pooling function or layer."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    kernel, stride, padding, dilation, ceil, with_indices = call.given(layer, *names)
    if with_indices:
        raise TraceError(f"{call.path}: max pooling that returns indices has no rule")
    sizes = pool_sizes(call, kernel, stride, padding or 0)
    dilation = each_axis(dilation or 1, len(sizes["kernel"]))
    return call.emit("max_pool", call.x, **sizes, dilation=dilation, ceil_mode=bool(ceil))


def avg_pool(call: Call, layer: Any = None) -> Ref:
    """Lower an average-pooling function or layer whose windows are of one size."""
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    found = call.given(layer, *names, "divisor_override")
    kernel, stride, padding, ceil, counts_padding, divisor = found
    padded = any(each_axis(padding or 0, 1))
    if ceil or divisor is not None or (padded and counts_padding is False):
        raise TraceError(f"{call.path}: wanted average pooling over windows of one size")
    return call.emit("avg_pool", call.x, **pool_sizes(call, kernel, stride, padding or 0))


def adaptive(*, largest: bool) -> Callable[..., Ref]:
    """Return the rule of adaptive pooling whose windows are all of one size."""

    def rule(call: Call, layer: Any = None) -> Ref:
        (size,), spatial = call.given(layer, "output_size"), call.x.shape[2:]
        wanted = each_axis(size, len(spatial)) if size is not None else list(spatial)
        wanted = [w if w is not None else s for w, s in zip(wanted, spatial, strict=True)]
        if any(s % w for s, w in zip(spatial, wanted, strict=True)):
            raise TraceError(
                f"{call.path}: adaptive pooling of {tuple(spatial)} to {tuple(wanted)} is uneven"
            )
        kernel = [s // w for s, w in zip(spatial, wanted, strict=True)]
        sizes = pool_sizes(call, kernel, kernel, 0)
        if largest:
            still = {"dilation": [1] * len(spatial), "ceil_mode": False}
            return call.emit("max_pool", call.x, **sizes, **still)
        if all(w == 1 for w in wanted):
            return call.emit("mean", call.x, dims=list(range(2, 2 + len(spatial))), keepdim=True)
        return call.emit("avg_pool", call.x, **sizes)

    return rule


def each_axis(value: Any, rank: int) -> list[int]:
    """Return one number per spatial axis, where one may stand for all."""
    return list(value) if isinstance(value, tuple | list) else [int(value)] * rank
