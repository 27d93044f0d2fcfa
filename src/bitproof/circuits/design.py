"""Multipliers that are made here: each a spec that gives its hardware description.

Model:  a design gives a module with operands a and b and product p, of `width` and twice as many
        bits; perhaps a wire `detected`. Unsigned designs take signed operands as sign and
        magnitude, in blocks of their own around them.
"""

from abc import abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, final

from pydantic import BeforeValidator, Field, SerializeAsAny

from bitproof.circuits.yosys import PYOSYS, Source
from bitproof.core.packages import Package
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec

if TYPE_CHECKING:
    from bitproof.circuits.rtl.ports import MultiplierModule

AMARANTH = Package("amaranth", wanted_by="circuits", install="pip install 'bitproof[circuits]'")
Width = Annotated[int, Field(ge=4, le=16, strict=True)]


class Design(Spec):
    """A multiplier, described as hardware."""

    packages: ClassVar[tuple[Package, ...]] = (AMARANTH, PYOSYS)

    kind: str
    width: Width = 8
    """Bits of an operand."""
    signed: bool = False
    """Operands are in two's complement."""

    @property
    def label(self) -> str:
        """Return what tables call it."""
        return self.kind.replace("_", " ")

    @property
    def own_signs(self) -> bool:
        """Whether the circuit itself takes signed operands; else signs go around it."""
        return False

    @abstractmethod
    def core(self) -> "MultiplierModule":
        """Return the module, without what goes around it for signs."""

    @final
    def module(self) -> "MultiplierModule":
        """Return the module.

        Raises:
            AdapterError: Amaranth is not installed.
        """
        AMARANTH.load()
        from bitproof.circuits.rtl.sign_magnitude import SignedModule  # noqa: PLC0415 - needs amaranth

        core = self.core()
        return SignedModule(core) if self.signed and not self.own_signs else core

    @final
    def source(self) -> Source:
        """Return the hardware description, as RTLIL.

        Raises:
            AdapterError: Amaranth is not installed.
        """
        return _source(self)


DESIGNS: Registry[Design] = Registry("circuits")
"""Every design, by kind."""

AnyDesign = Annotated[SerializeAsAny[Design], BeforeValidator(DESIGNS.validate)]


@lru_cache(maxsize=256)
def _source(design: Design) -> Source:
    module = design.module()
    from amaranth.back import rtlil  # noqa: PLC0415 - an extra

    text = rtlil.convert(module, ports=module.ports, name=design.kind, emit_src=False)
    return Source({f"{design.kind}.il": text}, design.kind)
