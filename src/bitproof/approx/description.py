"""What a report tells of a multiplier: name, cost and error figures, as plain values."""

from pathlib import Path
from typing import Any

from bitproof.approx.base import Multiplier
from bitproof.approx.catalogue import short_name
from bitproof.approx.figures import error_figures


def describe(multiplier: Multiplier, data_dir: Path | None = None) -> dict[str, Any]:
    """Return JSON values: `label`, `signed`, cost (None where unpublished), and error figures.

    Raises:
        DataError: the kind reads a file, and that is missing or malformed.

    Example:
        >>> from bitproof.approx import Truncated
        >>> told = describe(Truncated(columns=2, signed=True))
        >>> told["label"], told["signed"], told["power_mw"], told["wce"]
        ('truncated:columns=2,signed=true', True, None, 5)
    """
    table, cost = multiplier.table(data_dir), multiplier.cost(data_dir)
    costs = dict.fromkeys(("power_mw", "area_um2", "delay_ns", "source"))
    costs |= cost.model_dump() if cost else {}
    figures = error_figures(table)
    return {"label": short_name(multiplier), "signed": table.signed, **costs, **vars(figures)}
