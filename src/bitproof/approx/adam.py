"""AdAM's products, without faults: logarithms whose low bits are lost where cells check others.

Model:  as `TruncatedMitchell`; of each mantissa, as many of the lowest bits are set to 0 as cells
        are lent to check the highest ones, which depends on the leading one of `a | b`. A unit of
        the lowest bit that is left may be added. What the checker does shows under faults alone:
        `bitproof.circuits` has the gates.
Source: Taheri et al., "AdAM: Adaptive Fault-Tolerant Approximate Multiplier for Edge DNN
        Accelerators", ETS 2024, as METHODS C.2 reads it; compensation is ours.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from bitproof.approx.base import MULTIPLIERS, Formula, Numbers, on_magnitudes
from bitproof.approx.leading_one import leading_one
from bitproof.circuits.built_in import AdamCircuit
from bitproof.circuits.design import DESIGNS
from bitproof.core.types import Index


@MULTIPLIERS.register
class Adam(Formula):
    """Multiply as AdAM does while nothing is broken.

    Example:
        >>> numbers = torch.tensor([7, 100, 255])
        >>> Adam().product(numbers, numbers), Adam(drop=False).product(numbers, numbers)
        (tensor([   48,  8192, 57344]), tensor([   48,  9216, 63488]))
    """

    kind: Literal["adam"] = "adam"
    mantissa: Annotated[int, Field(ge=2, le=15, strict=True)] = 5
    """Bits behind the leading one that are kept (t)."""
    checked: tuple[Index, ...] | None = None
    """Highest mantissa bits that are checked (r), by the place of the leading one of both
    operands; None: 1 up to place 1, 2 from there on."""
    drop: bool = True
    """Lend cells of the adder, whose bits are lost; False: none are."""
    compensate: bool = False
    """Add a unit of the lowest kept bit where bits behind it may have been cut."""
    width: Annotated[int, Field(ge=4, le=16, strict=True)] = 8
    """Bits of an operand; tables are of 8."""

    @model_validator(mode="after")
    def _check_design(self) -> "Adam":
        DESIGNS.build(self.model_dump())
        return self

    @property
    def circuit(self) -> AdamCircuit:
        """The gates."""
        return AdamCircuit(**self.model_dump())

    @on_magnitudes
    def product(self, first: Numbers, second: Numbers) -> Numbers:
        """Return the powers of the sums of logarithms that lost some bits."""
        place, one = leading_one(first | second), 1 << self.mantissa
        cut, rounded = (
            torch.tensor(table, device=first.device)[place].long()
            for table in (self.circuit.cut, self.circuit.rounded)
        )
        total = self._logarithm(first, cut) + self._logarithm(second, cut) + (rounded << cut)
        product = ((one + total % one) << (total // one)) >> self.mantissa
        return torch.where(first * second == 0, 0, product)

    def _logarithm(self, numbers: Numbers, cut: Numbers) -> Numbers:
        """Return logarithms in units of `2**-mantissa`, their lowest bits cut."""
        lead = leading_one(numbers)
        mantissa = ((numbers - (1 << lead)) << self.mantissa) >> lead
        return (lead << self.mantissa) + (mantissa >> cut << cut)
