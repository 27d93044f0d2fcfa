"""The designs: exact and approximate multipliers, AdAM, and three copies of any.

Model:  METHODS C.2. AdAM's table `checked` says, for each place of the leading one of both operands
        together, how many of the highest mantissa bits are computed a second time; where cells of
        the adder are lent for that, as many of the lowest bits are lost.
Source: Taheri et al., AdAM, ETS 2024; others in `rtl`.
"""

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from bitproof.circuits.design import DESIGNS, AnyDesign, Design
from bitproof.core.types import Index

if TYPE_CHECKING:
    from bitproof.circuits.rtl.ports import MultiplierModule

Mantissa = Annotated[int, Field(ge=2, le=15, strict=True)]
D = TypeVar("D", bound=Design)
USUAL_MANTISSA = 5
"""Mantissa bits in the paper's example."""
FEW_CHECKED = 1
"""Bits that AdAM checks while leading ones are low; elsewhere 2."""


@DESIGNS.register
class ExactCircuit(Design):
    """Multiply exactly.

    Example:
        >>> ExactCircuit(tree="dadda").label
        'exact dadda'
    """

    kind: Literal["exact"] = "exact"
    tree: Literal["operator", "array", "wallace", "dadda", "booth"] = "operator"
    """How partial products are added; `operator`: as synthesis likes."""

    @property
    def label(self) -> str:
        """Return what tables call it."""
        return "exact" if self.tree == "operator" else f"exact {self.tree}"

    @property
    def own_signs(self) -> bool:
        """Signed operands go into the circuit."""
        return True

    def core(self) -> "MultiplierModule":
        """Return the module."""
        from bitproof.circuits.rtl.summation import Operator, Summation  # noqa: PLC0415

        if self.tree == "operator":
            return Operator(self.width, is_signed=self.signed)
        return Summation(self.width, is_signed=self.signed, tree=self.tree)


@DESIGNS.register
class TruncatedCircuit(Design):
    """Leave out the partial products of the lowest columns, as `truncated` in `approx` does.

    Example:
        >>> TruncatedCircuit(columns=5).label
        'truncated, 5 columns'
    """

    kind: Literal["truncated"] = "truncated"
    columns: Index = 4
    """Columns that are left out."""

    @property
    def label(self) -> str:
        """Return what tables call it."""
        return f"truncated, {self.columns} columns"

    def core(self) -> "MultiplierModule":
        """Return the module."""
        from bitproof.circuits.rtl.summation import Summation  # noqa: PLC0415

        lowest = self.columns
        return Summation(
            self.width, is_signed=False, tree="wallace", keep=lambda i, j: i + j >= lowest
        )


@DESIGNS.register
class MitchellCircuit(Design):
    """Add logarithms; mantissas may be cut.

    Example:
        >>> MitchellCircuit(mantissa=5).label, MitchellCircuit().bits
        ('Mitchell, t = 5', 7)
    """

    kind: Literal["mitchell"] = "mitchell"
    mantissa: Mantissa | None = None
    """Bits behind the leading one that are kept (t); None: all."""

    @model_validator(mode="after")
    def _check_mantissa(self) -> "MitchellCircuit":
        return _checked(self, self.bits)

    @property
    def bits(self) -> int:
        """Bits behind the leading one."""
        return self.width - 1 if self.mantissa is None else self.mantissa

    @property
    def label(self) -> str:
        """Return what tables call it."""
        return "Mitchell" if self.bits == self.width - 1 else f"Mitchell, t = {self.mantissa}"

    def core(self) -> "MultiplierModule":
        """Return the module."""
        from bitproof.circuits.rtl.logarithm import LogarithmicModule  # noqa: PLC0415

        return LogarithmicModule(self.width, self.bits)


@DESIGNS.register
class DrumCircuit(Design):
    """Multiply segments at the leading ones.

    Example:
        >>> DrumCircuit(segment=6).label
        'DRUM-6'
    """

    kind: Literal["drum"] = "drum"
    segment: Annotated[int, Field(ge=3, le=8, strict=True)] = 4
    """Bits of a segment."""

    @model_validator(mode="after")
    def _check_segment(self) -> "DrumCircuit":
        if self.segment >= self.width:
            raise ValueError(
                f"segment: wanted less than the width, {self.width}, got {self.segment}"
            )
        return self

    @property
    def label(self) -> str:
        """Return what tables call it."""
        return f"DRUM-{self.segment}"

    def core(self) -> "MultiplierModule":
        """Return the module."""
        from bitproof.circuits.rtl.segment import DrumModule  # noqa: PLC0415

        return DrumModule(self.width, self.segment)


@DESIGNS.register
class AdamCircuit(Design):
    """Add logarithms, and check the highest mantissa bits with idle cells.

    Example:
        >>> design = AdamCircuit()
        >>> design.checks, design.lost
        ((1, 1, 2, 2, 2, 2, 2, 2), (0, 0, 0, 0, 1, 2, 2, 2))
    """

    kind: Literal["adam"] = "adam"
    mantissa: Mantissa = USUAL_MANTISSA
    """Bits behind the leading one that are kept (t)."""
    checked: tuple[Index, ...] | None = None
    """Highest mantissa bits that are checked (r), by the place of the leading one of `a | b`, from
    0 on; None: 1 up to place 1, 2 from there on."""
    drop: bool = True
    """Lend cells of the adder, whose bits are lost where they were needed; False: a checker of its
    own, and no bits are lost."""
    protect_characteristic: bool = False
    """Add characteristics twice, and set the bits that differ to zero."""
    compensate: bool = False
    """Add a unit of the lowest kept bit where bits behind it may have been cut: their mean."""

    @model_validator(mode="after")
    def _check_table(self) -> "AdamCircuit":
        _checked(self, self.mantissa)
        if len(self.checks) != self.width:
            raise ValueError(
                f"checked: wanted {self.width} numbers, one for each place, got {len(self.checks)}"
            )
        most = self.mantissa // 2 if self.drop else self.mantissa
        if max(self.checks) > most:
            raise ValueError(
                f"checked: wanted at most {most} of {self.mantissa} mantissa bits"
                f"{' while cells are lent (drop)' if self.drop else ''}, got {max(self.checks)}"
            )
        return self

    @property
    def checks(self) -> tuple[int, ...]:
        """Bits that are checked, by the place of the highest leading one."""
        if self.checked is not None:
            return self.checked
        most = self.mantissa // 2 if self.drop else self.mantissa
        return tuple(min(FEW_CHECKED if k <= 1 else 2, most) for k in range(self.width))

    @property
    def lost(self) -> tuple[int, ...]:
        """Lowest mantissa bits that carry something and are lost, by the same place."""
        idle = [self.mantissa - min(self.mantissa, k) for k in range(self.width)]
        return tuple(max(0, r - free) for r, free in zip(self.cut, idle, strict=True))

    @property
    def cut(self) -> tuple[int, ...]:
        """Lowest mantissa bits that are not added, by the same place."""
        return self.checks if self.drop else (0,) * self.width

    @property
    def rounded(self) -> tuple[bool, ...]:
        """Whether a unit is added, by the same place."""
        return tuple(self.compensate and k > self.mantissa - cut for k, cut in enumerate(self.cut))

    @property
    def label(self) -> str:
        """Return what tables call it."""
        options = ["" if self.mantissa == USUAL_MANTISSA else f"t = {self.mantissa}"]
        options += ["" if self.drop else "own checker"]
        options += ["protected characteristic" if self.protect_characteristic else ""]
        options += ["compensated" if self.compensate else ""]
        name = "AdAM" if self.checked is None else f"AdAM {self.checked}"
        return ", ".join(filter(None, (name, *options)))

    def core(self) -> "MultiplierModule":
        """Return the module."""
        from bitproof.circuits.rtl.adam import AdamModule  # noqa: PLC0415

        return AdamModule(
            self.width,
            self.mantissa,
            checked=self.checks,
            rounded=self.rounded,
            lend=self.drop,
            protect_characteristic=self.protect_characteristic,
        )


@DESIGNS.register
class VotedCircuit(Design):
    """Multiply three times and take the majority of each bit.

    Example:
        >>> VotedCircuit(of=ExactCircuit(tree="array")).label
        'TMR of exact array'
    """

    kind: Literal["tmr"] = "tmr"
    of: AnyDesign = ExactCircuit()
    """What is there three times; its width and signs are taken from here."""

    @model_validator(mode="before")
    @classmethod
    def _same_words(cls, values: object) -> object:
        """Let width and signs of the inner circuit be those of this."""
        if isinstance(values, dict):
            inner = DESIGNS.validate(values.get("of", ExactCircuit()))
            words = {name: values[name] for name in ("width", "signed") if name in values}
            values = {**values, "of": {**inner.model_dump(), **words}} if words else values
            if not words:
                values = {**values, "of": inner, "width": inner.width, "signed": inner.signed}
        return values

    @property
    def label(self) -> str:
        """Return what tables call it."""
        return f"TMR of {self.of.label}"

    @property
    def own_signs(self) -> bool:
        """Signs are in the copies."""
        return True

    def core(self) -> "MultiplierModule":
        """Return the module."""
        from bitproof.circuits.rtl.voted import VotedModule  # noqa: PLC0415

        return VotedModule(self.width, self.of.module, is_signed=self.signed)


def _checked(design: D, mantissa: int) -> D:
    if mantissa > design.width - 1:
        raise ValueError(f"mantissa: wanted at most {design.width - 1} bits, got {mantissa}")
    return design
