"""What a multiplier is put beside: exact and voted circuits, approximate ones, its options."""

from collections.abc import Sequence
from typing import Any

from bitproof.circuits.design import DESIGNS, Design


def with_rivals(
    wanted: Sequence[Design], *, width: int, mantissa: int, signed: bool
) -> list[Design]:
    """Return the exact circuit, its three copies, rivals, and what was asked for; each label once.

    Example:
        >>> from bitproof.circuits.built_in import AdamCircuit
        >>> found = with_rivals([AdamCircuit()], width=8, mantissa=5, signed=False)
        >>> [design.label for design in found][:2], len(found)
        (['exact', 'TMR of exact'], 12)
    """
    words = {"width": width, "signed": signed}
    tables: list[dict[str, Any]] = [
        {"kind": "exact", **words},
        {"kind": "tmr", "of": {"kind": "exact"}, **words},
        {"kind": "exact", "tree": "dadda", **words},
        {"kind": "truncated", "columns": width // 2, **words},
        {"kind": "drum", "segment": max(3, width // 2), **words},
        {"kind": "mitchell", **words},
        {"kind": "mitchell", "mantissa": mantissa, **words},
        {"kind": "tmr", "of": {"kind": "mitchell", "mantissa": mantissa}, **words},
    ]
    found = [DESIGNS.build(table) for table in tables]
    for design in wanted:
        options: list[dict[str, Any]] = [{}]
        if design.kind == "adam":
            options += [{"drop": False}, {"compensate": True}, {"protect_characteristic": True}]
        known = design.model_dump()
        found += [DESIGNS.build({**known, **more}) for more in options]
    return list({design.label: design for design in found}.values())
