"""Matrix products of activations through a product table, as attention needs them.

Model:  the first operand of the node is the first of the multiplier. With words a and b, zero
        points A and B: sum (a - A)(b - B) becomes sum T[a, b] - A sum b - B sum a + k A B; each
        matrix of a batch is a layer of one-pixel filters of its own.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int32, Integer
from torch import Tensor

from bitproof.kernels.geometry import Geometry
from bitproof.kernels.look_up import LookUp
from bitproof.quant.accumulators import Accumulator
from bitproof.quant.grid import Grid
from bitproof.quant.products import OperandEncoding, Products


@dataclass(frozen=True, eq=False)
class ProductMatmul(Accumulator):
    """A product of two activations through a table."""

    products: Products

    def sums(self, operands: list[Tensor]) -> Tensor:
        """Return the accumulators, rounded to float32."""
        return product_matmul(operands, list(self.grids), self.products).float()


def product_matmul(
    operands: list[Integer[Tensor, "..."]], grids: list[Grid], products: Products
) -> Int32[Tensor, "..."]:
    """Return the accumulators of a batch of matrix products; they wrap.

    Args:
        operands: stored words, [*batch, rows, k] and [*batch, k, columns].
        grids: of both.
        products: one table, with one offset for all.
    """
    encodings = [OperandEncoding.of(grid, signed=products.signed) for grid in grids]
    points = [int(own.point(grid.zero_point)) for own, grid in zip(encodings, grids, strict=True)]
    batch = torch.broadcast_shapes(*(codes.shape[:-2] for codes in operands))  # type: ignore[no-untyped-call]
    left, right = (
        own.patterns(codes).expand(*batch, *codes.shape[-2:]).reshape(-1, *codes.shape[-2:])
        for own, codes in zip(encodings, operands, strict=True)
    )
    taps = left.shape[-1]
    offset = int(products.offset[0]) + taps * points[0] * points[1]
    results = []
    for first, second in zip(left, right, strict=True):
        weight = second.T[:, :, None, None]
        columns = len(weight)
        look_up = LookUp.of(
            weight,
            products.tables,
            torch.zeros(columns, dtype=torch.int64, device=weight.device),
            geometry=Geometry(),
            signed=products.signed,
            errors=False,
        )
        start = offset - points[0] * encodings[1].values(second.contiguous()).sum(0)
        point = torch.full((columns,), points[1], dtype=torch.int32, device=weight.device)
        sums = look_up.adding(start.long(), point).sums(first.T[None, :, None])
        results.append(sums[0, :, 0].T)
    rows, columns = left.shape[1], right.shape[2]
    return torch.stack(results).reshape(*batch, rows, columns)
