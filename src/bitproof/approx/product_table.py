"""All products of two 8-bit operands: what a multiplier is, once its gates are forgotten.

Model:  `products[i, j]` is what comes out for the stored words i (first operand) and j (second
        operand), both taken as raw bit patterns. Rows are the activation, columns the weight.
        A signed table is indexed by the patterns of two's complement: row 255 is -1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32, Num
from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.data.packed import read_arrays
from bitproof.kernels.forms import WORDS, exact_products, operand_values


@dataclass(frozen=True, eq=False)
class ProductTable:
    """The products of all 65,536 pairs of operands, and how operands are read.

    Example:
        >>> table = ProductTable(torch.arange(256).outer(torch.arange(256)).int(), signed=False)
        >>> int(table.products[200, 100])
        20000
    """

    products: Int32[Tensor, "256 256"]
    signed: bool
    """Operands are int8 in two's complement; else uint8."""

    def __post_init__(self) -> None:
        assert self.products.shape == (WORDS, WORDS)
        assert self.products.dtype == torch.int32

    @property
    def operands(self) -> Int32[Tensor, "256"]:
        """The numbers that the patterns 0 to 255 stand for."""
        return operand_values(signed=self.signed)

    @property
    def exact(self) -> Int32[Tensor, "256 256"]:
        """The products of an exact multiplier, at the same places."""
        return exact_products(signed=self.signed)

    @property
    def errors(self) -> Int32[Tensor, "256 256"]:
        """What is too much: products minus exact products."""
        return self.products - self.exact

    @property
    def commutes(self) -> bool:
        """Whether the operands may change places."""
        return torch.equal(self.products, self.products.T)

    def swapped(self) -> "ProductTable":
        """Return the table of the same circuit with its operands exchanged.

        Example:
            >>> from bitproof.approx import Perforated
            >>> table = Perforated(rows=1).table()
            >>> int(table.products[2, 3]), int(table.swapped().products[3, 2])
            (4, 4)
        """
        return ProductTable(self.products.T.contiguous(), self.signed)

    def by_value(self, entries: Num[Tensor, "256 256"]) -> Num[Tensor, "256 256"]:
        """Return entries in the order of the operands' values, smallest first; twice undoes it.

        Example:
            >>> from bitproof.approx import Exact
            >>> table = Exact(signed=True).table()
            >>> table.by_value(table.products)[0, :2].tolist()
            [16384, 16256]
        """
        return entries.roll((WORDS // 2, WORDS // 2), (0, 1)) if self.signed else entries


def read_products(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Return 256 x 256 integers for each name, from an npz file.

    Raises:
        DataError: the file is truncated or malformed, or holds something else.
    """
    arrays = read_arrays(path, names)
    for name, array in arrays.items():
        if array.shape != (WORDS, WORDS) or array.dtype.kind not in "iu":
            raise DataError(
                f"{path}: wanted {WORDS} x {WORDS} integers as '{name}', "
                f"got {array.dtype} of shape {array.shape}"
            )
    return [arrays[name] for name in names]
