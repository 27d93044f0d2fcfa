"""Triple modular redundancy: three copies of a multiplier and a voter.

Model:  each bit of the product is that of two copies at least; the voter is there once.
Source: Lyons and Vanderkulk, "The Use of Triple-Modular Redundancy to Improve Computer
        Reliability", 1962; METHODS C.2.
"""

from collections.abc import Callable

from amaranth import Elaboratable, Module, Signal

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
