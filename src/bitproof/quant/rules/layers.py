"""Rules for what multiplies with stored weights: convolutions, linear layers, embeddings."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref
from bitproof.quant.rules.padding import pad_by
from bitproof.quant.rules.pooling import each_axis

MOVES = ("weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED = ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")


def stored(call: Call, **given: Ref | Tensor | None) -> dict[str, Tensor | None]:
    """Return the tensors of a layer, or those that a function reads from the model."""
    tensors: dict[str, Tensor | None] = {}
    for key, one in given.items():
        tensors[key] = one.value if isinstance(one, Ref) else one
        if isinstance(one, Ref) and one.value is None:
            raise TraceError(f"{call.path}: no rule for a {key} that is computed from the input")
    return tensors


def convolution(call: Call, layer: Any = None) -> Ref:
    """Lower a convolution over one to three axes."""
    weight, bias, stride, padding, dilation, groups = call.given(layer, *MOVES)
    tensors = stored(call, weight=weight, bias=bias)
    kernel = _kernel(tensors)
    rank = len(kernel)
    stride, dilation = each_axis(stride or 1, rank), each_axis(dilation or 1, rank)
    x, mode = call.x, getattr(layer, "padding_mode", "zeros")
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        around = [(size // 2, size - size // 2) for size in total]
    else:
        sizes = [0] * rank if padding == "valid" else each_axis(padding or 0, rank)
        around = [(size, size) for size in sizes]
    if mode != "zeros" or any(left != right for left, right in around):
        x = pad_by(call.at("padding"), x, around, mode="constant" if mode == "zeros" else mode)
        around = [(0, 0)] * rank
    moves = {"stride": stride, "padding": [left for left, _ in around], "dilation": dilation}
    return call.emit("conv", x, **moves, groups=groups or 1, tensors=tensors)


def general_convolution(call: Call) -> Ref:
    """Lower `aten.convolution`, which may be transposed."""
    names = (*MOVES[:-1], "transposed", "output_padding", "groups")
    weight, bias, stride, padding, dilation, transposed, output_padding, groups = (
        call.get(place, name) for place, name in enumerate(names, 1)
    )
    moves = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    named = {"weight": weight, "bias": bias, **moves}
    if transposed:
        named["output_padding"] = output_padding
    inner = Call((call.x,), named, call.value, call.shape, call.path, call.builder)
    return transposed_convolution(inner) if transposed else convolution(inner)


def transposed_convolution(call: Call, layer: Any = None) -> Ref:
    """Lower a transposed convolution: zeros between the words, then a convolution.

    The kernel is turned around; its words are those of the model, in another order.
    """
    names = TRANSPOSED if layer is None else (*TRANSPOSED[:4], "output_padding", *TRANSPOSED[5:])
    weight, bias, stride, padding, extra, groups, dilation = call.given(layer, *names)
    tensors = stored(call, weight=weight, bias=bias)
    kernel = _kernel(tensors)
    rank, groups = len(kernel), groups or 1
    stride, padding, extra, dilation = (
        each_axis(value or neutral, rank)
        for value, neutral in ((stride, 1), (padding, 0), (extra, 0), (dilation, 1))
    )
    x = spread(call.at("zeros"), call.x, stride)
    reach = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    around = [(size, size + more) for size, more in zip(reach, extra, strict=True)]
    same = all(left == right >= 0 for left, right in around)
    if not same:
        x = pad_by(call.at("padding"), x, around)
    origin = tuple(tensors.values())
    tensors["weight"] = turned(origin[0], groups)  # type: ignore[arg-type]
    moves = {"stride": [1] * rank, "dilation": dilation}
    moves["padding"] = [left if same else 0 for left, _ in around]
    return call.emit("conv", x, **moves, groups=groups, tensors=tensors, origin=origin)


def turned(weight: Tensor, groups: int) -> Tensor:
    """Return the kernel `(out, in / groups, ...)` that does what a transposed one does."""
    inputs, outputs, *kernel = weight.shape
    apart = weight.reshape(groups, inputs // groups, outputs, *kernel).transpose(1, 2)
    together = apart.reshape(groups * outputs, inputs // groups, *kernel)
    return together.flip(list(range(2, together.ndim)))


def spread(call: Call, x: Ref, factors: Sequence[int]) -> Ref:
    """Append zeros between the words along the last axes."""
    if all(factor == 1 for factor in factors):
        return x
    lead = len(x.shape) - len(factors)
    sizes = zip(x.shape[lead:], factors, strict=True)
    shape = [*x.shape[:lead], *((size - 1) * factor + 1 for size, factor in sizes)]
    return call.step("spread", x, shape=shape, factors=list(factors))


def _kernel(tensors: dict[str, Tensor | None]) -> torch.Size:
    weight = tensors["weight"]
    assert weight is not None
    return weight.shape[2:]


def linear(call: Call, layer: Any = None) -> Ref:
    """Lower a linear layer."""
    weight, bias = call.given(layer, "weight", "bias")
    tensors = stored(call, weight=weight, bias=bias)
    return _linear(call, call.x, tensors["weight"], tensors["bias"])


def _linear(call: Call, x: Ref, weight: Tensor | None, bias: Tensor | None) -> Ref:
    """Append a linear layer; the words of a weight that is in use already are not stored again."""
    assert weight is not None
    if bias is None or not call.builder.is_stored(weight):
        return call.emit("linear", x, tensors={"weight": weight, "bias": bias})
    sums = call.emit("linear", x, tensors={"weight": weight})
    return call.emit("add", sums, call.builder.constant(bias, path=f"{call.path}.bias"))


def matmul(call: Call) -> Ref:
    """Lower a matrix product: of two activations, or with a stored matrix."""
    a, b = call.x, call.get(1, "other", call.kwargs.get("mat2"))
    if b.value is not None and b.value.ndim == 2:
        return _linear(call, a, b.value.t(), None)
    if len(b.shape) == 1 or len(a.shape) == 1:
        raise TraceError(f"{call.path}: wanted a product of matrices, got a vector")
    return call.emit("matmul", a, b)


def addmm(call: Call) -> Ref:
    """Lower `bias + x @ weight`."""
    bias, x, weight = (call.get(place, name) for place, name in enumerate(("self", "mat1", "mat2")))
    if call.kwargs.get("alpha", 1) != 1 or call.kwargs.get("beta", 1) != 1:
        raise TraceError(f"{call.path}: no rule for alpha or beta")
    if weight.value is None or weight.value.ndim != 2:
        raise TraceError(f"{call.path}: no rule for a weight that is computed from the input")
    if bias.value is not None and bias.value.ndim == 1:
        return _linear(call, x, weight.value.t(), bias.value)
    return call.emit("add", _linear(call, x, weight.value.t(), None), bias)


def embedding(call: Call, layer: Any = None) -> Ref:
    """Lower a table of vectors that token numbers choose from."""
    if layer is not None and layer.max_norm is not None:
        raise TraceError(f"{call.path}: no rule for an embedding with max_norm")
    weight = stored(call, weight=call.get(1, "weight") if layer is None else layer.weight)
    return call.emit("embedding", call.x, tensors=weight)


def operator_embedding(call: Call) -> Ref:
    """Lower `aten.embedding`, which gets the weight first."""
    weight, tokens = call.get(0, "weight"), call.get(1, "indices")
    return call.emit("embedding", tokens, tensors=stored(call, weight=weight))
