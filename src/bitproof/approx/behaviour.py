"""What the circuits of `bitproof.circuits` should compute, by formulas that know no gates.

Model:  each design has a formula of this subpackage; three copies have that of one. Signs go around
        an unsigned formula where they go around the circuit.
"""

from collections.abc import Callable

import torch

from bitproof.approx.adam import Adam
from bitproof.approx.base import Formula, Numbers, sign_magnitude
from bitproof.approx.leading_one import Drum, TruncatedMitchell
from bitproof.approx.partial_products import Exact
from bitproof.circuits.built_in import (
    AdamCircuit,
    DrumCircuit,
    ExactCircuit,
    MitchellCircuit,
    TruncatedCircuit,
    VotedCircuit,
)
from bitproof.circuits.design import Design

Behaviour = Callable[[Numbers, Numbers], Numbers]


def behaviour_of(design: Design) -> Behaviour | None:
    """Return the products of a design by formula; None for kinds that have none here.

    Example:
        >>> multiply = behaviour_of(VotedCircuit(of=MitchellCircuit()))
        >>> multiply is not None and multiply(torch.tensor([3]), torch.tensor([3]))
        tensor([8])
    """
    if isinstance(design, VotedCircuit):
        return behaviour_of(design.of)
    unsigned = _unsigned(design)
    if unsigned is None or not design.signed:
        return unsigned
    return lambda first, second: sign_magnitude(unsigned, first, second)


def _unsigned(design: Design) -> Behaviour | None:
    formula: Formula
    match design:
        case ExactCircuit():
            formula = Exact()
        case MitchellCircuit():
            formula = TruncatedMitchell(mantissa=design.bits)
        case DrumCircuit():
            formula = Drum(width=design.segment)
        case AdamCircuit():
            shared = set(Adam.model_fields) & set(type(design).model_fields) - {"kind", "signed"}
            formula = Adam(**{name: getattr(design, name) for name in shared})
        case TruncatedCircuit():
            return _truncated(design.columns, design.width)
        case _:
            return None
    return formula.product


def _truncated(columns: int, width: int) -> Behaviour:
    """Return exact products without what lies in the lowest columns."""

    def product(first: Numbers, second: Numbers) -> Numbers:
        total = torch.zeros_like(first)
        for j in range(width):
            low = max(columns - j, 0)  # bits of the first operand that are left out of this row
            total += ((first >> low << low) * (second >> j & 1)) << j
        return total

    return product
