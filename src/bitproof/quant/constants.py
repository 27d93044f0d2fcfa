"""What a node of an integer network multiplies with, prepared from words and grids.

Model:  accumulators are int32. They are held in float32 where the sum of absolute products stays
        below 2**24 (every partial sum is then an exact integer, in any order) and in float64
        elsewhere. `multiplier = scale_in * scale_weight / scale_out` is rounded to float32 once,
        as ONNX Runtime, oneDNN and FBGEMM do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bitproof.quant.functions import elementwise
from bitproof.quant.graph import MAC_OPS, MOVING_OPS, NORM_OPS, Node
from bitproof.quant.grid import CodedTensor, Grid

EXACT_FLOAT32 = 1 << 24
"""Integers up to this size are exact in float32."""
EXP_ONE = 1 << 20
"""What `exp(0)` is in the integer table of a softmax."""


@dataclass(frozen=True, eq=False)
class Constants:
    """One node's operands that do not depend on the input."""

    zero_points: tuple[int, ...]
    """Of each input."""
    scales: tuple[float, ...]
    """Of each input."""
    weight: Tensor | None = None
    """Centered words of the weight (`code - zero_point`), or real values for norms."""
    bias: Tensor | None = None
    """Bias in steps of the accumulator, or real values for norms."""
    dtype: torch.dtype = torch.float32
    """Float type in which this node's sums are exact integers."""
    multipliers: tuple[Tensor, ...] = ()
    """From each operand's integers (or from the sum of products) to steps of the output."""
    table: Tensor | None = None
    """Output words by input word, or the exponentials of a softmax."""
    zero_point: int = 0
    """Of the output."""
    low: int = 0
    """Smallest output word, after a fused clamp."""
    high: int = 0
    """Largest output word, after a fused clamp."""
    scale: Tensor | None = None
    """Step of the output; of the accumulator, if the logits stay at that width."""
    rounding: str = "nearest"
    """How sums are cut down to words."""
    cuts: bool = True
    """Whether the output is cut down to words."""


def prepare(
    node: Node, tensors: Mapping[str, CodedTensor], grids: Mapping[str, Grid], rounding: str
) -> Constants:
    """Return the constants of `node`."""
    inputs = [grids[name] for name in node.inputs]
    points = tuple(int(grid.zero_point) for grid in inputs)
    scales = tuple(float(grid.scale) for grid in inputs)
    if node.op == "constant" or node.op in MOVING_OPS:
        return Constants(points, scales, zero_point=int(grids[node.name].zero_point))
    out = grids.get(node.name)
    stored = {key: tensors.get(f"{node.name}.{key}") for key in ("weight", "bias")}
    if node.op in NORM_OPS:
        weight, bias = (None if coded is None else coded.values() for coded in stored.values())
        return _cutting(node, out, Constants(points, scales, weight, bias), rounding)
    if node.op in MAC_OPS:
        ready = _multiply_accumulate(node, stored, inputs, out)
    else:
        assert out is not None
        ready = Constants(points, scales, multipliers=_multipliers(node, scales, out))
        if node.op == "softmax":
            ready = Constants(points, scales, table=_exponentials(inputs[0]))
    ready = _cutting(node, out, ready, rounding)
    if node.op == "table":
        assert out is not None
        return _with(ready, table=_lookup(node, inputs[0], out, ready))
    return ready


def _with(constants: Constants, **changes: object) -> Constants:
    return replace(constants, **changes)  # type: ignore[arg-type]


def _cutting(node: Node, out: Grid | None, ready: Constants, rounding: str) -> Constants:
    """Add the output grid and the bounds of a fused clamp."""
    if out is None:
        return _with(ready, cuts=False, rounding=rounding)
    zero_point, scale = int(out.zero_point), float(out.scale)
    low, high = out.low, out.high
    bounds = node.attrs.get("clamp", (None, None))
    if bounds[0] is not None:
        low = min(max(low, round(bounds[0] / scale) + zero_point), high)
    if bounds[1] is not None:
        high = max(min(high, round(bounds[1] / scale) + zero_point), low)
    return _with(
        ready, zero_point=zero_point, low=low, high=high, scale=out.scale, rounding=rounding
    )


def _multiply_accumulate(
    node: Node, stored: Mapping[str, CodedTensor | None], inputs: list[Grid], out: Grid | None
) -> Constants:
    points = tuple(int(grid.zero_point) for grid in inputs)
    scales = tuple(float(grid.scale) for grid in inputs)
    peak = max(abs(inputs[0].low - points[0]), abs(inputs[0].high - points[0]))
    if node.op == "matmul":
        step = torch.tensor(
            scales[0] * scales[1], dtype=torch.float64, device=inputs[0].scale.device
        )
        multiplier = step.float() if out is None else (step / out.scale.double()).float()
        # The length of the sum is not known here; 64-bit floats hold any exact int32 sum.
        return Constants(points, scales, multipliers=(multiplier,), dtype=torch.float64)
    weight = stored["weight"]
    assert weight is not None
    centered = weight.centered()
    step = weight.grid.scale.double().flatten() * scales[0]
    rank = {"linear": 1, "affine": centered.ndim, "conv": centered.ndim}[node.op]
    bias = None if stored["bias"] is None else bias_steps(stored["bias"], step)
    reach = centered.abs().reshape(len(centered), -1).sum(1).double() * peak
    reach = reach if bias is None else reach + bias.abs()
    exact32 = bool(reach.max() < EXACT_FLOAT32) and centered.device.type == "cpu"
    dtype = torch.float32 if exact32 else torch.float64
    multiplier = step.float() if out is None else (step / out.scale.double()).float()
    maps = node.op == "conv" and centered.ndim == 4
    layout = torch.channels_last if maps else torch.contiguous_format
    kernel = centered.to(dtype, memory_format=layout)
    return Constants(
        points,
        scales,
        weight=kernel,
        bias=None if bias is None else bias.to(dtype),
        dtype=dtype,
        multipliers=(_along_channels(multiplier, rank, node),),
    )


def bias_steps(bias: CodedTensor, step: Tensor) -> Tensor:
    """Return a bias in whole steps of the accumulator, as float64 integers within int32."""
    if bias.grid.bits == 32:
        return bias.codes.double()
    steps = (bias.values().double() / step).round()
    return steps.clamp(-(2**31), 2**31 - 1)


def _along_channels(multiplier: Tensor, rank: int, node: Node) -> Tensor:
    """Shape one multiplier per channel so that it broadcasts against the output."""
    if multiplier.numel() == 1:
        return multiplier.reshape(())
    if node.op == "linear":
        return multiplier
    # Channels lie on axis 1; `rank` counts the kernel's axes, of which the first two are channels.
    return multiplier.reshape([-1] + [1] * (rank - 2))


def _multipliers(node: Node, scales: tuple[float, ...], out: Grid) -> tuple[Tensor, ...]:
    unit = out.scale.double()
    if node.op == "input":
        steps = [1.0]
    elif node.op == "mul":
        steps = [scales[0] * scales[1]]
    elif node.op == "avg_pool":
        steps = [scales[0] / torch.Size(node.attrs["kernel"]).numel()]
    else:
        steps = list(scales)
    return tuple((step / unit).float() for step in steps)


def _lookup(node: Node, source: Grid, out: Grid, ready: Constants) -> Tensor:
    """Return the output word for every input word, computed in float64."""
    codes = torch.arange(source.low, source.high + 1, device=source.scale.device)
    values = source.scale.double() * (codes - ready.zero_points[0]).double()
    results = torch.nan_to_num(elementwise(node.attrs)(values), nan=0.0) / out.scale.double()
    words = (results.round() + ready.zero_point).clamp(ready.low, ready.high)
    return words.to(torch.int32)


def _exponentials(source: Grid) -> Tensor:
    """Return `exp(-scale * d)` for every distance `d` from the largest word, in integers."""
    distance = torch.arange(1 << source.bits, device=source.scale.device).double()
    return (EXP_ONE * torch.exp(-source.scale.double() * distance)).round()
