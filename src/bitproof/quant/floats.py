"""Execution of a traced graph in floating point: for calibration and as a check of tracing.

The tables say what operations and functions are called; movements serve words as well as floats.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional

from bitproof.kernels.geometry import Geometry
from bitproof.quant.execution import execute
from bitproof.quant.graph import Graph, Node
from bitproof.quant.operations import MAC_OPS, NORM_OPS

Observe = Callable[[Node, Tensor], None]

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "clamp": torch.clamp,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "selu": functional.selu,
    "softplus": functional.softplus,
    "mish": functional.mish,
    "exp": torch.exp,
    "abs": torch.abs,
    "square": torch.square,
    "pow": lambda x, other: x**other,
    "sqrt": torch.sqrt,
    "multiply": torch.mul,
    "shift": torch.add,
    "celu": functional.celu,
    "softsign": functional.softsign,
    "tanhshrink": functional.tanhshrink,
    "logsigmoid": functional.logsigmoid,
    "hardshrink": functional.hardshrink,
    "softshrink": functional.softshrink,
    "threshold": functional.threshold,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "log2": torch.log2,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "sign": torch.sign,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
}
"""Elementwise functions, which a lookup table can hold; parameters are stored beside the name."""
JUMPS = frozenset({"sign", "floor", "ceil", "round", "threshold", "hardshrink"})
"""Functions that jump: the rounding of what they are called on decides on which side."""

MOVES: dict[str, Callable[[Tensor, dict[str, Any], int], Tensor]] = {
    "reshape": lambda x, attrs, n: x.reshape(concrete(attrs["shape"], n)),
    "expand": lambda x, attrs, n: x.expand(concrete(attrs["shape"], n)),
    "permute": lambda x, attrs, _: x.permute(attrs["dims"]),
    "slice": lambda x, attrs, _: x[
        tuple(slice(*i) if isinstance(i, list) else i for i in attrs["index"])
    ],
    "pad": lambda x, attrs, _: functional.pad(
        x, attrs["padding"], value=float("-inf") if attrs.get("lowest") else 0.0
    ),
    "max_pool": lambda x, attrs, _: max_pool(x, attrs),
    "take": lambda x, attrs, _: x.index_select(
        attrs["dim"], torch.tensor(attrs["index"], device=x.device)
    ),
    "spread": lambda x, attrs, _: spread(x, attrs["factors"]),
    "amax": lambda x, attrs, _: x.amax(attrs["dims"], keepdim=attrs["keepdim"]),
    "amin": lambda x, attrs, _: x.amin(attrs["dims"], keepdim=attrs["keepdim"]),
    "mask": lambda x, attrs, _: x.masked_fill(unpacked(attrs).to(x.device), float("-inf")),
    "rescale": lambda x, *_: x,  # a positive factor changes the grid, not the words
}
"""What moves or selects words, given the batch size: the same on floats, codes and centered codes.

On centered codes zero is zero, so that padding needs no zero point.
"""

PLAIN: dict[str, Callable[[list[Tensor], dict[str, Any]], Tensor]] = {
    "add": lambda xs, _: xs[0] + xs[1],
    "sub": lambda xs, _: xs[0] - xs[1],
    "mul": lambda xs, _: xs[0] * xs[1],
    "div": lambda xs, _: xs[0] / xs[1],
    "maximum": lambda xs, _: torch.maximum(*xs),
    "minimum": lambda xs, _: torch.minimum(*xs),
    "concat": lambda xs, attrs: torch.cat(xs, attrs["dim"]),
    "resample": lambda xs, attrs: resample(xs[0], attrs),
    "avg_pool": lambda xs, attrs: average_pool(xs[0], attrs),
    "mean": lambda xs, attrs: xs[0].mean(attrs["dims"], keepdim=attrs["keepdim"]),
    "requantize": lambda xs, _: xs[0],
    "softmax": lambda xs, attrs: torch.softmax(xs[0], attrs["dim"]),
    "log_softmax": lambda xs, attrs: torch.log_softmax(xs[0], attrs["dim"]),
    "table": lambda xs, attrs: elementwise(attrs)(xs[0]),
}
"""Other operations without stored tensors."""


def run_floats(
    graph: Graph, inputs: Num[Tensor, "n *features"], *, observe: Observe | None = None
) -> Float[Tensor, "n *outputs"]:
    """Return the output of `graph`, showing every node's value to `observe`."""

    def compute_op(node: Node, operands: list[Tensor]) -> Tensor:
        value = float_op(node, graph.tensors, operands, inputs)
        if observe is not None:
            observe(node, value)
        return value

    return execute(graph.nodes, compute_op)[graph.nodes[-1].name]


def float_op(
    node: Node, tensors: Mapping[str, Tensor], operands: list[Tensor], inputs: Tensor
) -> Tensor:
    """Return the value of one node."""
    if node.op == "input":
        return normalize(inputs, node.attrs)
    if node.op == "constant":
        return tensors[node.key("weight")]
    if node.op == "embedding":
        return tensors[node.key("weight")][operands[0].long()]
    if node.op in MOVES:
        factor = node.attrs.get("factor", 1.0)
        moved: Tensor = MOVES[node.op](operands[0], node.attrs, len(inputs)) * factor
        return moved
    weight, bias = tensors.get(node.key("weight")), tensors.get(node.key("bias"))
    value = compute(node, operands, weight, bias)
    low, high = node.attrs.get("clamp", (None, None))
    return value if low is None and high is None else value.clamp(low, high)


def compute(
    node: Node, operands: list[Tensor], weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Return the value of a node that computes, before its clamp, from real-valued operands."""
    if node.op in MAC_OPS:
        other = operands[1] if weight is None else weight
        return multiply_accumulate(node, operands[0], other, bias)
    if node.op in NORM_OPS:
        return standardize(node, operands[0], weight, bias)
    return PLAIN[node.op](operands, node.attrs)


def standardize(node: Node, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return a norm, or the root mean square that one divides by."""
    attrs = node.attrs
    if node.op in {"rms", "rms_norm"}:
        keepdim = attrs.get("keepdim", True)
        squares: Tensor = x.square().mean(attrs["dims"], keepdim=keepdim)
        root: Tensor = (squares + attrs["eps"]).sqrt()
        if node.op == "rms":
            return root
        return x / root if weight is None else x / root * weight
    if node.op == "group_norm":
        return functional.group_norm(x, attrs["groups"], weight, bias, attrs["eps"])
    return functional.layer_norm(x, x.shape[-attrs["axes"] :], weight, bias, attrs["eps"])


def multiply_accumulate(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return products summed: convolution, linear layer, per-channel scaling or matrix product."""
    if node.op == "linear":
        return functional.linear(x, weight, bias)
    if node.op == "affine":
        shape = [-1] + [1] * (x.ndim - 2)
        scaled = x * weight.reshape(shape)
        return scaled if bias is None else scaled + bias.reshape(shape)
    if node.op == "matmul":
        return x @ weight
    convolve: Callable[..., Tensor] = getattr(functional, f"conv{weight.ndim - 2}d")
    move = node.geometry
    if not has_faulty_kernel(x, weight, move):
        return convolve(x, weight, bias, **vars(move))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a precision that is not touched
        with torch.backends.mkldnn.flags(enabled=False):
            return convolve(x, weight, bias, **vars(move))


def has_faulty_kernel(x: Tensor, weight: Tensor, move: Geometry) -> bool:
    """Tell whether torch 2.13's oneDNN is known to fail on this convolution.

    With one input channel to a group, a stride along rows and one output column, its sums are
    sometimes wrong; with dilation and padding beyond the kernel's reach, it crashes.
    """
    kernel, last = weight.shape[2:], weight.ndim - 3
    columns = move.outputs(x.shape[2:], kernel)[last]
    wrong = weight.shape[1] == 1 and move.stride[last] > 1 and columns == 1
    around = zip(move.dilation, move.padding, move.reaches(kernel), strict=True)
    return wrong or any(gap > 1 and edge >= reach for gap, edge, reach in around)


def elementwise(attrs: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return the function that a `table` node stands for.

    Example:
        >>> elementwise({"function": "clamp", "parameters": {"min": 0.0}})(torch.tensor(-1.0))
        tensor(0.)
    """
    return partial(FUNCTIONS[attrs["function"]], **attrs.get("parameters", {}))


def concrete(shape: list[Any], n: int) -> list[int]:
    """Return `shape` for a batch of `n`: `[BATCH, k]` stands for `k * n`."""
    return [size[1] * n if isinstance(size, list) else size for size in shape]


def max_pool(x: Tensor, attrs: dict[str, Any]) -> Tensor:
    """Return the largest word of each window."""
    pool: Callable[..., Tensor] = getattr(functional, f"max_pool{len(attrs['kernel'])}d")
    names = ("kernel", "stride", "padding", "dilation")
    return pool(x, *(attrs[name] for name in names), ceil_mode=attrs["ceil_mode"])


def spread(x: Tensor, factors: list[int]) -> Tensor:
    """Return `x` with zeros between its entries along the last axes.

    Example:
        >>> spread(torch.tensor([1, 2]), [3])
        tensor([1, 0, 0, 2])
    """
    lead = x.ndim - len(factors)
    sizes = zip(x.shape[lead:], factors, strict=True)
    wide = x.new_zeros([*x.shape[:lead], *((size - 1) * factor + 1 for size, factor in sizes)])
    index: tuple[Any, ...] = (..., *(slice(None, None, factor) for factor in factors))
    wide[index] = x
    return wide


def unpacked(attrs: dict[str, Any]) -> Tensor:
    """Return the mask that a `mask` node holds as hexadecimal digits.

    Example:
        >>> unpacked({"sizes": [5], "bits": "88"})
        tensor([ True, False, False, False,  True])
    """
    return _unpacked(tuple(attrs["sizes"]), attrs["bits"])


@lru_cache(maxsize=256)
def _unpacked(sizes: tuple[int, ...], bits: str) -> Tensor:
    digits = f"{int(bits or '0', 16):0{4 * len(bits)}b}"[: torch.Size(sizes).numel()]
    return torch.tensor([digit == "1" for digit in digits]).reshape(sizes)


def resample(x: Tensor, attrs: dict[str, Any]) -> Tensor:
    """Return fixed sums along one axis, each over its divisor."""
    sums = mix(x, attrs)
    return sums / divisors(sums, attrs)


def mix(x: Tensor, attrs: dict[str, Any]) -> Tensor:
    """Return sums of entries times whole numbers along one axis."""
    weights = torch.tensor(attrs["weights"], dtype=x.dtype, device=x.device)
    return (x.movedim(attrs["dim"], -1) @ weights.t()).movedim(-1, attrs["dim"])


def divisors(sums: Tensor, attrs: dict[str, Any]) -> Tensor:
    """Return the divisor of each sum, shaped to broadcast."""
    shape = [-1 if axis == attrs["dim"] else 1 for axis in range(sums.ndim)]
    return torch.tensor(attrs["divisors"], dtype=sums.dtype, device=sums.device).reshape(shape)


def average_pool(x: Tensor, attrs: dict[str, Any]) -> Tensor:
    """Return the mean of each window; padding counts as zeros."""
    pool: Callable[..., Tensor] = getattr(functional, f"avg_pool{len(attrs['kernel'])}d")
    return pool(x, attrs["kernel"], attrs["stride"], attrs["padding"])


def normalize(inputs: Tensor, attrs: dict[str, Any]) -> Tensor:
    """Return inputs in [0, 1] as the first layer sees them: `(x - mean) / std` per channel."""
    if "mean" not in attrs:
        return inputs
    shape = [-1] + [1] * (inputs.ndim - 2)
    mean = torch.tensor(attrs["mean"], dtype=torch.float32, device=inputs.device).reshape(shape)
    std = torch.tensor(attrs["std"], dtype=torch.float32, device=inputs.device).reshape(shape)
    return (inputs - mean) / std
