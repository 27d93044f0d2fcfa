"""Circuits of the generator ArithsGen, simulated gate by gate.

Model:  the package builds a netlist for two 8-bit buses and translates it into Python, which is
        called once with all 65,536 pairs. The cuts are those of its documentation: broken arrays
        leave out rows above the horizontal cut and columns right of the vertical one, truncated
        arrays the lowest bits of both operands. Its broken carry-save array is left out: in version
        1.1.4 it loses carries from a vertical cut of 7 on.
Source: Klhufek, Mrazek, "ArithsGen: Arithmetic Circuit Generator for Hardware Accelerators",
        DDECS 2022; needs the package `ariths-gen` (MIT).
"""

from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import model_validator

from bitproof.approx.base import MULTIPLIERS, Multiplier, ProductTable
from bitproof.core.errors import AdapterError
from bitproof.core.packages import Package
from bitproof.core.types import Index
from bitproof.kernels.forms import WORDS

PACKAGE = "ariths_gen"
ACCURATE = "multi_bit_circuits.multipliers"
APPROXIMATE = "multi_bit_circuits.approximate_multipliers"
CUTS = {
    "UnsignedBrokenArrayMultiplier": ("horizontal_cut", "vertical_cut"),
    "UnsignedTruncatedArrayMultiplier": ("truncation_cut",),
    "UnsignedTruncatedCarrySaveMultiplier": ("truncation_cut",),
}
"""Circuits that are approximate, and what they take."""


@MULTIPLIERS.register
class ArithsGen(Multiplier):
    """A circuit that ArithsGen generates; needs the package `ariths-gen`.

    Example:
        >>> ArithsGen(circuit="SignedDaddaMultiplier").circuit
        'SignedDaddaMultiplier'
    """

    packages: ClassVar[tuple[Package, ...]] = (
        Package(PACKAGE, wanted_by="ariths_gen", install="pip install 'bitproof[ariths]'"),
    )

    kind: Literal["ariths_gen"] = "ariths_gen"
    circuit: Literal[
        "UnsignedArrayMultiplier",
        "UnsignedCarrySaveMultiplier",
        "UnsignedDaddaMultiplier",
        "UnsignedWallaceMultiplier",
        "SignedArrayMultiplier",
        "SignedCarrySaveMultiplier",
        "SignedDaddaMultiplier",
        "SignedWallaceMultiplier",
        "UnsignedBrokenArrayMultiplier",
        "UnsignedTruncatedArrayMultiplier",
        "UnsignedTruncatedCarrySaveMultiplier",
    ]
    """Class of the package."""
    horizontal_cut: Index = 0
    """Rows that a broken array leaves out."""
    vertical_cut: Index = 0
    """Columns that a broken array leaves out; no less than `horizontal_cut`."""
    truncation_cut: Index = 0
    """Lowest bits of both operands that a truncated array leaves out."""

    @model_validator(mode="after")
    def _check_cuts(self) -> "ArithsGen":
        for name in ("horizontal_cut", "truncation_cut", "vertical_cut"):
            if getattr(self, name) and name not in CUTS.get(self.circuit, ()):
                raise ValueError(f"wanted no {name} for {self.circuit}")
        if not (self.horizontal_cut <= self.vertical_cut < 16 and self.horizontal_cut < 8):
            raise ValueError(
                "wanted horizontal_cut of at most 7 and at most vertical_cut, which is at most 15"
            )
        if self.truncation_cut > 7:
            raise ValueError(f"wanted truncation_cut of at most 7, got {self.truncation_cut}")
        return self

    def table(self, data_dir: Path | str | None = None) -> ProductTable:  # noqa: ARG002
        """Return what the simulated netlist says for all pairs.

        Raises:
            AdapterError: the package is not installed.
        """
        cuts = CUTS.get(self.circuit, ())
        bus = _package("wire_components").Bus
        circuit = getattr(_package(APPROXIMATE if cuts else ACCURATE), self.circuit)
        netlist = circuit(bus("a", 8), bus("b", 8), **{name: getattr(self, name) for name in cuts})
        first, second = np.indices((WORDS, WORDS)).reshape(2, -1)
        # A circuit that has no cell left returns one number.
        products = np.broadcast_to(netlist(first, second), first.shape).astype(np.int32)
        table = torch.from_numpy(products).reshape(WORDS, WORDS)
        return ProductTable(table, self.circuit.startswith("Signed"))


def _package(module: str) -> Any:
    try:
        return import_module(f"{PACKAGE}.{module}")
    except ImportError as error:
        raise AdapterError(
            f"ariths_gen: wanted the package ariths-gen (pip install ariths-gen): {error}"
        ) from error
