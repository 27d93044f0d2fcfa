"""What every multiplier is: a value that gives its 65,536 products, and the registry of kinds.

Model:  `products[i, j]` is what comes out for the stored words i (first operand) and j (second
        operand), both taken as raw bit patterns. Rows are the activation, columns the weight.
        A signed table is indexed by the patterns of two's complement: row 255 is -1.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, TypeVar, final

import torch
from jaxtyping import Int32, Int64, Num
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor

from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.kernels.forms import WORDS, exact_products, operand_values
from bitproof.stats import Cost

Numbers = Int64[Tensor, "*shape"]
Multiply = Callable[[Tensor, Tensor], Tensor]
"""Takes two tensors of numbers and returns their products, element by element."""


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


class Multiplier(Spec):
    """A circuit that multiplies two words of 8 bits, perhaps not exactly.

    The first operand is the activation and the second the weight: rows and columns of the table.
    `Swapped` gives the same circuit the other way round.
    """

    kind: str

    @abstractmethod
    def table(self, data_dir: Path | str | None = None) -> ProductTable:
        """Return all products; kinds that read data do so from `data_dir` (see `data_root`).

        Raises:
            DataError: the kind reads a file, and that is missing or malformed.
            AdapterError: the kind needs a package that is not installed.
        """

    def cost(self, data_dir: Path | str | None = None) -> Cost | None:  # noqa: ARG002
        """Return what the circuit takes, or None where nobody published it.

        Raises:
            DataError: the kind reads a file, and that is missing or malformed.
        """
        return None


MULTIPLIERS: Registry[Multiplier] = Registry("multipliers")
"""Every multiplier, by kind."""

AnyMultiplier = Annotated[SerializeAsAny[Multiplier], BeforeValidator(MULTIPLIERS.validate)]


class Formula(Multiplier):
    """A multiplier that is computed.

    One step deeper than usual, because multipliers that are read from files have no `signed`.
    """

    signed: bool = False
    """Operands are int8 in two's complement; else uint8."""

    @abstractmethod
    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return products of numbers from -128 to 127, or 0 to 255 if unsigned, by element."""

    @final
    def table(self, data_dir: Path | str | None = None) -> ProductTable:  # noqa: ARG002
        """Return the products of all pairs."""
        products = self.product(*operand_pairs(signed=self.signed))
        return ProductTable(products.int(), self.signed)


def operand_pairs(*, signed: bool) -> tuple[Numbers, Numbers]:
    """Return the first and the second operands of all pairs, in the order of a table."""
    operands = operand_values(signed=signed).long()
    first, second = torch.meshgrid(operands, operands, indexing="ij")
    return first, second


F = TypeVar("F", bound=Formula)


def on_magnitudes(
    multiply: Callable[[F, Numbers, Numbers], Numbers],
) -> Callable[[F, Numbers, Numbers], Numbers]:
    """Let a `product` of magnitudes serve signed operands too, as sign and magnitude."""

    @wraps(multiply)
    def product(self: F, first: Numbers, second: Numbers) -> Numbers:
        return sign_magnitude(partial(multiply, self), first, second)

    return product


def sign_magnitude(multiply: Multiply, first: Numbers, second: Numbers) -> Numbers:
    """Return signed products made by an unsigned multiplier.

    Example:
        >>> import operator
        >>> sign_magnitude(operator.mul, torch.tensor([-128]), torch.tensor([127]))
        tensor([-16256])
    """
    product = multiply(first.abs(), second.abs())
    return torch.where((first < 0) ^ (second < 0), -product, product)
