"""Multipliers around another one: operands exchanged, or an unsigned circuit between sign bits.

Model:  exchanged, the circuit has the activation at its second port and the weight at its first.
        Between sign bits, magnitudes go into the circuit (that of -128 is 128, which 8 bits hold),
        and the product is negated where the signs of the operands differ. Of the circuit's table,
        only operands from 0 to 128 are ever used. The sign of 0 is plus: a circuit that makes
        something of 0 times a negative operand has that negated.
"""

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from bitproof.approx.base import (
    MULTIPLIERS,
    AnyMultiplier,
    Multiplier,
    ProductTable,
    operand_pairs,
    sign_magnitude,
)
from bitproof.core.errors import SpecError, shorten
from bitproof.stats import Cost


class Wrapped(Multiplier):
    """A multiplier that uses another one, and costs what that one costs."""

    of: AnyMultiplier
    """The multiplier inside."""

    def cost(self, data_dir: Path | str | None = None) -> Cost | None:
        """Return what the circuit takes: exchanged wires are free, gates for signs not counted."""
        return self.of.cost(data_dir)


@MULTIPLIERS.register
class Swapped(Wrapped):
    """Exchange the operands of another multiplier; it matters to those that do not commute.

    Example:
        >>> from bitproof.approx import Perforated
        >>> table = Swapped(of=Perforated(rows=1)).table()
        >>> int(table.products[3, 2]), int(table.products[2, 3])
        (4, 6)
    """

    kind: Literal["swapped"] = "swapped"

    def table(self, data_dir: Path | str | None = None) -> ProductTable:
        """Return the transposed table."""
        return self.of.table(data_dir).swapped()


@MULTIPLIERS.register
class SignMagnitude(Wrapped):
    """Multiply signed operands with an unsigned multiplier, which gets their magnitudes.

    Example:
        >>> from bitproof.approx import Perforated
        >>> table = SignMagnitude(of=Perforated(rows=1)).table()
        >>> int(table.products[-2, 3]), table.signed
        (-4, True)
    """

    kind: Literal["sign_magnitude"] = "sign_magnitude"

    @model_validator(mode="after")
    def _check_signs(self) -> "SignMagnitude":
        inner = inside(self.of)
        if isinstance(inner, SignMagnitude) or getattr(inner, "signed", False):
            raise ValueError(
                f"of: wanted an unsigned multiplier, got {shorten(self.of)}, a signed one"
            )
        return self

    def table(self, data_dir: Path | str | None = None) -> ProductTable:
        """Return the signed products.

        Raises:
            SpecError: the multiplier is signed after all, which some kinds know from a file.
        """
        inner = self.of.table(data_dir)
        if inner.signed:
            raise SpecError(
                f"{self.kind}.of: wanted an unsigned multiplier, got {shorten(self.of)}"
            )
        products = sign_magnitude(
            lambda first, second: inner.products[first, second].long(), *operand_pairs(signed=True)
        )
        return ProductTable(products.int(), signed=True)


def inside(multiplier: Multiplier) -> Multiplier:
    """Return what is left when operands are no longer exchanged.

    Example:
        >>> from bitproof.approx import Exact
        >>> inside(Swapped(of=Exact())).kind
        'exact'
    """
    while isinstance(multiplier, Swapped):
        multiplier = multiplier.of
    return multiplier
