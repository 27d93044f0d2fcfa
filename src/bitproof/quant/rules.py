"""Rules that turn one traced call into nodes of the graph.

To support another layer, add a rule here: it gets the call and returns the `Ref` of the result.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitproof.core.errors import TraceError
from bitproof.models.normalize import Normalize
from bitproof.quant.attention import (
    encoder_layer,
    multihead_attention,
    scaled_dot_product_attention,
    softmax_of,
)
from bitproof.quant.builder import Call, Ref

ModuleRule = Callable[[Call, Any], Any]
FunctionRule = Callable[[Call], Any]


def convolution(call: Call, layer: Any) -> Ref:
    """Lower Conv1d, Conv2d or Conv3d."""
    if layer.padding_mode != "zeros":
        raise TraceError(f"{call.path}: wanted padding with zeros, got '{layer.padding_mode}'")
    x, padding = call.x, layer.padding
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        if any(size % 2 for size in total):
            raise TraceError(f"{call.path}: padding='same' needs odd kernels here")
        padding = [size // 2 for size in total]
    return call.emit(
        "conv",
        x,
        stride=list(layer.stride),
        padding=[0] * len(layer.stride) if padding == "valid" else list(padding),
        dilation=list(layer.dilation),
        groups=layer.groups,
        tensors={"weight": layer.weight, "bias": layer.bias},
    )


def linear(call: Call, layer: nn.Linear) -> Ref:
    """Lower a linear layer."""
    return call.emit("linear", call.x, tensors={"weight": layer.weight, "bias": layer.bias})


def batch_norm(call: Call, layer: Any) -> Ref:
    """Lower a batch norm in evaluation mode: a scale and a shift per channel."""
    if layer.running_mean is None:
        raise TraceError(f"{call.path}: wanted a batch norm with running statistics, got none")
    factor = torch.rsqrt(layer.running_var.double() + layer.eps)
    factor = factor if layer.weight is None else factor * layer.weight.double()
    shift = -layer.running_mean.double() * factor
    shift = shift if layer.bias is None else shift + layer.bias.double()
    return call.emit("affine", call.x, tensors={"weight": factor, "bias": shift})


def normalize(call: Call, layer: Normalize) -> Ref:
    """Lower the model's own normalisation of the input."""
    mean, std = layer.mean.double().flatten(), layer.std.double().flatten()
    return call.emit("affine", call.x, tensors={"weight": 1 / std, "bias": -mean / std})


def layer_norm(call: Call, layer: nn.LayerNorm) -> Ref:
    """Lower a layer norm."""
    return call.emit(
        "layer_norm",
        call.x,
        axes=len(layer.normalized_shape),
        eps=layer.eps,
        tensors={"weight": layer.weight, "bias": layer.bias},
    )


def group_norm(call: Call, layer: nn.GroupNorm) -> Ref:
    """Lower a group norm."""
    return call.emit(
        "group_norm",
        call.x,
        groups=layer.num_groups,
        eps=layer.eps,
        tensors={"weight": layer.weight, "bias": layer.bias},
    )


def table(function: str, *names: str) -> FunctionRule:
    """Return the rule of an elementwise function whose further arguments are `names`."""

    def rule(call: Call) -> Ref:
        values = {name: call.get(i + 1, name) for i, name in enumerate(names)}
        given = {name: value for name, value in values.items() if value is not None}
        return call.emit("table", call.x, function=function, parameters=given)

    return rule


def table_layer(function: str, *names: str) -> ModuleRule:
    """Return the rule of an elementwise layer whose parameters are the attributes `names`."""

    def rule(call: Call, layer: Any) -> Ref:
        given = {name: getattr(layer, name) for name in names}
        return call.emit("table", call.x, function=function, parameters=given)

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


def passes(call: Call) -> Ref:
    """Lower what does nothing in evaluation mode."""
    return call.x


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


def permute(call: Call) -> Ref:
    """Lower a reordering of axes."""
    dims = call.get(1, "dims")
    order = (
        list(dims) if isinstance(dims, list) else [call.args[i] for i in range(1, len(call.args))]
    )
    return call.emit("permute", call.x, dims=[d % len(call.x.shape) for d in order])


def transpose(call: Call) -> Ref:
    """Lower a swap of two axes."""
    rank = len(call.x.shape)
    a, b = call.get(1, "dim0") % rank, call.get(2, "dim1") % rank
    order = list(range(rank))
    order[a], order[b] = order[b], order[a]
    return call.emit("permute", call.x, dims=order)


def getitem(call: Call) -> Any:
    """Lower indexing by integers and slices; of a list of results, pick one."""
    if isinstance(call.args[0], list):
        return call.args[0][call.args[1]]
    index = call.args[1] if isinstance(call.args[1], list) else [call.args[1]]
    if any(isinstance(i, Ref) for i in index):
        raise TraceError(f"{call.path}: indexing by a tensor has no rule")
    rank = len(call.x.shape)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        filled = rank - sum(i is not None for i in index) + 1
        index = [*index[:at], *[slice(None)] * filled, *index[at + 1 :]]
    plain: list[Any] = [_cut(i) for i in index if i is not None]
    cut = call.step("slice", call.x, shape=(), index=plain)
    if None not in index:
        return Ref(cut.name, tuple(call.value.shape))
    return call.emit("reshape", cut, shape=call.shape)


def _cut(index: Any) -> Any:
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


def pad(call: Call) -> Ref:
    """Lower padding with zeros."""
    mode, value = call.get(2, "mode", "constant"), call.get(3, "value") or 0
    if mode != "constant" or value != 0:
        raise TraceError(f"{call.path}: wanted padding with zeros, got {mode} {value}")
    return call.emit("pad", call.x, padding=list(call.get(1, "pad")))


def zero_pad(call: Call, layer: Any) -> Ref:
    """Lower ZeroPad2d and its kin."""
    return call.emit("pad", call.x, padding=list(layer.padding))


def binary(op: str) -> FunctionRule:
    """Return the rule of a sum, difference or product of two tensors, or of one and a number."""

    def rule(call: Call) -> Ref:
        a, b = call.get(0, "input"), call.get(1, "other")
        if call.kwargs.get("alpha", 1) != 1:
            raise TraceError(f"{call.path}: alpha has no rule")
        if isinstance(a, Ref) and isinstance(b, Ref):
            return call.emit(op, a, b)
        if isinstance(a, Ref):
            return with_number(call, a, op, float(b))
        if op == "sub":
            return with_number(call, with_number(call, b, "mul", -1.0), "add", float(a))
        return with_number(call, b, op, float(a))

    return rule


def with_number(call: Call, x: Ref, op: str, number: float) -> Ref:
    """Lower a tensor plus, minus or times a number."""
    if op == "mul" and number > 0 and math.isfinite(number):
        return call.step("rescale", x, shape=x.shape, factor=number)
    function = {"add": "shift", "sub": "shift", "mul": "multiply"}[op]
    other = -number if op == "sub" else number
    return call.step("table", x, shape=x.shape, function=function, parameters={"other": other})


def divide(call: Call) -> Ref:
    """Lower division by a number."""
    divisor = call.get(1, "other")
    if isinstance(divisor, Ref) or not isinstance(call.get(0, "input"), Ref):
        raise TraceError(f"{call.path}: division by a tensor has no rule")
    return with_number(call, call.x, "mul", 1.0 / float(divisor))


def negate(call: Call) -> Ref:
    """Lower a change of sign."""
    return with_number(call, call.x, "mul", -1.0)


def power(call: Call) -> Ref:
    """Lower a power with a constant exponent."""
    exponent = float(call.get(1, "exponent"))
    return call.emit("table", call.x, function="pow", parameters={"other": exponent})


def concat(call: Call) -> Ref:
    """Lower concatenation."""
    parts = call.get(0, "tensors")
    return call.emit("concat", *parts, dim=call.get(1, "dim", 0) % len(parts[0].shape))


def stack(call: Call) -> Ref:
    """Lower stacking: a new axis for each part, then concatenation."""
    parts, dim = call.get(0, "tensors"), call.get(1, "dim", 0) % len(call.shape)
    shape = list(call.shape)
    shape[dim] = 1
    grown = [call.step("reshape", part, shape=tuple(part.shape), to=shape) for part in parts]
    return call.emit("concat", *grown, dim=dim)


def matmul(call: Call) -> Ref:
    """Lower a product of two activations."""
    b = call.get(1, "other", call.kwargs.get("mat2"))
    return call.emit("matmul", call.x, b)


def mean(call: Call) -> Ref:
    """Lower a mean over axes."""
    rank, dims = len(call.x.shape), call.get(1, "dim")
    if dims is None:
        raise TraceError(f"{call.path}: a mean over the batch has no rule")
    dims = dims if isinstance(dims, list) else [dims]
    dims = sorted(d % rank for d in dims)
    return call.emit("mean", call.x, dims=dims, keepdim=bool(call.get(2, "keepdim", False)))


def softmax(call: Call) -> Ref:
    """Lower a softmax."""
    return softmax_of(call, call.x, call.get(1, "dim", -1))


def pool_sizes(call: Call, kernel: Any, stride: Any, padding: Any) -> dict[str, list[int]]:
    """Return kernel, stride and padding as lists, one entry per spatial axis."""
    rank = len(call.x.shape) - 2
    kernel = _each(kernel, rank)
    return {
        "kernel": kernel,
        "stride": kernel if stride in (None, []) else _each(stride, rank),
        "padding": _each(padding, rank),
    }


def _each(value: Any, rank: int) -> list[int]:
    return list(value) if isinstance(value, tuple | list) else [int(value)] * rank


def max_pool_with(
    call: Call, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: Any
) -> Ref:
    """Lower a maximum over windows."""
    sizes = pool_sizes(call, kernel, stride, padding)
    dilation = _each(dilation, len(sizes["kernel"]))
    return call.emit("max_pool", call.x, **sizes, dilation=dilation, ceil_mode=bool(ceil))


def max_pool(call: Call) -> Ref:
    """Lower the max-pooling function."""
    g = call.get
    return max_pool_with(
        call,
        g(1, "kernel_size"),
        g(2, "stride"),
        g(3, "padding", 0),
        g(4, "dilation", 1),
        g(5, "ceil_mode", False),
    )


def max_pool_layer(call: Call, layer: Any) -> Ref:
    """Lower a max-pooling layer."""
    return max_pool_with(
        call, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode
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
    padded = any(_each(layer.padding, 1))
    plain = not layer.ceil_mode and (layer.count_include_pad or not padded)
    plain = plain and getattr(layer, "divisor_override", None) is None
    return avg_pool_with(call, layer.kernel_size, layer.stride, layer.padding, plain=bool(plain))


def adaptive_pool_to(call: Call, size: Any, *, largest: bool) -> Ref:
    """Lower adaptive pooling whose windows are all of one size."""
    spatial = call.x.shape[2:]
    wanted = _each(size, len(spatial)) if size is not None else list(spatial)
    wanted = [w if w is not None else s for w, s in zip(wanted, spatial, strict=True)]
    if any(s % w for s, w in zip(spatial, wanted, strict=True)):
        raise TraceError(
            f"{call.path}: adaptive pooling of {tuple(spatial)} to {tuple(wanted)} is uneven"
        )
    kernel = [s // w for s, w in zip(spatial, wanted, strict=True)]
    if largest:
        return max_pool_with(call, kernel, kernel, 0, 1, ceil=False)
    if all(w == 1 for w in wanted):
        return call.emit("mean", call.x, dims=list(range(2, 2 + len(spatial))), keepdim=True)
    return avg_pool_with(call, kernel, kernel, 0, plain=True)


def adaptive(*, largest: bool) -> FunctionRule:
    """Return the rule of an adaptive pooling function."""
    return lambda call: adaptive_pool_to(call, call.get(1, "output_size"), largest=largest)


def adaptive_layer(*, largest: bool) -> ModuleRule:
    """Return the rule of an adaptive pooling layer."""
    return lambda call, layer: adaptive_pool_to(call, layer.output_size, largest=largest)


def functional_linear(call: Call) -> Ref:
    """Lower the linear function, whose weight is a stored tensor."""
    weight, bias = call.get(1, "weight"), call.get(2, "bias")
    return call.emit("linear", call.x, tensors=_stored(call, weight=weight, bias=bias))


def _stored(call: Call, **refs: Ref | None) -> dict[str, Tensor | None]:
    tensors: dict[str, Tensor | None] = {}
    for key, ref in refs.items():
        stored = None if ref is None else call.builder.tensors.get(f"{ref.name}.weight")
        if ref is not None and stored is None:
            raise TraceError(f"{call.path}: wanted a stored {key}, got one that is computed")
        tensors[key] = stored
    return tensors


def functional_layer_norm(call: Call) -> Ref:
    """Lower the layer-norm function, whose weight and bias are stored tensors."""
    tensors = _stored(call, weight=call.get(2, "weight"), bias=call.get(3, "bias"))
    axes, eps = len(call.get(1, "normalized_shape")), call.get(4, "eps", 1e-5)
    return call.emit("layer_norm", call.x, axes=axes, eps=eps, tensors=tensors)


MODULE_RULES: dict[type[nn.Module], ModuleRule] = {
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
    nn.Linear: linear,
    nn.modules.linear.NonDynamicallyQuantizableLinear: linear,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.BatchNorm3d: batch_norm,
    Normalize: normalize,
    nn.LayerNorm: layer_norm,
    nn.GroupNorm: group_norm,
    nn.ReLU: lambda call, _: clamp(0.0, None)(call),
    nn.ReLU6: lambda call, _: clamp(0.0, 6.0)(call),
    nn.Hardtanh: hardtanh,
    nn.GELU: table_layer("gelu", "approximate"),
    nn.SiLU: table_layer("silu"),
    nn.Sigmoid: table_layer("sigmoid"),
    nn.Tanh: table_layer("tanh"),
    nn.Hardswish: table_layer("hardswish"),
    nn.Hardsigmoid: table_layer("hardsigmoid"),
    nn.LeakyReLU: table_layer("leaky_relu", "negative_slope"),
    nn.ELU: table_layer("elu", "alpha"),
    nn.SELU: table_layer("selu"),
    nn.Softplus: table_layer("softplus", "beta", "threshold"),
    nn.Mish: table_layer("mish"),
    nn.Softmax: lambda call, layer: softmax_of(call, call.x, layer.dim),
    nn.MaxPool1d: max_pool_layer,
    nn.MaxPool2d: max_pool_layer,
    nn.AvgPool1d: avg_pool_layer,
    nn.AvgPool2d: avg_pool_layer,
    nn.AdaptiveAvgPool1d: adaptive_layer(largest=False),
    nn.AdaptiveAvgPool2d: adaptive_layer(largest=False),
    nn.AdaptiveMaxPool2d: adaptive_layer(largest=True),
    nn.Flatten: lambda call, _: reshape(call),
    nn.Unflatten: lambda call, _: reshape(call),
    nn.ZeroPad2d: zero_pad,
    nn.Dropout: lambda call, _: passes(call),
    nn.Dropout1d: lambda call, _: passes(call),
    nn.Dropout2d: lambda call, _: passes(call),
    nn.Identity: lambda call, _: passes(call),
    nn.MultiheadAttention: multihead_attention,
    nn.TransformerEncoderLayer: encoder_layer,
}
"""Rule of each layer class; subclasses are traced into."""

FUNCTION_RULES: dict[str, FunctionRule] = {
    "relu": clamp(0.0, None),
    "relu6": clamp(0.0, 6.0),
    "hardtanh": table("clamp", "min", "max"),
    "clamp": table("clamp", "min", "max"),
    "clip": table("clamp", "min", "max"),
    "gelu": table("gelu", "approximate"),
    "silu": table("silu"),
    "sigmoid": table("sigmoid"),
    "tanh": table("tanh"),
    "hardswish": table("hardswish"),
    "hardsigmoid": table("hardsigmoid"),
    "leaky_relu": table("leaky_relu", "negative_slope"),
    "elu": table("elu", "alpha"),
    "softplus": table("softplus", "beta", "threshold"),
    "mish": table("mish"),
    "exp": table("exp"),
    "abs": table("abs"),
    "square": table("square"),
    "sqrt": table("sqrt"),
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
    "flatten": reshape,
    "reshape": reshape,
    "view": reshape,
    "squeeze": reshape,
    "unsqueeze": reshape,
    "unflatten": reshape,
    "expand": expand,
    "expand_as": expand,
    "permute": permute,
    "transpose": transpose,
    "swapaxes": transpose,
    "getitem": getitem,
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
    "dropout": passes,
    "contiguous": passes,
    "clone": passes,
    "detach": passes,
    "float": passes,
    "linear": functional_linear,
    "layer_norm": functional_layer_norm,
    "scaled_dot_product_attention": scaled_dot_product_attention,
}
"""Rule of each function, method or operator, by name; in-place forms share it."""
