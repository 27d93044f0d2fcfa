"""Signs around a multiplier of magnitudes.

Model:  the magnitude of -2^(n-1) is 2^(n-1), which n bits hold; the product is negated where the
        signs of the operands differ.
Source: METHODS C.2.
"""

from amaranth import Elaboratable, Module, Mux, Signal, signed

from bitproof.circuits.rtl.ports import MultiplierModule


class Magnitude(Elaboratable):
    """The magnitude of a word."""

    def __init__(self, width: int) -> None:
        self.a = Signal(signed(width))
        self.magnitude = Signal(width)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.d.comb += self.magnitude.eq(Mux(self.a[-1], -self.a, self.a))
        return m


class Sign(Elaboratable):
    """Gives a product its sign."""

    def __init__(self, width: int) -> None:
        self.a = Signal()
        self.b = Signal()
        self.magnitude = Signal(2 * width)
        self.p = Signal(signed(2 * width))

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.d.comb += self.p.eq(Mux(self.a ^ self.b, -self.magnitude, self.magnitude))
        return m


class SignedModule(MultiplierModule):
    """An unsigned multiplier of magnitudes, and signs around it."""

    def __init__(self, inner: MultiplierModule) -> None:
        super().__init__(inner.width, is_signed=True)
        self.inner = inner
        self.detected = None if inner.detected is None else Signal(name="detected")

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        inner = m.submodules.multiplier = self.inner
        for name, word, place in (("a", self.a, inner.a), ("b", self.b, inner.b)):
            m.submodules[f"magnitude_{name}"] = magnitude = Magnitude(self.width)
            m.d.comb += [magnitude.a.eq(word), place.eq(magnitude.magnitude)]
        m.submodules.sign = sign = Sign(self.width)
        m.d.comb += [
            sign.a.eq(self.a[-1]),
            sign.b.eq(self.b[-1]),
            sign.magnitude.eq(inner.p),
            self.p.eq(sign.p),
        ]
        if self.detected is not None:
            m.d.comb += self.detected.eq(inner.detected)
        return m
