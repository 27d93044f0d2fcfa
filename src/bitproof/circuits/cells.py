"""Kinds of cells: the gates that Yosys maps to by itself, and what a library adds.

Model:  a kind has input pins, and output pins that are Boolean functions of them. What holds a
        state has none: it is known, so that it can be refused by name.
Source: Yosys manual, "Gate-level cells" (simple combinational gates).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bitproof.circuits.logic import Function, parse

STATEFUL = "holds a state or lets go of its output"
"""Why most cells are refused that are."""


@dataclass(frozen=True)
class CellKind:
    """A kind of cell.

    Example:
        >>> GATES["$_NAND_"].outputs["Y"].truth_table == 0b0111
        True
    """

    name: str
    inputs: tuple[str, ...]
    outputs: Mapping[str, Function]
    area: float | None = None
    """In the unit of its library (square micrometres mostly); None: unknown."""
    refused: str = ""
    """Why it cannot be in a circuit here, such as that it holds a state; empty: it can."""


def gate(name: str, inputs: str, function: str) -> CellKind:
    """Return a kind with one output, Y; pins have one letter each."""
    pins = tuple(inputs)
    return CellKind(name, pins, {"Y": parse(function, pins)})


GATES: Mapping[str, CellKind] = {
    kind.name: kind
    for kind in (
        gate("$_BUF_", "A", "A"),
        gate("$_NOT_", "A", "!A"),
        gate("$_AND_", "AB", "A&B"),
        gate("$_NAND_", "AB", "!(A&B)"),
        gate("$_OR_", "AB", "A|B"),
        gate("$_NOR_", "AB", "!(A|B)"),
        gate("$_XOR_", "AB", "A^B"),
        gate("$_XNOR_", "AB", "!(A^B)"),
        gate("$_ANDNOT_", "AB", "A&!B"),
        gate("$_ORNOT_", "AB", "A|!B"),
        gate("$_MUX_", "ABS", "(A&!S)|(B&S)"),
        gate("$_NMUX_", "ABS", "!((A&!S)|(B&S))"),
        gate("$_AOI3_", "ABC", "!((A&B)|C)"),
        gate("$_OAI3_", "ABC", "!((A|B)&C)"),
        gate("$_AOI4_", "ABCD", "!((A&B)|(C&D))"),
        gate("$_OAI4_", "ABCD", "!((A|B)&(C|D))"),
    )
}
"""What Yosys maps to without a library."""
