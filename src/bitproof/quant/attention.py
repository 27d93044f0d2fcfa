"""Rules for attention: linear maps, two products of activations and a softmax."""

from typing import Any

import torch
from torch import Tensor, nn

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref
from bitproof.quant.graph import BATCH


def softmax_of(call: Call, x: Ref, dim: int) -> Ref:
    """Lower a softmax of `x`."""
    return call.step("softmax", x, shape=x.shape, dim=dim % len(x.shape))


def scaled_dot_product_attention(call: Call) -> Ref:
    """Lower `softmax(q k^T / sqrt(d)) v`, without mask."""
    q, k, v = (call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    if call.get(3, "attn_mask") is not None or call.get(5, "is_causal", False):
        raise TraceError(f"{call.path}: attention with a mask has no rule")
    return attend(call, q, k, v, scale=call.kwargs.get("scale"))


def attend(call: Call, q: Ref, k: Ref, v: Ref, *, scale: float | None = None) -> Ref:
    """Append the nodes of scaled dot-product attention over the last two axes."""
    rank = len(k.shape)
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    turned = call.step("permute", k, shape=(*k.shape[:-2], k.shape[-1], k.shape[-2]), dims=swapped)
    scores = call.step("matmul", q, turned, shape=(*q.shape[:-1], k.shape[-2]))
    factor = scale if scale is not None else q.shape[-1] ** -0.5
    scaled = call.step("rescale", scores, shape=scores.shape, factor=float(factor))
    weights = softmax_of(call, scaled, -1)
    return call.step("matmul", weights, v, shape=(*q.shape[:-1], v.shape[-1]))


def multihead_attention(call: Call, layer: nn.MultiheadAttention) -> list[Any]:
    """Lower torch's attention layer (batch first, no masks); its weights result is not given."""
    q, k, v = (call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    masked = any(call.kwargs.get(name) is not None for name in ("key_padding_mask", "attn_mask"))
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
        _split_heads(call, _linear(call, x, weight, bias), layer.num_heads)
        for x, weight, bias in zip((q, k, v), weights, biases, strict=True)
    ]
    mixed = attend(call, *split)
    n, h, t, d = mixed.shape
    merged = call.step("permute", mixed, shape=(n, t, h, d), dims=[0, 2, 1, 3])
    merged = _reshape(call, merged, (n, t, h * d))
    return _linear(call, merged, layer.out_proj.weight, layer.out_proj.bias)


def _linear(call: Call, x: Ref, weight: Tensor, bias: Tensor | None) -> Ref:
    shape = (*x.shape[:-1], weight.shape[0])
    return call.step("linear", x, shape=shape, tensors={"weight": weight, "bias": bias})


def _split_heads(call: Call, x: Ref, count: int) -> Ref:
    n, t, d = x.shape
    apart = _reshape(call, x, (n, t, count, d // count))
    return call.step("permute", apart, shape=(n, count, t, d // count), dims=[0, 2, 1, 3])


def _reshape(call: Call, x: Ref, shape: tuple[int, ...]) -> Ref:
    to = [[BATCH, shape[0] // 2], *shape[1:]]
    return call.step("reshape", x, shape=shape, to=to)


def encoder_layer(call: Call, layer: nn.TransformerEncoderLayer) -> Ref:
    """Lower torch's encoder layer: attention and two linear layers, norms before or after."""
    if len(call.args) > 1 or any(value not in (None, False) for value in call.kwargs.values()):
        raise TraceError(f"{call.path}: encoder layers with masks have no rule")
    if not layer.self_attn.batch_first:
        raise TraceError(f"{call.path}: wanted batch_first=True")
    x = call.x
    if layer.norm_first:
        y = _norm(call, x, layer.norm1)
        x = _add(call, x, heads(call, layer.self_attn, y, y, y))
        return _add(call, x, _feed(call, _norm(call, x, layer.norm2), layer))
    x = _norm(call, _add(call, x, heads(call, layer.self_attn, x, x, x)), layer.norm1)
    return _norm(call, _add(call, x, _feed(call, x, layer)), layer.norm2)


def _add(call: Call, a: Ref, b: Ref) -> Ref:
    return call.step("add", a, b, shape=a.shape)


def _norm(call: Call, x: Ref, layer: nn.LayerNorm) -> Ref:
    tensors = {"weight": layer.weight, "bias": layer.bias}
    return call.step("layer_norm", x, shape=x.shape, axes=1, eps=layer.eps, tensors=tensors)


def _feed(call: Call, x: Ref, layer: nn.TransformerEncoderLayer) -> Ref:
    inner = _linear(call, x, layer.linear1.weight, layer.linear1.bias)
    if layer.activation in (torch.nn.functional.relu, torch.relu) or isinstance(
        layer.activation, nn.ReLU
    ):
        attrs: dict[str, Any] = {"function": "clamp", "parameters": {"min": 0.0}}
    elif layer.activation is torch.nn.functional.gelu or isinstance(layer.activation, nn.GELU):
        attrs = {"function": "gelu", "parameters": {}}
    else:
        raise TraceError(f"{call.path}: wanted ReLU or GELU inside, got {layer.activation}")
    inner = call.step("table", inner, shape=inner.shape, **attrs)
    return _linear(call, inner, layer.linear2.weight, layer.linear2.bias)
