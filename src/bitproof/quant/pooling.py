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


def max_pool_with(
    call: Call, kernel: Any, stride: Any, padding: Any, *, dilation: Any, ceil: Any
) -> Ref:
    """Lower a maximum over windows."""
    sizes = pool_sizes(call, kernel, stride, padding)
    dilation = each_axis(dilation, len(sizes["kernel"]))
    return call.emit("max_pool", call.x, **sizes, dilation=dilation, ceil_mode=bool(ceil))


def max_pool(call: Call) -> Ref:
    """Lower the max-pooling function."""
    g = call.get
    return max_pool_with(
        call,
        g(1, "kernel_size"),
        g(2, "stride"),
        g(3, "padding", 0),
        dilation=g(4, "dilation", 1),
        ceil=g(5, "ceil_mode", False),
    )


def max_pool_layer(call: Call, layer: Any) -> Ref:
    """Lower a max-pooling layer."""
    if layer.return_indices:
        raise TraceError(f"{call.path}: max pooling that returns indices has no rule")
    return max_pool_with(
        call,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        dilation=layer.dilation,
        ceil=layer.ceil_mode,
    )


def avg_pool_with(call: Call, kernel: Any, stride: Any, padding: Any, *, plain: bool) -> Ref:
    """Lower a mean over windows of equal size."""
    sizes = pool_sizes(call, kernel, stride, padding)
    if not plain:
        raise TraceError(f"{call.path}: wanted average pooling over windows of one size")
    return call.emit("avg_pool", call.x, **sizes)


def avg_pool(call: Call) -> Ref:
    """Lower the average-pooling function."""
    g = call.get
    padding = g(3, "padding", 0)
    plain = not g(4, "ceil_mode", False) and (g(5, "count_include_pad", True) or not padding)
    plain = plain and g(6, "divisor_override") is None
    return avg_pool_with(call, g(1, "kernel_size"), g(2, "stride"), padding, plain=bool(plain))


def avg_pool_layer(call: Call, layer: Any) -> Ref:
    """Lower an average-pooling layer."""
    padded = any(each_axis(layer.padding, 1))
    plain = not layer.ceil_mode and (layer.count_include_pad or not padded)
    plain = plain and getattr(layer, "divisor_override", None) is None
    return avg_pool_with(call, layer.kernel_size, layer.stride, layer.padding, plain=bool(plain))


def adaptive_pool_to(call: Call, size: Any, *, largest: bool) -> Ref:
    """Lower adaptive pooling whose windows are all of one size."""
    spatial = call.x.shape[2:]
    wanted = each_axis(size, len(spatial)) if size is not None else list(spatial)
    wanted = [w if w is not None else s for w, s in zip(wanted, spatial, strict=True)]
    if any(s % w for s, w in zip(spatial, wanted, strict=True)):
        raise TraceError(
            f"{call.path}: adaptive pooling of {tuple(spatial)} to {tuple(wanted)} is uneven"
        )
    kernel = [s // w for s, w in zip(spatial, wanted, strict=True)]
    if largest:
        return max_pool_with(call, kernel, kernel, 0, dilation=1, ceil=False)
    if all(w == 1 for w in wanted):
        return call.emit("mean", call.x, dims=list(range(2, 2 + len(spatial))), keepdim=True)
    return avg_pool_with(call, kernel, kernel, 0, plain=True)


def adaptive(*, largest: bool) -> Callable[[Call], Ref]:
    """Return the rule of an adaptive pooling function."""
    return lambda call: adaptive_pool_to(call, call.get(1, "output_size"), largest=largest)


def adaptive_layer(*, largest: bool) -> Callable[[Call, Any], Ref]:
    """Return the rule of an adaptive pooling layer."""
    return lambda call, layer: adaptive_pool_to(call, layer.output_size, largest=largest)


def each_axis(value: Any, rank: int) -> list[int]:
    """Return one number per spatial axis, where one may stand for all."""
    return list(value) if isinstance(value, tuple | list) else [int(value)] * rank
