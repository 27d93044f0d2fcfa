"""What every multiplier has: two operands, a product, perhaps a wire that tells of a fault."""

from abc import abstractmethod

from amaranth import Elaboratable, Module, Signal, signed, unsigned
from amaranth.hdl import Value


class MultiplierModule(Elaboratable):
    """A multiplier of two words."""

    def __init__(self, width: int, *, is_signed: bool = False) -> None:
        word = signed if is_signed else unsigned
        self.width = width
        self.a = Signal(word(width))
        self.b = Signal(word(width))
        self.p = Signal(word(2 * width))
        self.detected: Signal | None = None
        """Tells that a fault was found; None: nobody looks."""

    @abstractmethod
    def elaborate(self, platform: object) -> Module:
        """Return the module."""

    @property
    def ports(self) -> list[Value]:
        """Whatever goes in or comes out."""
        return [self.a, self.b, self.p, *([] if self.detected is None else [self.detected])]

    def connect(self, m: Module, inner: "MultiplierModule", name: str) -> None:
        """Put a multiplier of the same operands into `m`, under `name`."""
        m.submodules[name] = inner
        m.d.comb += [inner.a.eq(self.a), inner.b.eq(self.b)]
