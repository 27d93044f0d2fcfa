"""Rules for attention: linear maps, two products of activations and a softmax."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref
from bitproof.quant.rules.elementwise import of_two, with_number
from bitproof.quant.rules.masks import hide


def softmax(call: Call, layer: Any = None) -> Ref:
    """Lower a softmax over an axis that does not hold the images."""
    return _softmax(call, layer, "softmax")


def log_softmax(call: Call, layer: Any = None) -> Ref:
    """Lower the logarithm of a softmax."""
    return _softmax(call, layer, "log_softmax")


def softmin(call: Call, layer: Any = None) -> Ref:
    """Lower a softmax of the negative."""
    turned = with_number(call, call.x, "mul", -1.0)
    return _softmax(replace(call, args=(turned, *call.args[1:])), layer, "softmax")


def _softmax(call: Call, layer: Any, op: str) -> Ref:
    (dim,) = call.given(layer, "dim")
    if dim is None and len(call.x.shape) in {2, 4}:
        dim = 1  # torch's choice where none is given
    if dim is None or isinstance(call.shape[dim], list):
        raise TraceError(f"{call.path}: wanted a softmax within one image, got dim={dim}")
    return call.step(op, call.x, shape=call.x.shape, dim=dim % len(call.x.shape))


def softmax_2d(call: Call, layer: nn.Softmax2d) -> Ref:  # noqa: ARG001
    """Lower a softmax over channels."""
    return call.step("softmax", call.x, shape=call.x.shape, dim=len(call.x.shape) - 3)


def scaled_dot_product_attention(call: Call) -> Ref:
    """Lower `softmax(q k^T / sqrt(d) + mask) v`."""
    q, k, v = (call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    if call.get(4, "dropout_p", 0.0):
        raise TraceError(f"{call.path}: attention with dropout has no rule")
    if call.kwargs.get("enable_gqa", False) and k.shape[-3] != q.shape[-3]:
        times = q.shape[-3] // k.shape[-3]
        heads = [head for head in range(k.shape[-3]) for _ in range(times)]
        k, v = (call.take(one, len(one.shape) - 3, heads) for one in (k, v))
    mask = call.get(3, "attn_mask")
    if call.get(5, "is_causal", False):
        later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
        mask = Ref("", tuple(later.shape), torch.zeros(later.shape).masked_fill(later, -math.inf))
    scale = call.kwargs.get("scale")
    return attend(call, q, k, v, scale=None if scale is None else call.number(scale), mask=mask)


def attend(
    call: Call, q: Ref, k: Ref, v: Ref, *, scale: float | None = None, mask: Ref | None = None
) -> Ref:
    """Append the nodes of scaled dot-product attention over the last two axes."""
    rank = len(k.shape)
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    turned = call.step("permute", k, shape=(*k.shape[:-2], k.shape[-1], k.shape[-2]), dims=swapped)
    scores = call.step("matmul", q, turned, shape=(*q.shape[:-1], k.shape[-2]))
    factor = scale if scale is not None else q.shape[-1] ** -0.5
    if factor <= 0:
        raise TraceError(f"{call.path}: wanted a positive scale of the scores, got {factor:g}")
    scaled = call.step("rescale", scores, shape=scores.shape, factor=factor)
    if mask is not None:
        scaled = _add_mask(call, scaled, mask)
    weights = call.step("softmax", scaled, shape=scores.shape, dim=len(scores.shape) - 1)
    return call.step("matmul", weights, v, shape=(*q.shape[:-1], v.shape[-1]))


def _add_mask(call: Call, scores: Ref, mask: Ref) -> Ref:
    """Append a mask: of truth values, or of summands."""
    inner = replace(call, shape=[call.shape[0], *scores.shape[1:]])
    if mask.value is not None and mask.value.dtype == torch.bool:
        return hide(inner, scores, ~mask.value)
    return replace(of_two(inner, "add", scores, mask), shape=scores.shape)


def multihead_attention(call: Call, layer: nn.MultiheadAttention) -> list[Any]:
    """Lower torch's attention layer (batch first, no masks); its weights result is not given."""
    q, k, v = (call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    masks = (call.get(3, "key_padding_mask"), call.get(5, "attn_mask"), call.get(7, "is_causal"))
    masked = any(mask not in (None, False) for mask in masks)
    if not layer.batch_first or masked or layer.bias_k is not None or layer.add_zero_attn:
        raise TraceError(f"{call.path}: wanted batch_first attention without masks or extra tokens")
    return [heads(call, layer, q, k, v), None]


def heads(call: Call, layer: nn.MultiheadAttention, q: Ref, k: Ref, v: Ref) -> Ref:
    """Append projections, attention per head and the output map."""
    if layer.in_proj_weight is not None:
        weights: list[Tensor] = list(layer.in_proj_weight.chunk(3))
    else:
        weights = [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight]
    biases = [None] * 3 if layer.in_proj_bias is None else list(layer.in_proj_bias.chunk(3))
    split = [
        _split_heads(call, _linear(call.at(name), x, weight, bias), layer.num_heads)
        for name, x, weight, bias in zip("qkv", (q, k, v), weights, biases, strict=True)
    ]
    mixed = attend(call, *split)
    n, h, t, d = mixed.shape
    merged = call.step("permute", mixed, shape=(n, t, h, d), dims=[0, 2, 1, 3])
    merged = call.reshape(merged, (n, t, h * d))
    return _linear(call.at("out"), merged, layer.out_proj.weight, layer.out_proj.bias)


def _linear(call: Call, x: Ref, weight: Tensor, bias: Tensor | None) -> Ref:
    shape = (*x.shape[:-1], weight.shape[0])
    return call.step("linear", x, shape=shape, tensors={"weight": weight, "bias": bias})


def _split_heads(call: Call, x: Ref, count: int) -> Ref:
    n, t, d = x.shape
    apart = call.reshape(x, (n, t, count, d // count))
    return call.step("permute", apart, shape=(n, count, t, d // count), dims=[0, 2, 1, 3])


def encoder(call: Call, stack: nn.TransformerEncoder) -> Ref:
    """Lower torch's stack of encoder layers."""
    x = _unmasked(call)
    for index, layer in enumerate(stack.layers):
        if type(layer) is not nn.TransformerEncoderLayer:
            raise TraceError(f"{call.path}: no rule to quantize a {type(layer).__name__}")
        inner = replace(call.at(f"layers.{index}"), args=(x,), kwargs={})
        x = encoder_layer(inner, layer)
    return x if stack.norm is None else _norm(call.at("norm"), x, stack.norm)


def encoder_layer(call: Call, layer: nn.TransformerEncoderLayer) -> Ref:
    """Lower torch's encoder layer: attention and two linear layers, norms before or after."""
    x = _unmasked(call)
    if not layer.self_attn.batch_first:
        raise TraceError(f"{call.path}: wanted batch_first=True")
    attention, first, second = call.at("self_attn"), call.at("norm1"), call.at("norm2")
    if layer.norm_first:
        y = _norm(first, x, layer.norm1)
        x = _add(call, x, heads(attention, layer.self_attn, y, y, y))
        return _add(call, x, _feed(call, _norm(second, x, layer.norm2), layer))
    x = _norm(first, _add(call, x, heads(attention, layer.self_attn, x, x, x)), layer.norm1)
    return _norm(second, _add(call, x, _feed(call, x, layer)), layer.norm2)


def _unmasked(call: Call) -> Ref:
    """Return the input of an encoder that gets no mask."""
    others = [*call.args[1:], *(value for key, value in call.kwargs.items() if key != "src")]
    x = call.get(0, "src")
    if any(value not in (None, False) for value in others) or not isinstance(x, Ref):
        raise TraceError(f"{call.path}: wanted an encoder with one input and no masks")
    return x


def _add(call: Call, a: Ref, b: Ref) -> Ref:
    return call.step("add", a, b, shape=a.shape)


def _norm(call: Call, x: Ref, layer: Any) -> Ref:
    if not isinstance(layer, nn.LayerNorm):
        raise TraceError(f"{call.path}: wanted a LayerNorm, got {type(layer).__name__}")
    tensors = {"weight": layer.weight, "bias": layer.bias}
    return call.step("layer_norm", x, shape=x.shape, axes=1, eps=layer.eps, tensors=tensors)


def _feed(call: Call, x: Ref, layer: nn.TransformerEncoderLayer) -> Ref:
    inner = _linear(call.at("linear1"), x, layer.linear1.weight, layer.linear1.bias)
    given = layer.activation
    if given in (functional.relu, torch.relu) or isinstance(given, nn.ReLU):
        attrs: dict[str, Any] = {"function": "clamp", "parameters": {"min": 0.0}}
    elif given is functional.gelu or isinstance(given, nn.GELU):
        approximate = getattr(given, "approximate", "none")
        attrs = {"function": "gelu", "parameters": {"approximate": approximate}}
    else:
        raise TraceError(f"{call.path}: wanted ReLU or GELU inside, got {given}")
    inner = call.step("table", inner, shape=inner.shape, **attrs)
    return _linear(call.at("linear2"), inner, layer.linear2.weight, layer.linear2.bias)
