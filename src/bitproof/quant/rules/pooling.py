"""Rules for pooling: maxima and means over windows."""

from collections.abc import Callable
from typing import Any

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref
from bitproof.quant.rules.resampling import uneven_means


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
    """Lower an average-pooling function or layer."""
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    found = call.given(layer, *names, "divisor_override")
    kernel, stride, padding, ceil, counts_padding, divisor = found
    sizes = pool_sizes(call, kernel, stride, padding or 0)
    padded = any(sizes["padding"])
    if not ceil and divisor is None and not (padded and counts_padding is False):
        return call.emit("avg_pool", call.x, **sizes)
    windows, counts = [], []
    outputs = call.value.shape[2:]
    for axis, size in enumerate(call.x.shape[2:]):
        k, s, p = (sizes[key][axis] for key in ("kernel", "stride", "padding"))
        starts = [at * s - p for at in range(outputs[axis])]
        own = [range(max(at, 0), min(at + k, size)) for at in starts]
        whole = [min(at + k, size + p) - at for at in starts]
        windows.append(own)
        counts.append([len(w) for w in own] if counts_padding is False else whole)
    if divisor is not None:
        counts = [[divisor] * len(counts[0]), *([1] * len(each) for each in counts[1:])]
    return uneven_means(call, windows, counts)


def adaptive(*, largest: bool) -> Callable[..., Any]:
    """Return the rule of adaptive pooling to a given size."""

    def rule(call: Call, layer: Any = None) -> Any:
        (size,), spatial = call.given(layer, "output_size"), call.x.shape[2:]
        if largest and layer is not None and layer.return_indices:
            raise TraceError(f"{call.path}: max pooling that returns indices has no rule")
        wanted = each_axis(size, len(spatial)) if size is not None else list(spatial)
        wanted = [w if w is not None else s for w, s in zip(wanted, spatial, strict=True)]
        if all(w == 1 for w in wanted) and not largest:
            dims = list(range(2, 2 + len(spatial)))
            shape = [*call.x.shape[:2], *wanted]
            return call.step("mean", call.x, shape=shape, dims=dims, keepdim=True)
        if any(s % w for s, w in zip(spatial, wanted, strict=True)):
            return _uneven(call, wanted, largest=largest)
        kernel = [s // w for s, w in zip(spatial, wanted, strict=True)]
        sizes = pool_sizes(call, kernel, kernel, 0)
        still = {"dilation": [1] * len(spatial), "ceil_mode": False} if largest else {}
        op = "max_pool" if largest else "avg_pool"
        return call.step(op, call.x, shape=[*call.x.shape[:2], *wanted], **sizes, **still)

    return rule


def _uneven(call: Call, wanted: list[int], *, largest: bool) -> Ref:
    """Append adaptive pooling whose windows are of different sizes."""
    x, windows = call.x, []
    for size, count in zip(x.shape[2:], wanted, strict=True):
        ends = [(at * size // count, -(-(at + 1) * size // count)) for at in range(count)]
        windows.append([range(*pair) for pair in ends])
    if not largest:
        return uneven_means(call, windows, [[len(w) for w in own] for own in windows])
    for dim, own in enumerate(windows, 2):
        longest = max(len(window) for window in own)
        # A window that is shorter has its last word several times, which changes no maximum.
        index = [window[min(at, len(window) - 1)] for window in own for at in range(longest)]
        x = call.take(x, dim, index)
        apart = (*x.shape[:dim], len(own), longest, *x.shape[dim + 1 :])
        x = call.reshape(x, apart)
        shape = (*apart[: dim + 1], *apart[dim + 2 :])
        x = call.step("amax", x, shape=shape, dims=[dim + 1], keepdim=False)
    return x


def with_none(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Return the rule of an operator that gives indices beside its result, which nobody reads."""
    return lambda call: [rule(call), None]


def each_axis(value: Any, rank: int) -> list[int]:
    """Return one number per spatial axis, where one may stand for all."""
    return list(value) if isinstance(value, tuple | list) else [int(value)] * rank
