"""Elementwise steps of the integer execution in one pass of the C library, where there is one.

Model:  torch takes a pass over memory for each step from sums to words; the library takes one for
        all of them, with the same IEEE operations in the same order. The words are the same.
"""

import torch
from torch import Tensor

from bitproof.kernels.jobs import KINDS, Addend, Requantization, Rows, is_dense
from bitproof.kernels.library import library
from bitproof.quant.constants import Constants
from bitproof.quant.graph import Node

BYTES = frozenset({torch.uint8, torch.int8})
"""Dtypes of words that the library knows."""
LONGEST_ROW = 1 << 18
"""Words of a row whose squares a sum in float64 surely holds."""
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
    if node.op in {"add", "requantize"}:
        return words_of_sum(operands, constants, dtype)
    if node.op in {"layer_norm", "softmax"}:
        return words_of_rows(node, operands[0], constants, dtype)
    return None


def words_of_sum(operands: list[Tensor], constants: Constants, dtype: torch.dtype) -> Tensor | None:
    """Return the sum of two outputs, or one on another grid, or None where torch has to do it."""
    first = operands[0]
    alike = all((first.shape, first.stride()) == (x.shape, x.stride()) for x in operands)
    alike = alike and {dtype, *(x.dtype for x in operands)} <= KINDS.keys()
    compiled = library() if alike and all(map(_suits, operands)) else None
    if compiled is None:
        return None
    left, *rest = (
        Addend(words, point, float(factor))
        for words, point, factor in zip(
            operands, constants.zero_points, constants.multipliers, strict=True
        )
    )
    how = requantization(constants, dtype, torch.ones(1))
    return compiled.add(left, rest[0] if rest else None, how, dtype)


def words_of_table(codes: Tensor, table: Tensor, low: int, dtype: torch.dtype) -> Tensor | None:
    """Return 8-bit words read from a table by 8-bit words from `low` on, or None."""
    if not ({codes.dtype, dtype} <= BYTES and _suits(codes)):
        return None
    compiled = library()
    if compiled is None:
        return None
    # By the bit patterns of the words, which those of int8 do not rise with.
    rows = torch.zeros(256, dtype=torch.uint8)
    patterns = torch.arange(low, low + len(table)) % 256
    rows[patterns] = table.to(dtype).view(torch.uint8)
    found = torch.empty_like(codes, dtype=dtype)
    raw = compiled.remap(_flat(codes).view(torch.uint8), rows)
    _flat(found).copy_(raw.view(dtype))
    return found


def _flat(tensor: Tensor) -> Tensor:
    """Return the numbers of a dense tensor as they lie in memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


def words_of_rows(
    node: Node, codes: Tensor, constants: Constants, dtype: torch.dtype
) -> Tensor | None:
    """Return the norm or the softmax of words along their last axis, or None."""
    norm = node.op == "layer_norm" and node.attrs["axes"] == 1
    softmax = node.op == "softmax" and node.attrs["dim"] in {-1, codes.ndim - 1}
    suits = {codes.dtype, dtype} <= KINDS.keys() and codes.ndim > 0 and _suits(codes)
    compiled = library() if (norm or softmax) and suits else None
    # Sums of squares of longer rows could pass 2**53, where floats are not exact.
    if compiled is None or codes.shape[-1] > LONGEST_ROW or abs(constants.zero_points[0]) > 1 << 16:
        return None
    assert constants.scale is not None
    parameters = constants.weight, constants.bias
    affine = tuple(None if one is None else one.double().contiguous() for one in parameters)
    floor = float("nan") if constants.floor is None else float(constants.floor)
    if norm:
        floor = node.attrs["eps"] * (codes.shape[-1] / constants.scales[0]) ** 2
    job, out = Rows.describe(
        codes.contiguous(),
        dtype,
        requantization(constants, dtype, torch.ones(1)),
        point=constants.zero_points[0],
        floor=floor,
        scale=float(constants.scale.double()),
        table=constants.table if softmax else None,
        affine=(affine[0], affine[1]),
    )
    return compiled.rows(job, out)


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
