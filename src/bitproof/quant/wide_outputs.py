"""Outputs that stay real: what follows the last accumulators of a network, up to its end.

Model:  the last sums of products become real logits by one float32 multiplication and never words.
        What only moves, selects or scales them afterwards works on these logits, as do a sigmoid
        and a softmax at the end, so that outputs do not tie on a grid of 8 bits. Both are computed
        in float64 from one exponential made of IEEE products and sums alone, and rounded to
        float32: bits are the same on every machine, which `exp` of a library does not promise.
"""

import math
from collections.abc import Container

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bitproof.quant.floats import MOVES
from bitproof.quant.graph import Graph, Node
from bitproof.quant.operations import MAC_OPS, MOVING_OPS

LN2_HIGH, LN2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
"""The logarithm of 2 in two parts, the first short enough for exact products with exponents."""
TERMS = 14
"""Of the series of the exponential on half a logarithm of 2 to either side: beyond float64."""
LOGARITHM_TERMS = 12
"""Of the series of the logarithm at ratios of up to 0.18: beyond float64."""
FIXED_ONE = 1 << 40
"""What `exp(0)` is in a softmax: its sum is one of integers, in any order."""


def wide_outputs(graph: Graph) -> frozenset[str]:
    """Return the nodes whose outputs are real, not words: the last accumulators and what follows.

    There are none where something else than a multiply-accumulate node without a clamp, movements,
    a sigmoid and a softmax makes the output, or where such a node is read from elsewhere as well.
    """
    nodes, users = {node.name: node for node in graph.nodes}, graph.users()
    found: list[str] = []
    node = graph.nodes[-1]
    while can_be_wide(node) and len(users[node.name]) <= 1:
        found.append(node.name)
        if node.op in MAC_OPS:
            return frozenset(found)
        node = nodes[node.inputs[0]]
    return frozenset()


def can_be_wide(node: Node) -> bool:
    """Tell whether a node can give real outputs."""
    if node.op in MAC_OPS:
        return "clamp" not in node.attrs
    return (
        node.op in MOVING_OPS | {"softmax", "log_softmax"}
        or node.attrs.get("function") == "sigmoid"
    )


def reads_wide(node: Node, grids: Container[str]) -> bool:
    """Tell whether what a node reads is real, given the nodes that have a grid."""
    return bool(node.inputs) and node.inputs[0] not in grids


def real_op(node: Node, logits: Float[Tensor, "*shape"], n: int) -> Float[Tensor, "..."]:
    """Return the output of a node that reads real values, `n` images."""
    if node.op in MOVING_OPS:
        moved = MOVES[node.op](logits, node.attrs, n)
        return moved * node.attrs["factor"] if "factor" in node.attrs else moved
    values = logits.double()
    if node.op == "softmax":
        dim = node.attrs["dim"]
        powers = (exponential(values - values.amax(dim, keepdim=True)) * FIXED_ONE).round()
        return (powers / powers.long().sum(dim, keepdim=True)).float()
    if node.op == "log_softmax":
        return _log_softmax(values, node.attrs["dim"])
    power = exponential(-values.abs())
    return (torch.where(values < 0, power, torch.ones_like(power)) / (power + 1)).float()


def _log_softmax(values: Tensor, dim: int) -> Tensor:
    away = values - values.amax(dim, keepdim=True)
    powers = (exponential(away) * FIXED_ONE).round().long()
    return (away - logarithm(powers.sum(dim, keepdim=True).double() / FIXED_ONE)).float()


def logarithm(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """Return `log(x)` for positive `x`, the same bits on every machine.

    Example:
        >>> logarithm(torch.tensor([1.0, 2.0], dtype=torch.float64)).tolist()
        [0.0, 0.6931471805599453]
    """
    mantissa, exponent = torch.frexp(x)
    low = mantissa < math.sqrt(0.5)
    mantissa, exponent = torch.where(low, 2 * mantissa, mantissa), exponent - low.int()
    # log m = 2 atanh((m - 1) / (m + 1)); m lies around 1.
    ratio = (mantissa - 1) / (mantissa + 1)
    square, series = ratio * ratio, torch.zeros_like(ratio)
    for term in reversed(range(LOGARITHM_TERMS)):
        series = series * square + 1 / (2 * term + 1)
    return exponent.double() * LN2_HIGH + (exponent.double() * LN2_LOW + 2 * ratio * series)


def exponential(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """Return `exp(x)` for `x <= 0`, the same bits on every machine.

    Example:
        >>> exponential(torch.tensor([0.0, -1.0], dtype=torch.float64)).tolist()
        [1.0, 0.36787944117144233]
    """
    x = x.clamp(min=-708.0)  # below, results would not be normal numbers
    exponent = (x * (1 / math.log(2))).round()
    rest = x - exponent * LN2_HIGH - exponent * LN2_LOW
    series = torch.zeros_like(rest)
    for term in reversed(range(TERMS)):
        series = series * rest + 1 / math.factorial(term)
    return series * ((exponent.long() + 1023) << 52).view(torch.float64)
