"""What is folded into the layer before it: norms, and biases and factors in nodes of their own."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bitproof.exchange.onnx_file import Array, OnnxNode
from bitproof.exchange.qdq.operands import Operands, as_array
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.values import KnownWords, Unrounded, Value, numbers
from bitproof.quant.grid import CodedTensor

LAYERS = frozenset({"conv", "linear"})


def batch_norm(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Fold a norm into the layer before it."""
    if int(node.attrs.get("training_mode", 0)):
        reader.refuse(node, "no form for training_mode")
    parts = [None if one is None else numbers(one) for one in operands[1:5]]
    if len(parts) < 4 or any(one is None for one in parts):
        reader.refuse(node, "wanted parameters that are constants")
    scale, shift, mean, var = (np.asarray(one, np.float64) for one in parts)
    factor = scale / np.sqrt(var + float(node.attrs.get("epsilon", 1e-5)))
    return folded(reader, node, operands[0], factor, shift - mean * factor)


def on_layer(reader: Reader, node: OnnxNode, value: Unrounded, constant: Array) -> Value:
    """Return a layer with a bias or a factor that comes in a node of its own."""
    rank = len(value.shape)
    channels = 1 if value.op == "conv" else rank - 1
    padded = (1,) * (rank - constant.ndim) + tuple(constant.shape)
    if any(size != 1 and at != channels for at, size in enumerate(padded)) or rank < constant.ndim:
        reader.refuse(node, f"reads {value.label}, whose output is not quantized")
    flat = constant.astype(np.float64).reshape(-1)
    if node.op == "Mul":
        return folded(reader, node, value, flat, np.zeros(1))
    return folded(reader, node, value, np.ones(1), -flat if node.op == "Sub" else flat)


def folded(
    reader: Reader, node: OnnxNode, value: Value | None, factor: Array, summand: Array
) -> Value:
    """Return a layer whose outputs are multiplied and moved, channel by channel."""
    foldable = (
        isinstance(value, Unrounded) and value.op in LAYERS and not (value.moves or value.tail)
    )
    if not foldable or not isinstance(value, Unrounded) or value.clamp != (None, None):
        reader.refuse(node, "wanted a layer right before it, to be folded into")
    assert value.weight is not None
    filters = len(value.weight.coded.codes)
    if max(factor.size, summand.size) not in {1, filters}:
        reader.refuse(node, f"wanted {filters} channels, got {max(factor.size, summand.size)}")
    if (factor == 1).all() and value.bias is None:
        return replace(value, bias=as_array(np.broadcast_to(summand.reshape(-1), (filters,))))
    bias: Any = 0.0 if value.bias is None else value.bias
    if isinstance(bias, KnownWords):
        bias = bias.coded.values()
    bias = torch.as_tensor(bias).double() * as_array(factor.reshape(-1).astype(np.float64))
    bias = (bias + as_array(summand.reshape(-1).astype(np.float64))).expand(filters)
    weight = value.weight
    if (factor != 1).any():
        weight = scaled(reader, node, weight, factor)
    return replace(value, weight=weight, bias=bias.contiguous())


def scaled(reader: Reader, node: OnnxNode, weight: KnownWords, factor: Array) -> KnownWords:
    """Return the weights of filters times a factor each: other steps, words turned where negative.

    With `w = s (c - z)`, `-w = s ((l + h - c) - (l + h - z))` for words from l to h.
    """
    coded, grid = weight.coded, weight.coded.grid
    factors = as_array(np.broadcast_to(factor.reshape(-1).astype(np.float64), (len(coded.codes),)))
    if not bool((factors.isfinite() & (factors != 0)).all()):
        reader.refuse(node, "wanted finite factors other than 0 for the weights before it")
    scale = grid.scale.double().expand(len(coded.codes)) * factors.abs()
    point = grid.zero_point.expand(len(coded.codes))
    negative, ends = factors < 0, grid.low + grid.high
    shape = [-1] + [1] * (coded.codes.ndim - 1)
    codes = coded.codes.to(torch.int64)
    codes = torch.where(negative.reshape(shape), ends - codes, codes).to(grid.dtype)
    point = torch.where(negative, ends - point, point).to(torch.int32)
    found = replace(grid, scale=scale.float(), zero_point=point.contiguous(), axis=0)
    return KnownWords(CodedTensor(codes, found), f"{weight.key} {node.outputs[0]}")
