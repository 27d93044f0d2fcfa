"""Circuits around a multiplier: three copies with a voter, or sign and magnitude.

Model:  triple modular redundancy: each bit of the product is that of two copies at least; the voter
        is there once. Sign and magnitude: the magnitude of -2^(n-1) is 2^(n-1), which n bits hold.
Source: Lyons and Vanderkulk, "The Use of Triple-Modular Redundancy to Improve Computer
        Reliability", 1962; METHODS C.2.
"""

from collections.abc import Callable

from amaranth import Elaboratable, Module, Mux, Signal, signed

from bitproof.circuits.rtl.ports import MultiplierModule

COPIES = 3


class Voter(Elaboratable):
    """Majority of three words, bit by bit."""

    def __init__(self, bits: int) -> None:
        self.words = [Signal(bits, name=f"word_{i}") for i in range(COPIES)]
        self.p = Signal(bits)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        one, other, third = self.words
        m.d.comb += self.p.eq((one & other) | (one & third) | (other & third))
        return m


class VotedModule(MultiplierModule):
    """Three copies and a voter."""

    def __init__(
        self, width: int, copy: Callable[[], MultiplierModule], *, is_signed: bool
    ) -> None:
        super().__init__(width, is_signed=is_signed)
        self.copy = copy

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.submodules.voter = voter = Voter(2 * self.width)
        for i, word in enumerate(voter.words):
            inner = self.copy()
            self.connect(m, inner, f"copy_{i}")
            m.d.comb += word.eq(inner.p)
        m.d.comb += self.p.eq(voter.p)
        return m


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
