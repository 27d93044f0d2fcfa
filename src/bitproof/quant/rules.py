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
from bitproof.quant.attention import (
    encoder,
    encoder_layer,
    multihead_attention,
    scaled_dot_product_attention,
    softmax_of,
)
from bitproof.quant.builder import Call, Ref
from bitproof.quant.pooling import adaptive, avg_pool, each_axis, max_pool
from bitproof.quant.reshaping import (
    concat,
    expand,
    getitem,
    pad,
    permute,
    repeat,
    reshape,
    roll,
    split,
    stack,
    transpose,
    unbind,
    zero_pad,
)

ModuleRule = Callable[[Call, Any], Any]
FunctionRule = Callable[[Call], Any]


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
        tensors[key] = (
            call.builder.tensors.get(f"{one.name}.weight") if isinstance(one, Ref) else one
        )
        if isinstance(one, Ref) and tensors[key] is None:
            raise TraceError(f"{call.path}: wanted a stored {key}, got one that is computed")
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
    return call.emit(
        "group_norm",
        call.x,
        groups=layer.num_groups,
        eps=layer.eps,
        tensors={"weight": layer.weight, "bias": layer.bias},
    )


def table(function: str, *names: str) -> Callable[..., Ref]:
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


def clamp(low: float | None, high: float | None) -> FunctionRule:
    """Return the rule of a clamp with fixed bounds (ReLU, ReLU6)."""
    bounds = {"min": low, "max": high}

    def rule(call: Call) -> Ref:
        given = {name: value for name, value in bounds.items() if value is not None}
        return call.emit("table", call.x, function="clamp", parameters=given)

    return rule


def hardtanh(call: Call, layer: nn.Hardtanh) -> Any:
    """Lower a clamp layer."""
    return clamp(layer.min_val, layer.max_val)(call)


def functional_hardtanh(call: Call) -> Any:
    """Lower the clamp function whose bounds have defaults."""
    low, high = call.get(1, "min_val", -1.0), call.get(2, "max_val", 1.0)
    return clamp(call.number(low), call.number(high))(call)


def functional_dropout(call: Call) -> Ref:
    """Lower dropout that is off in evaluation mode."""
    if call.get(2, "training", True):
        raise TraceError(f"{call.path}: dropout stays active in evaluation mode")
    return call.x


def binary(op: str) -> FunctionRule:
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


def negate(call: Call) -> Ref:
    """Lower a change of sign."""
    return with_number(call, call.x, "mul", -1.0)


def power(call: Call) -> Ref:
    """Lower a power with a constant exponent."""
    exponent = call.number(call.get(1, "exponent"))
    return call.emit("table", call.x, function="pow", parameters={"other": exponent})


def matmul(call: Call) -> Ref:
    """Lower a product of two activations."""
    b = call.get(1, "other", call.kwargs.get("mat2"))
    return call.emit("matmul", call.x, b)


def mean(call: Call) -> Ref:
    """Lower a mean over axes."""
    rank, dims = len(call.x.shape), call.get(1, "dim")
    dims = sorted(d % rank for d in (dims if isinstance(dims, tuple | list) else [dims]))
    return call.emit("mean", call.x, dims=dims, keepdim=bool(call.get(2, "keepdim", False)))


def softmax(call: Call) -> Ref:
    """Lower a softmax."""
    return softmax_of(call, call.get(1, "dim"))


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

MODULE_RULES: dict[type[nn.Module], ModuleRule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), convolution),
    nn.Linear: linear,
    nn.modules.linear.NonDynamicallyQuantizableLinear: linear,
    **dict.fromkeys(
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, ScaledBatchNorm2d), batch_norm
    ),
    Normalize: normalize,
    nn.LayerNorm: layer_norm,
    nn.GroupNorm: group_norm,
    ScaledGroupNorm: group_norm,
    nn.ReLU: lambda call, _: clamp(0.0, None)(call),
    nn.ReLU6: lambda call, _: clamp(0.0, 6.0)(call),
    nn.Hardtanh: hardtanh,
    **{layer: table(*lookup) for layer, lookup in LOOKUPS.items()},
    nn.Softmax: lambda call, layer: softmax_of(call, layer.dim),
    nn.MaxPool1d: max_pool,
    nn.MaxPool2d: max_pool,
    nn.AvgPool1d: avg_pool,
    nn.AvgPool2d: avg_pool,
    nn.AdaptiveAvgPool1d: adaptive(largest=False),
    nn.AdaptiveAvgPool2d: adaptive(largest=False),
    nn.AdaptiveMaxPool2d: adaptive(largest=True),
    nn.Flatten: lambda call, _: reshape(call),
    nn.Unflatten: lambda call, _: reshape(call),
    nn.ZeroPad2d: zero_pad,
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity), lambda call, _: call.x),
    nn.MultiheadAttention: multihead_attention,
    nn.TransformerEncoderLayer: encoder_layer,
    nn.TransformerEncoder: encoder,
}
"""Rule of each layer class; subclasses are traced into."""

FUNCTION_RULES: dict[str, FunctionRule] = {
    "relu": clamp(0.0, None),
    "relu6": clamp(0.0, 6.0),
    "hardtanh": functional_hardtanh,
    "clamp": table("clamp", "min", "max"),
    "clip": table("clamp", "min", "max"),
    **{name: table(name, *names) for name, *names in LOOKUPS.values()},
    **{name: table(name) for name in ("exp", "abs", "square", "sqrt")},
    "pow": power,
    "neg": negate,
    "add": binary("add"),
    "sub": binary("sub"),
    "mul": binary("mul"),
    "div": divide,
    "truediv": divide,
    "cat": concat,
    "concat": concat,
    "stack": stack,
    "matmul": matmul,
    "bmm": matmul,
    "mean": mean,
    "softmax": softmax,
    **dict.fromkeys(("flatten", "reshape", "view", "squeeze", "unsqueeze", "unflatten"), reshape),
    "expand": expand,
    "expand_as": expand,
    "repeat": repeat,
    "permute": permute,
    "transpose": transpose,
    "swapaxes": transpose,
    "getitem": getitem,
    "roll": roll,
    "chunk": split,
    "split": split,
    "unbind": unbind,
    "pad": pad,
    "max_pool1d": max_pool,
    "max_pool2d": max_pool,
    "avg_pool1d": avg_pool,
    "avg_pool2d": avg_pool,
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
