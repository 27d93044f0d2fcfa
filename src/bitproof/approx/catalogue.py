"""Multipliers in lists and reports: built-in settings worth a line, descriptions."""

from functools import cache
from pathlib import Path
from typing import Any

import torch

from bitproof.approx.adam import Adam
from bitproof.approx.base import Multiplier, ProductTable
from bitproof.approx.circuit import CircuitMultiplier, gates_of
from bitproof.approx.figures import error_figures
from bitproof.approx.leading_one import Drum, Loba, Mitchell, Roba, TruncatedMitchell
from bitproof.approx.naming import short_name
from bitproof.approx.partial_products import (
    BrokenArray,
    Exact,
    Kulkarni,
    LowerOr,
    Perforated,
    Truncated,
    TruncatedOperands,
)
from bitproof.approx.wrapped import SignMagnitude, Swapped, inside
from bitproof.circuits import Design, ExactCircuit, unit_gates
from bitproof.circuits.activity import activity, uniform_pairs

BREAKS = ((1, 3), (1, 4), (2, 5), (2, 6), (3, 6), (3, 7))
"""Rows and columns of the broken arrays in the list."""


def catalogue(*, signed: bool) -> list[Multiplier]:
    """Return built-in multipliers at settings from mild to coarse.

    Example:
        >>> [short_name(multiplier) for multiplier in catalogue(signed=True)[:2]]
        ['exact:signed=true', 'truncated:columns=2,signed=true']
    """
    return [
        Exact(signed=signed),
        *(Truncated(signed=signed, columns=columns) for columns in range(2, 8)),
        *(TruncatedOperands(signed=signed, bits=bits) for bits in (1, 2, 3, 4)),
        *(Perforated(signed=signed, rows=rows) for rows in (1, 2, 3, 4, 6)),
        *(BrokenArray(signed=signed, rows=rows, columns=columns) for rows, columns in BREAKS),
        *(LowerOr(signed=signed, columns=columns) for columns in (2, 4, 6, 8)),
        *(Drum(signed=signed, width=width) for width in (3, 4, 5, 6)),
        *(Loba(signed=signed, width=3, level=level) for level in (0, 1, 2, 3)),
        *(Loba(signed=signed, width=4, level=level) for level in (0, 1, 2)),
        Mitchell(signed=signed),
        *(TruncatedMitchell(signed=signed, mantissa=mantissa) for mantissa in (5, 4, 3)),
        Adam(signed=signed, compensate=True),
        Adam(signed=signed, drop=False, compensate=True),
        Kulkarni(signed=signed),
        Roba(signed=signed),
    ]


def same_products(table: ProductTable) -> list[Multiplier]:
    """Return the multipliers of the catalogue with the same products, either way round.

    Example:
        >>> [short_name(each) for each in same_products(Perforated(rows=2).table().swapped())]
        ['swapped:perforated:rows=2']
    """
    found: list[Multiplier] = []
    for multiplier in catalogue(signed=table.signed):
        known = multiplier.table()
        if torch.equal(known.products, table.products):
            found.append(multiplier)
        elif torch.equal(known.products.T, table.products):
            found.append(Swapped(of=multiplier))
    return found


def describe(multiplier: Multiplier, data_dir: Path | str | None = None) -> dict[str, Any]:
    """Return JSON values: `label`, `signed`, cost (None where unpublished), and error figures.

    `power_share` is the power of a circuit as a share of the exact one's, by counting gates; None
    for what is no circuit. `signed` is that of the operands, `circuit_signed` that of the circuit
    that is paid for: an unsigned one may stand between sign bits.

    Raises:
        DataError: the kind reads a file, and that is missing or malformed.

    Example:
        >>> from bitproof.approx import Truncated
        >>> metadata = describe(Truncated(columns=2, signed=True))
        >>> metadata["label"], metadata["signed"], metadata["power_mw"], metadata["wce"]
        ('truncated:columns=2,signed=true', True, None, 5)
    """
    table, cost = multiplier.table(data_dir), multiplier.cost(data_dir)
    costs = dict.fromkeys(("power_mw", "area_um2", "delay_ns", "source"))
    costs |= cost.model_dump() if cost else {}
    costs["power_share"] = power_share(multiplier)
    own = table.signed and not isinstance(inside(multiplier), SignMagnitude)
    signs = {"signed": table.signed, "circuit_signed": own}
    return {"label": short_name(multiplier), **signs, **costs, **vars(error_figures(table))}


def power_share(multiplier: Multiplier) -> float | None:
    """Return the power of a circuit as a share of that of the exact one, by the unit-gate model.

    Gates that switch are counted, operands all as likely; see `circuits.unit_gates`. None: it is
    no circuit, so that nobody knows its gates.

    Raises:
        AdapterError: Amaranth or Yosys is not installed.

    Example:
        >>> power_share(Exact()), power_share(Drum(width=4))
        (1.0, None)
    """
    if isinstance(multiplier, Exact):
        return 1.0
    if not isinstance(multiplier, CircuitMultiplier):
        return None
    whole = ExactCircuit(signed=multiplier.design.signed)
    return _gates_switched(multiplier.design) / _gates_switched(whole)


@cache
def _gates_switched(design: Design) -> float:
    netlist = gates_of(design)
    return unit_gates.power(netlist, activity(netlist, uniform_pairs(netlist), "uniform"))
