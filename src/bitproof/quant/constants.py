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

from bitproof.kernels.exact_floats import sum_bounds, sum_type
from bitproof.quant.floats import JUMPS, elementwise
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.operations import MAC_OPS, MEMORY_OPS, MOVING_OPS, NORM_OPS
from bitproof.quant.wide_outputs import reads_wide

EXP_ONE = 1 << 20
"""What `exp(0)` is in the integer table of a softmax."""


@dataclass(frozen=True, eq=False)
class Constants:
    """One node's operands that do not depend on the input."""

    zero_points: tuple[int, ...] = ()
    """Of each input."""
    scales: tuple[float, ...] = ()
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
    """How sums become words."""
    floor: int | None = None
    """Centered word that a masked softmax takes for minus infinity."""

    @property
    def in_float32(self) -> "Constants":
        """The same with sums that are taken in float32: fast, and exact below 2**24."""
        if self.dtype == torch.float32:
            return self
        weight, bias = (one if one is None else one.float() for one in (self.weight, self.bias))
        return replace(self, dtype=torch.float32, weight=weight, bias=bias)


def prepare(
    node: Node, tensors: Mapping[str, CodedTensor], grids: Mapping[str, Grid], rounding: str
) -> Constants:
    """Return the constants of `node`."""
    if reads_wide(node, grids):
        return Constants((0,), (1.0,), rounding=rounding)
    inputs = [grids[name] for name in node.inputs]
    zero_points = tuple(int(grid.zero_point) for grid in inputs)
    scales = tuple(float(grid.scale) for grid in inputs)
    bare = Constants(zero_points, scales, rounding=rounding)
    if node.op in MEMORY_OPS | MOVING_OPS:
        return replace(bare, zero_point=int(grids[node.name].zero_point))
    out = grids.get(node.name)
    ready = _with_output(bare, node, out)
    stored = {key: tensors.get(node.key(key)) for key in ("weight", "bias")}
    if node.op in NORM_OPS:
        weight, bias = (None if coded is None else coded.values() for coded in stored.values())
        return replace(ready, weight=weight, bias=bias)
    if node.op in MAC_OPS:
        return _multiply_accumulate(ready, node, stored, inputs, out)
    assert out is not None
    if node.op in {"softmax", "log_softmax"}:
        floor = inputs[0].low - zero_points[0] if node.attrs.get("masked") else None
        return replace(ready, table=_exponentials(inputs[0]), floor=floor)
    ready = replace(ready, multipliers=_multipliers(node, scales, out))
    return replace(ready, table=_lookup(node, inputs[0], ready)) if node.op == "table" else ready


def _with_output(bare: Constants, node: Node, out: Grid | None) -> Constants:
    """Add the output grid and the bounds of a fused clamp."""
    if out is None:
        return bare
    zero_point, scale = int(out.zero_point), float(out.scale)
    low, high = out.low, out.high
    bounds = node.attrs.get("clamp", (None, None))
    if bounds[0] is not None:
        low = min(max(low, round(bounds[0] / scale) + zero_point), high)
    if bounds[1] is not None:
        high = max(min(high, round(bounds[1] / scale) + zero_point), low)
    return replace(bare, zero_point=zero_point, low=low, high=high, scale=out.scale)


def _multiply_accumulate(
    ready: Constants,
    node: Node,
    stored: Mapping[str, CodedTensor | None],
    inputs: list[Grid],
    out: Grid | None,
) -> Constants:
    weight = stored["weight"]
    if weight is None:
        device = inputs[0].scale.device
        step = torch.tensor(ready.scales[0] * ready.scales[1], dtype=torch.float64, device=device)
    else:
        step = weight.grid.scale.double().flatten() * ready.scales[0]
    multiplier = step.float() if out is None else (step / out.scale.double()).float()
    if weight is None:
        # The length of the sum is not known here; 64-bit floats hold any exact int32 sum.
        return replace(ready, multipliers=(multiplier,), dtype=torch.float64)
    centered = weight.centered()
    bias = None if stored["bias"] is None else bias_steps(stored["bias"], step, own=not node.memory)
    dtype = sum_type(sum_bounds(centered, inputs[0].peak, bias))
    maps = node.op == "conv" and centered.ndim == 4
    layout = torch.channels_last if maps else torch.contiguous_format
    # Channels of maps lie on axis 1: behind them, axes of one entry for each axis of the kernel.
    trailing = [1] * (centered.ndim - 2) if node.op == "conv" else []
    shape = [-1, *trailing] if multiplier.numel() > 1 else []
    return replace(
        ready,
        weight=centered.to(dtype, memory_format=layout),
        bias=None if bias is None else bias.to(dtype),
        dtype=dtype,
        multipliers=(multiplier.reshape(shape),),
    )


def bias_steps(bias: CodedTensor, step: Tensor, *, own: bool = True) -> Tensor:
    """Return a bias in whole steps of the accumulator, as float64 integers within int32.

    Words of 32 bits are in steps of their `own` layer; another one that reads them has others.
    """
    if bias.grid.bits == 32 and own:
        return bias.codes.double()
    steps = (bias.values().double() / step).round()
    return steps.clamp(-(2**31), 2**31 - 1)


def _multipliers(node: Node, scales: tuple[float, ...], out: Grid) -> tuple[Tensor, ...]:
    unit = out.scale.double()
    if node.op == "input":
        steps = [1.0]
    elif node.op == "mul":
        steps = [scales[0] * scales[1]]
    elif node.op == "div":
        steps = [scales[0] / scales[1]]
    elif node.op == "avg_pool":
        steps = [scales[0] / torch.Size(node.attrs["kernel"]).numel()]
    else:
        steps = list(scales)
    return tuple((step / unit).float() for step in steps)


def _lookup(node: Node, source: Grid, ready: Constants) -> Tensor:
    """Return the output word for every input word, computed in float64."""
    assert ready.scale is not None
    codes = torch.arange(source.low, source.high + 1, device=source.scale.device)
    steps = codes - ready.zero_points[0]
    values = source.scale.double() * steps.double()
    if node.attrs["function"] in JUMPS:  # where a float of 32 bits jumps, or not
        values = (source.scale * steps.float()).double()
    results = torch.nan_to_num(elementwise(node.attrs)(values), nan=0.0) / ready.scale.double()
    return (results.round() + ready.zero_point).clamp(ready.low, ready.high).to(torch.int32)


def _exponentials(source: Grid) -> Tensor:
    """Return `exp(-scale * d)` for every distance `d` from the largest word, in integers."""
    distance = torch.arange(1 << source.bits, device=source.scale.device).double()
    return (EXP_ONE * torch.exp(-source.scale.double() * distance)).round()
