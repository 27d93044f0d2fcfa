"""Convolutions and pools, as modules and as functions."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx
from torch.ao.nn import quantized as nnq

from bitproof.core.errors import ExchangeError
from bitproof.exchange.torch_quantized.linear import bias_of, with_relu
from bitproof.exchange.torch_quantized.translator import Translator

CONVOLUTION = (
    *(("input", None), ("weight", None), ("bias", None)),
    *(("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)),
)
"""Arguments with their defaults."""


def convolution(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
    """Translate a convolution, transposed or not."""
    if layer.padding_mode != "zeros":
        raise ExchangeError(f"{n.target}: no form for padding of mode {layer.padding_mode}")
    transposed = isinstance(layer, nnq.ConvTranspose1d | nnq.ConvTranspose2d | nnq.ConvTranspose3d)
    rank = len(layer.kernel_size)
    attrs = {
        "strides": sizes_of(layer.stride, rank),
        "dilations": sizes_of(layer.dilation, rank),
        "pads": pads_of(layer.padding, rank),
        "group": layer.groups,
    }
    if transposed:
        attrs["output_padding"] = sizes_of(layer.output_padding, rank)
    inputs = [t.real(n.args[0]), t.weight(n, layer.weight()), *bias_of(t, n, layer.bias())]
    op = "ConvTranspose" if transposed else "Conv"
    t.give_all(n, [(op, inputs, attrs), *with_relu(layer)], value)


def conv_function(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `conv2d` and its like."""
    x, weight, bias, stride, padding, dilation, groups = (
        t.argument(n, place, name, default) for place, (name, default) in enumerate(CONVOLUTION)
    )
    rank = value.ndim - 2
    if isinstance(padding, str):
        raise ExchangeError(f"{n.name}: no form for padding {padding!r}")
    attrs = {
        "strides": sizes_of(stride, rank),
        "pads": pads_of(padding, rank),
        "dilations": sizes_of(dilation, rank),
        "group": groups,
    }
    inputs = [t.real(x), t.real(weight), *([] if bias is None else [t.real(bias)])]
    t.give(n, "Conv", inputs, value, **attrs)


def max_pool_layer(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
    """Translate a max pool."""
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    give_pool(t, n, value, op="MaxPool", sizes=sizes, ceil_mode=int(layer.ceil_mode))


def max_pool_function(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `max_pool2d`."""
    names = ("kernel_size", None), ("stride", None), ("padding", 0), ("dilation", 1)
    sizes = [t.argument(n, at, *pair) for at, pair in enumerate(names, 1)]
    give_pool(
        t, n, value, op="MaxPool", sizes=sizes, ceil_mode=int(t.argument(n, 5, "ceil_mode", 0))
    )


def avg_pool_layer(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
    """Translate an average pool."""
    if getattr(layer, "divisor_override", None) is not None:
        raise ExchangeError(f"{n.target}: no form for divisor_override")
    sizes = layer.kernel_size, layer.stride, layer.padding, 1
    counts = {"count_include_pad": int(layer.count_include_pad)}
    give_pool(t, n, value, op="AveragePool", sizes=sizes, ceil_mode=int(layer.ceil_mode), **counts)


def avg_pool_function(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `avg_pool2d`."""
    if t.argument(n, 6, "divisor_override") is not None:
        raise ExchangeError(f"{n.name}: no form for divisor_override")
    names = ("kernel_size", None), ("stride", None), ("padding", 0)
    sizes = [t.argument(n, at, *pair) for at, pair in enumerate(names, 1)]
    attrs = {
        "ceil_mode": int(t.argument(n, 4, "ceil_mode", 0)),
        "count_include_pad": int(t.argument(n, 5, "count_include_pad", 1)),
    }
    give_pool(t, n, value, op="AveragePool", sizes=[*sizes, 1], **attrs)


def give_adaptive(t: Translator, n: fx.Node, size: Any, value: Tensor) -> None:
    """Translate an adaptive average pool into windows of one size."""
    x = t.value(n.args[0])
    wanted = sizes_of(size, x.ndim - 2)
    if all(one == 1 for one in wanted):
        t.give(n, "GlobalAveragePool", [t.real(n.args[0])], value)
        return
    if any(old % new for old, new in zip(x.shape[2:], wanted, strict=True)):
        raise ExchangeError(f"{n.name}: no form for windows of several sizes")
    kernel = [old // new for old, new in zip(x.shape[2:], wanted, strict=True)]
    t.give(n, "AveragePool", [t.real(n.args[0])], value, kernel_shape=kernel, strides=kernel)


def give_pool(
    t: Translator,
    n: fx.Node,
    value: Tensor,
    *,
    op: str,
    sizes: Sequence[Any],
    **attrs: Any,
) -> None:
    """Append a pool."""
    kernel, stride, padding, dilation = sizes
    rank = len(t.value(n.args[0]).shape) - 2
    found = {
        "kernel_shape": sizes_of(kernel, rank),
        "strides": sizes_of(kernel if stride in (None, [], ()) else stride, rank),
        "pads": pads_of(padding, rank),
        **({} if op == "AveragePool" else {"dilations": sizes_of(dilation, rank)}),
        **attrs,
    }
    t.give(n, op, [t.real(n.args[0])], value, **found)


def pads_of(padding: Any, rank: int) -> list[int]:
    """Return padding before and behind each axis, as ONNX lists it."""
    sizes = [padding] * rank if isinstance(padding, int) else list(padding)
    sizes = sizes * rank if len(sizes) == 1 else sizes
    return [*sizes, *sizes]


def sizes_of(value: Any, rank: int) -> list[int]:
    """Return a size for each axis."""
    return (
        [int(value)] * rank
        if isinstance(value, int)
        else [int(one) for one in value] * (rank if len(value) == 1 else 1)
    )
