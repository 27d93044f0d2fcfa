"""Elementwise steps of the integer execution in one pass of the C library, where there is one.

Model:  torch takes a pass over memory for each step from sums to words; the library takes one for
        all of them, with the same IEEE operations in the same order. The words are the same.
"""

import torch
from jaxtyping import Integer
from torch import Tensor

from bitproof.kernels.jobs import (
    KINDS,
    Addend,
    AddWords,
    Job,
    Place,
    Requantization,
    Rows,
    is_dense,
    lies_last,
    new_tensor,
)
from bitproof.kernels.library import library
from bitproof.quant.constants import Constants
from bitproof.quant.graph import Node

BYTES = frozenset({torch.uint8, torch.int8})
"""Dtypes of words that the library knows."""
LONGEST_ROW = 1 << 18
"""Words of a row whose squares a sum in float64 surely holds."""
SUMS = frozenset({"add", "sub", "mul", "requantize"})
"""Operations that the library computes word by word."""
SMALLEST = 1 << 12
"""Words below which a call costs more than it saves; no influence on the result."""


def words_of_sums(
    sums: Tensor, multiplier: Tensor, constants: Constants, dtype: torch.dtype
) -> Tensor | None:
    """Return float32 maps times their multipliers as words, or None where torch has to do it."""
    by_channel = (
        multiplier.numel() == 1 or multiplier.ndim == 3
    )  # those of rows lie on the last axis
    fits = sums.ndim == 4 and sums.dtype == torch.float32 and dtype in BYTES
    if not (fits and by_channel and _suits(sums)):
        return None
    compiled = library()
    if compiled is None:
        return None
    return compiled.requantize(sums, requantization(constants, dtype, multiplier))


def compiled_words(
    node: Node, operands: list[Tensor], constants: Constants, dtype: torch.dtype
) -> Tensor | None:
    """Return the words of a node that the library computes in one pass, or None."""
    compiled = library() if all(map(_suits, operands)) else None
    if compiled is None:
        return None
    found: tuple[Job, Tensor] | None = None
    if node.op in SUMS:
        found = describe_sum(node, operands, constants, dtype)
    elif node.op in {"layer_norm", "softmax"}:
        found = describe_rows(node, operands[0].contiguous(), constants, dtype)
    if found is None:
        return None
    compiled.run(found[0])
    return found[1]


def describe_sum(
    node: Node,
    operands: list[Tensor],
    constants: Constants,
    dtype: torch.dtype,
    place: Place = new_tensor,
) -> tuple[Job, Tensor] | None:
    """Return the job of a node whose operation is in `SUMS`, and its output.

    None where words have dtypes that the library does not know, or do not lie alike.
    """
    first = operands[0]
    alike = all((x.shape, lies_last(x)) == (first.shape, lies_last(first)) for x in operands)
    if not (alike and {dtype, *(x.dtype for x in operands)} <= KINDS.keys()):
        return None
    factors = [float(factor) for factor in constants.multipliers]
    if node.op == "mul":
        factors.append(1.0)  # one factor for the product
    elif node.op == "sub":
        factors[1] = -factors[1]
    left, *rest = map(Addend, operands, constants.zero_points, factors)
    how, right = requantization(constants, dtype, torch.ones(1)), rest[0] if rest else None
    return AddWords.describe(left, right, how, dtype, place, multiplies=node.op == "mul")


def words_of_table(codes: Tensor, table: Tensor, low: int, dtype: torch.dtype) -> Tensor | None:
    """Return words read from a table by 8-bit words from `low` on, or None."""
    suits = codes.dtype in BYTES and dtype in KINDS and _suits(codes)
    compiled = library() if suits else None
    if compiled is None:
        return None
    found = compiled.remap(codes.view(torch.uint8), table_of_patterns(table, low, dtype))
    return found.view(dtype)


def table_of_patterns(table: Tensor, low: int, dtype: torch.dtype) -> Integer[Tensor, "256"]:
    """Return words, as uint8 or int16, by the bit patterns of those that are looked up.

    The patterns of int8 do not rise with the numbers.
    """
    held = torch.int16 if dtype == torch.int16 else torch.uint8
    rows = torch.zeros(256, dtype=held)
    rows[torch.arange(low, low + len(table)) % 256] = table.to(dtype).view(held)
    return rows


def describe_rows(
    node: Node,
    codes: Tensor,
    constants: Constants,
    dtype: torch.dtype,
    place: Place = new_tensor,
) -> tuple[Job, Tensor] | None:
    """Return the job of a norm or a softmax of contiguous words along their last axis, or None."""
    norm = node.op == "layer_norm" and node.attrs["axes"] == 1
    softmax = node.op == "softmax" and node.attrs["dim"] in {-1, codes.ndim - 1}
    suits = {codes.dtype, dtype} <= KINDS.keys() and codes.ndim > 0
    # Sums of squares of longer rows could pass 2**53, where floats are not exact.
    small = suits and codes.shape[-1] <= LONGEST_ROW and abs(constants.zero_points[0]) <= 1 << 16
    if not (small and (norm or softmax)):
        return None
    assert constants.scale is not None
    parameters = constants.weight, constants.bias
    affine = tuple(None if one is None else one.double().contiguous() for one in parameters)
    floor = float("nan") if constants.floor is None else float(constants.floor)
    if norm:
        floor = node.attrs["eps"] * (codes.shape[-1] / constants.scales[0]) ** 2
    return Rows.describe(
        codes,
        dtype,
        requantization(constants, dtype, torch.ones(1)),
        point=constants.zero_points[0],
        floor=floor,
        scale=float(constants.scale.double()),
        table=constants.table if softmax else None,
        affine=(affine[0], affine[1]),
        place=place,
    )


def requantization(constants: Constants, dtype: torch.dtype, multiplier: Tensor) -> Requantization:
    """Return what the library is told of a node's output."""
    return Requantization(
        multiplier=multiplier.reshape(-1).contiguous(),
        zero_point=constants.zero_point,
        low=constants.low,
        high=constants.high,
        truncate=constants.rounding == "truncate",
        signed=dtype == torch.int8,
    )


def _suits(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.numel() >= SMALLEST and is_dense(tensor)
