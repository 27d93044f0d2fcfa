"""What a report says of a multiplier: name, cost and error figures, as plain values."""

from pathlib import Path
from typing import Any

from bitproof.approx.base import Multiplier
from bitproof.approx.catalogue import short_name
from bitproof.approx.figures import error_figures
from bitproof.approx.sign_magnitude import SignMagnitude
from bitproof.approx.swapped import Swapped


def describe(multiplier: Multiplier, data_dir: Path | None = None) -> dict[str, Any]:
    """Return JSON values: `label`, `signed`, cost (None where unpublished), and error figures.

    `signed` is that of the operands, `circuit_signed` that of the circuit that is paid for: an
    unsigned one may stand between sign bits.

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
    figures = error_figures(table)
    signs = {
        "signed": table.signed,
        "circuit_signed": table.signed and not _has_sign_bits(multiplier),
    }
    return {"label": short_name(multiplier), **signs, **costs, **vars(figures)}


def _has_sign_bits(multiplier: Multiplier) -> bool:
    """Return whether signs go around the circuit, in gates of their own."""
    while isinstance(multiplier, Swapped):
        multiplier = multiplier.of
    return isinstance(multiplier, SignMagnitude)
