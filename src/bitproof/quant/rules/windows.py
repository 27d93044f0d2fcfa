"""Rules for windows as columns, and columns as maps again."""

from typing import Any

from bitproof.quant.builder import Call, Ref
from bitproof.quant.rules.padding import pad_by
from bitproof.quant.rules.resampling import mixed


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
