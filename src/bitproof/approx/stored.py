"""A multiplier whose products are in a file: npz, or CSV with 65,536 numbers.

Model:  the numbers are given row by row; a row is one first operand, a column one second operand.
        Operands are counted by their bit patterns (`codes`: 0, 1, ..., 127, -128, ..., -1 if
        signed) or by value (`values`: -128, ..., 127). Nothing in a file is ever executed.
"""

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from bitproof.approx.base import MULTIPLIERS, Multiplier, ProductTable
from bitproof.approx.convention import suspicion
from bitproof.core.errors import BitproofWarning, ChecksumError, DataError
from bitproof.core.files import write_bytes
from bitproof.data.layout import data_root
from bitproof.data.packed import read_arrays
from bitproof.kernels.forms import WORDS

LARGEST = 2**31 - 1


@MULTIPLIERS.register
class Stored(Multiplier):
    """Read the products from a file: relative to the working directory or to the data folder.

    Example:
        >>> Stored(path="mine.csv", signed=True).order
        'codes'
    """

    kind: Literal["table"] = "table"
    path: str
    """An npz file, or one that ends in .csv: 65,536 whole numbers with commas, spaces or line ends
    between them."""
    signed: bool
    """Operands are int8 in two's complement; else uint8."""
    array: str = "products"
    """Name of the array in an npz file: 256 x 256 integers."""
    order: Literal["codes", "values"] = "codes"
    """Whether rows and columns count bit patterns, or signed values from -128 up."""
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Checksum of the file; it makes the digest one of the products. Empty: not checked."""

    def table(self, data_dir: Path | str | None = None) -> ProductTable:
        """Return the products in the file.

        Warns (`BitproofWarning`) where they look as if they followed another convention; see
        `convention`.

        Raises:
            DataError: the file is missing or malformed, or holds something else.
            ChecksumError: it is not the file of the checksum.
        """
        path = self._find(data_dir)
        if self.sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
            raise ChecksumError(f"{path}: wanted sha256 {self.sha256}, got another")
        csv = path.suffix == ".csv"
        numbers = _read_csv(path) if csv else read_products(path, [self.array])[0]
        largest = max(abs(int(numbers.min())), abs(int(numbers.max())))
        if largest > LARGEST:
            raise DataError(f"{path}: wanted products of 32 bits, got {largest}")
        if wrong := suspicion(numbers, signed=self.signed, order=self.order):
            warnings.warn(f"{path}: {wrong}", BitproofWarning, stacklevel=2)
        products = torch.from_numpy(numbers.astype(np.int32))
        if self.signed and self.order == "values":
            products = products.roll((WORDS // 2, WORDS // 2), (0, 1))
        return ProductTable(products, self.signed)

    def _find(self, data_dir: Path | str | None) -> Path:
        path = Path(self.path).expanduser()
        root = None if path.is_absolute() or path.is_file() else data_root(data_dir)
        path = root / path if root else path
        if not path.is_file():
            raise DataError(f"{path}: wanted a file of products, there is none")
        return path


def write_products(path: Path, table: ProductTable) -> None:
    """Write the products of a table to an npz file, for `Stored` to read.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, products=table.products.numpy())
    write_bytes(path, buffer.getvalue())


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


def _read_csv(path: Path) -> np.ndarray:
    try:
        codes = path.read_text(encoding="utf-8").replace(",", " ").split()
        numbers = np.array([int(word) for word in codes])
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: wanted whole numbers: {error}") from None
    if len(numbers) != WORDS * WORDS:
        raise DataError(f"{path}: wanted {WORDS * WORDS} numbers, got {len(numbers)}")
    return numbers.reshape(WORDS, WORDS)
