"""Rules for what mixes the places of a map by fixed numbers: interpolation, uneven means.

Model:  along each axis, an output is a sum of inputs times whole numbers, over a divisor: the
        fractions of an interpolation in steps of 2**-16, ones under a window of a mean.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref, Rule

ONE = 1 << 16
"""What the number 1 is among the fractions of an interpolation."""
ATEN = torch.ops.aten


def interpolation(kind: str) -> Rule:
    """Return the rule of `aten.upsample_*`, of some kind, over one to three axes."""

    def rule(call: Call) -> Ref:
        x, spatial = call.x, call.value.shape[2:]
        aligned = "nearest" not in kind
        corners = [bool(call.get(2, "align_corners", False))] if aligned else []
        scales = _scales(call, 3 if aligned else 2, len(spatial))
        for dim, (size, scale) in enumerate(zip(spatial, scales, strict=True), 2):
            matrix = _matrix(kind, x.shape[dim], size, corners, scale)
            x = _apply(call, x, dim, matrix)
        return x

    return rule


def _scales(call: Call, place: int, rank: int) -> list[float | None]:
    """Return the factor of each axis, where it was given as such."""
    rest = [value for value in call.args[place:] if value is not None]
    if len(rest) == 1 and isinstance(rest[0], tuple | list):
        return [float(value) for value in rest[0]]
    found = [float(value) for value in rest if not isinstance(value, tuple | list)]
    return list(found) if len(found) == rank else [None] * rank


def _matrix(kind: str, size: int, wanted: int, corners: list[bool], scale: float | None) -> Tensor:
    """Return what torch makes of each unit vector, `(wanted, size)`."""
    # Along columns: torch's antialiasing along rows is wrong for maps of one column.
    units = torch.eye(size, dtype=torch.float64)[None, :, None, :]
    name = {"linear": "bilinear", "trilinear": "bilinear"}.get(kind, kind)
    plain, aa = name.removesuffix("_aa"), "_aa" if name.endswith("_aa") else ""
    hidden = "_" if aa or plain == "nearest_exact" else ""
    function = getattr(ATEN, f"{hidden}upsample_{plain}2d{aa}")
    found: Tensor = function(units, [1, wanted], *corners, None, scale)
    return found[0, :, 0].t()


def _apply(call: Call, x: Ref, dim: int, matrix: Tensor) -> Ref:
    """Append one axis of an interpolation; a choice of single places moves words only."""
    if bool((matrix.count_nonzero(1) == 1).all()) and bool((matrix.amax(1) == 1).all()):
        index = matrix.argmax(1).tolist()
        return x if index == list(range(x.shape[dim])) else call.take(x, dim, index)
    weights = (matrix * ONE).round().long()
    return mixed(call, x, dim, weights.tolist(), [ONE] * len(weights))


def mixed(
    call: Call, x: Ref, dim: int, weights: Sequence[Sequence[int]], divisors: Sequence[int]
) -> Ref:
    """Append sums along one axis of entries times whole numbers, each over its divisor."""
    shape = [*x.shape[:dim], len(weights), *x.shape[dim + 1 :]]
    rows = [list(row) for row in weights]
    return call.step("resample", x, shape=shape, dim=dim, weights=rows, divisors=list(divisors))


def uneven_means(
    call: Call, windows: Sequence[Sequence[range]], divisors: Sequence[Sequence[int]]
) -> Ref:
    """Append means over windows of different sizes, given for each of the last axes."""
    x = call.x
    lead = len(x.shape) - len(windows)
    for dim, (own, counts) in enumerate(zip(windows, divisors, strict=True), lead):
        rows = [[int(at in window) for at in range(x.shape[dim])] for window in own]
        x = mixed(call, x, dim, rows, counts)
    return x


def matrix_over_axis(weights: Callable[[int], Sequence[Sequence[int]]]) -> Rule:
    """Return the rule of a sum over one axis with whole numbers, such as `cumsum`."""

    def rule(call: Call) -> Ref:
        dim = call.get(1, "dim") % len(call.x.shape)
        if isinstance(call.shape[dim], list):
            raise TraceError(f"{call.path}: wanted a sum within one image, got dim={dim}")
        rows = weights(call.x.shape[dim])
        return mixed(call, call.x, dim, rows, [1] * len(rows))

    return rule


def running_sums(size: int) -> list[list[int]]:
    """Return the weights of sums of the first entries."""
    return [[int(at <= row) for at in range(size)] for row in range(size)]
