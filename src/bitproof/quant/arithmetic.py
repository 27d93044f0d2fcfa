"""One node's arithmetic on centered integers held in floats; shared by both executions.

Every function takes operands `code - zero_point` and returns what is rounded next: the output in
units of its own step. All sums of products are exact integers in `constants.dtype`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from bitproof.quant.constants import EXP_ONE, Constants
from bitproof.quant.floats import divisors, mix, multiply_accumulate
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid


def accumulate(node: Node, constants: Constants, operands: list[Tensor]) -> Tensor:
    """Return the int32 accumulators of a multiply-accumulate node, bias included."""
    x = operands[0].to(constants.dtype)
    other = operands[1].to(constants.dtype) if constants.weight is None else constants.weight
    # NNPACK, which torch takes where there is no oneDNN, multiplies by Winograd's fractions.
    with torch.backends.nnpack.flags(enabled=False):
        return multiply_accumulate(node, x, other, constants.bias)


def wrap_int32(sums: Tensor) -> Tensor:
    """Return accumulators modulo 2**32, as a 32-bit register keeps them."""
    return torch.remainder(sums + 2.0**31, 2.0**32) - 2.0**31


def sum_steps(node: Node, constants: Constants, operands: list[Tensor]) -> Tensor:
    """Return the output of a node that only adds, multiplies or averages, in output steps."""
    return SUMS[node.op](node, operands, constants.multipliers)


Factors = tuple[Tensor, ...]


def _add(node: Node, xs: list[Tensor], m: Factors) -> Tensor:
    left, right = xs[0] * m[0], xs[1] * m[1]
    return left + right if node.op == "add" else left - right


def _mean(node: Node, xs: list[Tensor], m: Factors) -> Tensor:
    count = torch.Size([xs[0].shape[d] for d in node.attrs["dims"]]).numel()
    # float64: the sum over a large map can pass 2**24.
    total = xs[0].sum(node.attrs["dims"], keepdim=node.attrs["keepdim"], dtype=torch.float64)
    return total.float() * (m[0] / count)


def _resample(node: Node, xs: list[Tensor], m: Factors) -> Tensor:
    # float64 holds every sum of words times whole numbers below 2**53.
    sums = mix(xs[0].double(), node.attrs)
    return (sums / divisors(sums, node.attrs)).float() * m[0]


SUMS: dict[str, Callable[[Node, list[Tensor], Factors], Tensor]] = {
    "add": _add,
    "sub": _add,
    "mul": lambda _, xs, m: xs[0] * xs[1] * m[0],
    "div": lambda _, xs, m: torch.nan_to_num(xs[0] / xs[1], nan=0.0) * m[0],
    "maximum": lambda _, xs, m: torch.maximum(xs[0] * m[0], xs[1] * m[1]),
    "minimum": lambda _, xs, m: torch.minimum(xs[0] * m[0], xs[1] * m[1]),
    "concat": lambda node, xs, m: torch.cat(
        [x * factor for x, factor in zip(xs, m, strict=True)], node.attrs["dim"]
    ),
    "avg_pool": lambda node, xs, m: window_sums(xs[0], node) * m[0],
    "mean": _mean,
    "requantize": lambda _, xs, m: xs[0] * m[0],
    "resample": _resample,
}
"""Operations that add, multiply or average, from centered words and their multipliers."""


def window_sums(x: Tensor, node: Node) -> Tensor:
    """Return the sum of each pooling window."""
    kernel, stride, padding = (list(node.attrs[key]) for key in ("kernel", "stride", "padding"))
    if len(kernel) == 3:
        return functional.avg_pool3d(x, kernel, stride, padding, divisor_override=1)
    flat = len(kernel) == 1
    if flat:
        kernel, stride, padding = [1, *kernel], [1, *stride], [0, *padding]
    maps = x.unsqueeze(2) if flat else x
    sums = functional.avg_pool2d(maps, kernel, stride, padding, divisor_override=1)
    return sums.squeeze(2) if flat else sums


def softmax_steps(node: Node, constants: Constants, x: Tensor) -> Tensor:
    """Return a softmax from integer exponentials, or its logarithm, in output steps.

    The softmax is `table[max - x] / sum`; words at the floor of a mask count for nothing.
    """
    dim = node.attrs["dim"]
    assert constants.table is not None
    assert constants.scale is not None
    distance = (x.amax(dim, keepdim=True) - x).long()
    powers = constants.table[distance]
    if constants.floor is not None:
        powers = powers.masked_fill(x == constants.floor, 0.0)
    total = powers.sum(dim, keepdim=True)
    if node.op == "log_softmax":
        away = constants.scales[0] * distance.double()
        return -(away + (total / EXP_ONE).log()) / constants.scale.double()
    return powers / total / constants.scale.double()


def norm_steps(node: Node, constants: Constants, x: Tensor) -> Tensor:
    """Return a norm from exact integer moments, in output steps, as float64."""
    assert constants.scale is not None
    shape, weight, bias = x.shape, constants.weight, constants.bias
    if node.op in {"rms", "rms_norm"}:
        return _by_root_mean_square(node, constants, x.double())
    if node.op == "layer_norm":
        rows = x.double().flatten(-node.attrs["axes"])
        affine_shape = shape[-node.attrs["axes"] :]
    else:
        rows = x.double().reshape(shape[0], node.attrs["groups"], -1)
        affine_shape = torch.Size([shape[1], *[1] * (len(shape) - 2)])
    count = rows.shape[-1]
    total = rows.sum(-1, keepdim=True)
    spread = count * (rows * rows).sum(-1, keepdim=True) - total * total
    floor = node.attrs["eps"] * (count / constants.scales[0]) ** 2
    result: Tensor = ((count * rows - total) / (spread + floor).sqrt()).reshape(shape)
    if weight is not None:
        result = result * weight.double().reshape(affine_shape)
    if bias is not None:
        result = result + bias.double().reshape(affine_shape)
    return result / constants.scale.double()


def _by_root_mean_square(node: Node, constants: Constants, x: Tensor) -> Tensor:
    """Return the root mean square along axes, or `x` divided by it, in output steps."""
    assert constants.scale is not None
    dims, step = node.attrs["dims"], constants.scales[0]
    count = torch.Size([x.shape[d] for d in dims]).numel()
    squares: Tensor = (x * x).sum(dims, keepdim=node.attrs.get("keepdim", True))
    root: Tensor = (squares / count + node.attrs["eps"] / step**2).sqrt()
    if node.op == "rms":
        return root * step / constants.scale.double()
    result = torch.nan_to_num(x / root, nan=0.0)
    if constants.weight is not None:
        result = result * constants.weight.double()
    return result / constants.scale.double()


def requantize(values: Tensor, constants: Constants) -> Tensor:
    """Return output words, still as floats: rounded, shifted by the zero point, clamped."""
    return requantize_(values.clone(), constants)


def requantize_(values: Tensor, constants: Constants) -> Tensor:
    """Do the same in place: large new tensors cost more than the arithmetic."""
    if constants.rounding == "truncate":
        return values.add_(constants.zero_point).trunc_().clamp_(constants.low, constants.high)
    values.round_()
    if constants.zero_point:
        values.add_(constants.zero_point)
    return values.clamp_(constants.low, constants.high)


def center(codes: Tensor, zero_point: int) -> Tensor:
    """Return codes minus their zero point, as exact integers in float32, in a new tensor."""
    centered = codes.to(torch.float32, copy=True)
    return centered.sub_(zero_point) if zero_point else centered


def uncenter(centered: list[Tensor], constants: Constants, grids: Sequence[Grid]) -> list[Tensor]:
    """Return the stored codes of a node's centered operands."""
    return [
        (x.detach() + point).to(grid.dtype)
        for x, point, grid in zip(centered, constants.zero_points, grids, strict=True)
    ]
