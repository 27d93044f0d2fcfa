"""A multiplier the other way round: the activation at the second port, the weight at the first."""

from pathlib import Path
from typing import Literal

from bitproof.approx.base import MULTIPLIERS, AnyMultiplier, Multiplier
from bitproof.approx.product_table import ProductTable
from bitproof.stats import Cost


@MULTIPLIERS.register
class Swapped(Multiplier):
    """Exchange the operands of another multiplier; it matters to those that do not commute.

    Example:
        >>> from bitproof.approx import Perforated
        >>> table = Swapped(of=Perforated(rows=1)).table()
        >>> int(table.products[3, 2]), int(table.products[2, 3])
        (4, 6)
    """

    kind: Literal["swapped"] = "swapped"
    of: AnyMultiplier
    """The multiplier whose operands change places."""

    def table(self, data_dir: Path | None = None) -> ProductTable:
        """Return the transposed table."""
        return self.of.table(data_dir).swapped()

    def cost(self, data_dir: Path | None = None) -> Cost | None:
        """Return what the circuit takes: exchanging wires is free."""
        return self.of.cost(data_dir)
