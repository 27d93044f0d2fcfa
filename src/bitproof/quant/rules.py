"""Rules that turn one traced call into nodes of the graph.

To support another layer, add a rule here: it gets the call and returns the `Ref` of the result.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitproof.core.errors import TraceError
from bitproof.models.base import Normalize
from bitproof.models.norms import ScaledBatchNorm2d, ScaledGroupNorm
from bitproof.quant import reshaping
from bitproof.quant.attention import (
    encoder,
    encoder_layer,
    multihead_attention,
    scaled_dot_product_attention,
    softmax,
)
from bitproof.quant.builder import Call, Ref
from bitproof.quant.pooling import adaptive, avg_pool, each_axis, max_pool

Rule = Callable[..., Any]
"""Lowers a call of a function, or of a layer, which it then takes too."""


def convolution(call: Call, layer: Any = None) -> Ref:
    """Lower a convolution over one to three axes."""
    if layer is not None and layer.padding_mode != "zeros":
        raise TraceError(f"{call.path}: wanted padding with zeros, got '{layer.padding_mode}'")
    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    weight, bias, stride, padding, dilation, groups = call.given(layer, *names)
    tensors = _stored(call, weight=weight, bias=bias)
    assert tensors["weight"] is not None
    kernel = tensors["weight"].shape[2:]
    rank = len(kernel)
    stride, dilation = each_axis(stride or 1, rank), each_axis(dilation or 1, rank)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if any(size % 2 for size in total):
            raise TraceError(f"{call.path}: padding='same' needs odd kernels here")
        padding = [size // 2 for size in total]
    padding = [0] * rank if padding == "valid" else each_axis(padding or 0, rank)
    moves = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups or 1}
    return call.emit("conv", call.x, **moves, tensors=tensors)


def linear(call: Call, layer: Any = None) -> Ref:
    """Lower a linear layer."""
    weight, bias = call.given(layer, "weight", "bias")
    return call.emit("linear", call.x, tensors=_stored(call, weight=weight, bias=bias))


def _stored(call: Call, **given: Ref | Tensor | None) -> dict[str, Tensor | None]:
    """Return the tensors of a layer, or those that a function reads from the model."""
    tensors: dict[str, Tensor | None] = {}
    for key, one in given.items():
        stored = call.builder.tensors.get(f"{one.name}.weight") if isinstance(one, Ref) else one
        if isinstance(one, Ref) and stored is None:
            raise TraceError(f"{call.path}: wanted a stored {key}, got one that is computed")
        tensors[key] = stored
    return tensors


def batch_norm(call: Call, layer: Any) -> Ref:
    """Lower a batch norm in evaluation mode: a scale and a shift per channel."""
    if layer.running_mean is None:
        raise TraceError(f"{call.path}: wanted a batch norm with running statistics, got none")
    factor = torch.rsqrt(layer.running_var.double() + layer.eps)
    factor = factor if layer.weight is None else factor * layer.weight.double()
    shift = -layer.running_mean.double() * factor
    shift = shift if layer.bias is None else shift + layer.bias.double()
    return scale_channels(call, factor, shift)


def scale_channels(call: Call, factor: Tensor, shift: Tensor) -> Ref:
    """Append a scale and a shift along axis 1."""
    rank = len(call.x.shape)
    return call.emit("affine", call.x, rank=rank, tensors={"weight": factor, "bias": shift})


def normalize(call: Call, layer: Normalize) -> Ref:
    """Lower the model's own normalisation of the input."""
    mean, std = layer.mean.double().flatten(), layer.std.double().flatten()
    return scale_channels(call, 1 / std, -mean / std)


def layer_norm(call: Call, layer: Any = None) -> Ref:
    """Lower a layer norm."""
    shape, weight, bias, eps = call.given(layer, "normalized_shape", "weight", "bias", "eps")
    tensors = _stored(call, weight=weight, bias=bias)
    eps = 1e-5 if eps is None else eps
    return call.emit("layer_norm", call.x, axes=len(shape), eps=eps, tensors=tensors)


def group_norm(call: Call, layer: nn.GroupNorm) -> Ref:
    """Lower a group norm."""
    tensors = {"weight": layer.weight, "bias": layer.bias}
    groups, eps = layer.num_groups, layer.eps
    found = call.emit("group_norm", call.x, groups=groups, eps=eps, tensors=tensors)
    if isinstance(layer, ScaledGroupNorm):
        call.builder.less_one.add(f"{found.name}.weight")
    return found


def table(function: str, *names: str) -> Rule:
    """Return the rule of an elementwise layer or function with further arguments `names`."""

    def rule(call: Call, layer: Any = None) -> Ref:
        plain = layer is not None
        parameters = {
            name: value if plain or isinstance(value, str) else call.number(value)
            for name, value in zip(names, call.given(layer, *names), strict=True)
            if value is not None
        }
        return call.emit("table", call.x, function=function, parameters=parameters)

    return rule


def clamp(**bounds: float) -> Rule:
    """Return the rule of a clamp with fixed bounds (ReLU, ReLU6)."""
    return lambda call, _=None: call.emit("table", call.x, function="clamp", parameters=bounds)


def hardtanh(call: Call, layer: Any = None) -> Any:
    """Lower a clamp whose bounds have defaults."""
    if layer is not None:
        return clamp(min=layer.min_val, max=layer.max_val)(call)
    low, high = call.get(1, "min_val", -1.0), call.get(2, "max_val", 1.0)
    return clamp(min=call.number(low), max=call.number(high))(call)


def functional_dropout(call: Call) -> Ref:
    """Lower dropout that is off in evaluation mode."""
    if call.get(2, "training", True):
        raise TraceError(f"{call.path}: dropout stays active in evaluation mode")
    return call.x


def binary(op: str) -> Rule:
    """Return the rule of a sum, difference or product of two tensors, or of one and a number."""

    def rule(call: Call) -> Ref:
        a, b = call.get(0, "input"), call.get(1, "other")
        if call.kwargs.get("alpha", 1) != 1:
            raise TraceError(f"{call.path}: alpha has no rule")
        if isinstance(a, Ref) and isinstance(b, Ref):
            return call.emit(op, a, b)
        if isinstance(a, Ref):
            return with_number(call, a, op, call.number(b))
        if op == "sub":
            return with_number(call, with_number(call, b, "mul", -1.0), "add", call.number(a))
        return with_number(call, b, op, call.number(a))

    return rule


def with_number(call: Call, x: Ref, op: str, number: float) -> Ref:
    """Lower a tensor plus, minus or times a number."""
    if op == "mul" and number > 0 and math.isfinite(number):
        return call.step("rescale", x, shape=x.shape, factor=number)
    function = {"add": "shift", "sub": "shift", "mul": "multiply"}[op]
    other = -number if op == "sub" else number
    return call.step("table", x, shape=x.shape, function=function, parameters={"other": other})


def divide(call: Call) -> Ref:
    """Lower division by a number or by a stored tensor."""
    x, divisor = call.get(0, "input"), call.get(1, "other")
    if call.kwargs.get("rounding_mode") is not None:
        raise TraceError(f"{call.path}: division with rounding has no rule")
    if not isinstance(divisor, Ref):
        return with_number(call, call.x, "mul", 1.0 / call.number(divisor))
    stored = call.builder.tensors.get(f"{divisor.name}.weight")
    if stored is None or not isinstance(x, Ref) or not bool((1 / stored).isfinite().all()):
        raise TraceError(f"{call.path}: division by a tensor has no rule, unless it is stored")
    return call.emit("mul", x, call.builder.constant(1 / stored, path=f"{call.path}.inverse"))


def power(call: Call) -> Ref:
    """Lower a power with a constant exponent."""
    exponent = call.number(call.get(1, "exponent"))
    return call.emit("table", call.x, function="pow", parameters={"other": exponent})


def matmul(call: Call) -> Ref:
    """Lower a product of two activations."""
    return call.emit("matmul", call.x, call.get(1, "other", call.kwargs.get("mat2")))


def mean(call: Call) -> Ref:
    """Lower a mean over axes."""
    rank, dims = len(call.x.shape), call.get(1, "dim")
    dims = sorted(d % rank for d in (dims if isinstance(dims, tuple | list) else [dims]))
    return call.emit("mean", call.x, dims=dims, keepdim=bool(call.get(2, "keepdim", False)))


LOOKUPS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.GELU: ("gelu", "approximate"),
    nn.SiLU: ("silu",),
    nn.Sigmoid: ("sigmoid",),
    nn.Tanh: ("tanh",),
    nn.Hardswish: ("hardswish",),
    nn.Hardsigmoid: ("hardsigmoid",),
    nn.LeakyReLU: ("leaky_relu", "negative_slope"),
    nn.ELU: ("elu", "alpha"),
    nn.SELU: ("selu",),
    nn.Softplus: ("softplus", "beta", "threshold"),
    nn.Mish: ("mish",),
}
"""Elementwise layers: the function's name, and what it takes besides the input."""

MODULE_RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), convolution),
    nn.Linear: linear,
    nn.modules.linear.NonDynamicallyQuantizableLinear: linear,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), batch_norm),
    ScaledBatchNorm2d: batch_norm,
    Normalize: normalize,
    nn.LayerNorm: layer_norm,
    **dict.fromkeys((nn.GroupNorm, ScaledGroupNorm), group_norm),
    nn.ReLU: clamp(min=0.0),
    nn.ReLU6: clamp(min=0.0, max=6.0),
    nn.Hardtanh: hardtanh,
    **{layer: table(*lookup) for layer, lookup in LOOKUPS.items()},
    nn.Softmax: softmax,
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d), max_pool),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d), avg_pool),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), adaptive(largest=False)),
    nn.AdaptiveMaxPool2d: adaptive(largest=True),
    **dict.fromkeys((nn.Flatten, nn.Unflatten), lambda call, _: reshaping.reshape(call)),
    nn.ZeroPad2d: lambda call, layer: call.emit("pad", call.x, padding=list(layer.padding)),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity), lambda call, _: call.x),
    nn.MultiheadAttention: multihead_attention,
    nn.TransformerEncoderLayer: encoder_layer,
    nn.TransformerEncoder: encoder,
}
"""Rule of each layer class; subclasses are traced into."""

FUNCTION_RULES: dict[str, Rule] = {
    "relu": clamp(min=0.0),
    "relu6": clamp(min=0.0, max=6.0),
    "hardtanh": hardtanh,
    **dict.fromkeys(("clamp", "clip"), table("clamp", "min", "max")),
    **{name: table(name, *names) for name, *names in LOOKUPS.values()},
    **{name: table(name) for name in ("exp", "abs", "square", "sqrt")},
    "pow": power,
    "neg": lambda call: with_number(call, call.x, "mul", -1.0),
    **{op: binary(op) for op in ("add", "sub", "mul")},
    **dict.fromkeys(("div", "truediv"), divide),
    **dict.fromkeys(("cat", "concat"), reshaping.concat),
    **dict.fromkeys(("matmul", "bmm"), matmul),
    "mean": mean,
    "softmax": softmax,
    **dict.fromkeys(
        ("flatten", "reshape", "view", "squeeze", "unsqueeze", "unflatten"), reshaping.reshape
    ),
    **dict.fromkeys(("expand", "expand_as"), reshaping.expand),
    **dict.fromkeys(("transpose", "swapaxes"), reshaping.transpose),
    **dict.fromkeys(("chunk", "split"), reshaping.split),
    "getitem": reshaping.getitem,
    "pad": reshaping.pad,
    "permute": reshaping.permute,
    "repeat": reshaping.repeat,
    "roll": reshaping.roll,
    "stack": reshaping.stack,
    "unbind": reshaping.unbind,
    **dict.fromkeys(("max_pool1d", "max_pool2d"), max_pool),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), avg_pool),
    "adaptive_avg_pool2d": adaptive(largest=False),
    "adaptive_max_pool2d": adaptive(largest=True),
    "dropout": functional_dropout,
    **dict.fromkeys(("contiguous", "clone", "detach", "float"), lambda call: call.x),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution),
    "linear": linear,
    "layer_norm": layer_norm,
    "scaled_dot_product_attention": scaled_dot_product_attention,
}
"""Rule of each function, method or operator, by name; in-place forms share it."""
