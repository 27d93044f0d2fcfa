"""An unsigned circuit between sign bits: how unsigned multipliers come to signed operands.

Model:  magnitudes go into the circuit (that of -128 is 128, which 8 bits hold), and the product is
        negated where the signs of the operands differ. Of the circuit's table, only operands from
        0 to 128 are ever used. The sign of 0 is plus: a circuit that makes something of 0 times a
        negative operand has that negated.
"""

from pathlib import Path
from typing import Literal

import torch
from pydantic import model_validator

from bitproof.approx.base import MULTIPLIERS, AnyMultiplier, Multiplier, sign_magnitude
from bitproof.approx.product_table import ProductTable, operand_values
from bitproof.core.errors import SpecError
from bitproof.stats import Cost


@MULTIPLIERS.register
class SignMagnitude(Multiplier):
    """Multiply signed operands with an unsigned multiplier, which gets their magnitudes.

    Example:
        >>> from bitproof.approx import Perforated
        >>> table = SignMagnitude(of=Perforated(rows=1)).table()
        >>> int(table.products[-2, 3]), table.signed
        (-4, True)
    """

    kind: Literal["sign_magnitude"] = "sign_magnitude"
    of: AnyMultiplier
    """The multiplier of the magnitudes; its operands are unsigned."""

    @model_validator(mode="after")
    def _check_signs(self) -> "SignMagnitude":
        if _is_signed(self.of):
            raise ValueError(f"of: wanted an unsigned multiplier, got {self.of!r}, a signed one")
        return self

    def table(self, data_dir: Path | None = None) -> ProductTable:
        """Return the signed products.

        Raises:
            SpecError: the multiplier is signed after all, which some kinds know from a file.
        """
        inner = self.of.table(data_dir)
        if inner.signed:
            raise SpecError(f"{self.kind}.of: wanted an unsigned multiplier, got {self.of!r}")
        operands = operand_values(signed=True).long()
        first, second = torch.meshgrid(operands, operands, indexing="ij")
        # Not `look_up`, which takes words: here 128 is a number.
        products = sign_magnitude(lambda a, b: inner.products[a, b].long(), first, second)
        return ProductTable(products.int(), signed=True)

    def cost(self, data_dir: Path | None = None) -> Cost | None:
        """Return what the circuit takes; the gates around it, for the signs, are not counted."""
        return self.of.cost(data_dir)


def _is_signed(multiplier: Multiplier) -> bool:
    """Return whether a multiplier says of itself, without a look at its table, that it is."""
    if isinstance(multiplier, SignMagnitude):
        return True
    inner = getattr(multiplier, "of", None)
    if isinstance(inner, Multiplier):
        return _is_signed(inner)
    return bool(getattr(multiplier, "signed", False))
