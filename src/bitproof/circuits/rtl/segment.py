"""DRUM: multiply segments that start at the leading ones, exactly.

Model:  an operand of more than `segment` bits is cut to the `segment` bits from its leading one on,
        the lowest of them set to 1; the product of both segments is shifted back.
Source: Hashemi, Bahar, Reda, "DRUM: A Dynamic Range Unbiased Multiplier for Approximate
        Applications", ICCAD 2015.
"""

from amaranth import C, Cat, Elaboratable, Module, Signal
from amaranth.utils import bits_for

from bitproof.circuits.rtl.logarithm import LeadingOne
from bitproof.circuits.rtl.ports import MultiplierModule


class Segment(Elaboratable):
    """Cuts one operand."""

    def __init__(self, width: int, segment: int) -> None:
        self.width, self.segment = width, segment
        self.a = Signal(width)
        self.k = Signal(bits_for(width - 1))
        self.shift = Signal(bits_for(width - segment))
        self.word = Signal(segment)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.d.comb += self.word.eq(self.a)
        for shift in range(1, self.width - self.segment + 1):
            with m.If(self.k == shift + self.segment - 1):
                cut = self.a[shift + 1 : shift + self.segment]
                m.d.comb += [self.word.eq(Cat(C(1, 1), cut)), self.shift.eq(shift)]
        return m


class Product(Elaboratable):
    """The exact product of two segments."""

    def __init__(self, segment: int) -> None:
        self.a = Signal(segment)
        self.b = Signal(segment)
        self.p = Signal(2 * segment)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.d.comb += self.p.eq(self.a * self.b)
        return m


class ShiftBack(Elaboratable):
    """Shifts a product of segments to where it belongs."""

    def __init__(self, width: int, segment: int) -> None:
        self.product = Signal(2 * segment)
        self.shift_a = Signal(bits_for(width - segment))
        self.shift_b = Signal(bits_for(width - segment))
        self.p = Signal(2 * width)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.d.comb += self.p.eq(self.product << (self.shift_a + self.shift_b))
        return m


class DrumModule(MultiplierModule):
    """The multiplier."""

    def __init__(self, width: int, segment: int) -> None:
        super().__init__(width)
        self.segment = segment

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.submodules.product = product = Product(self.segment)
        m.submodules.decoder = decoder = ShiftBack(self.width, self.segment)
        pairs = (
            ("a", self.a, product.a, decoder.shift_a),
            ("b", self.b, product.b, decoder.shift_b),
        )
        for name, word, part, shift in pairs:
            m.submodules[f"lod_{name}"] = lead = LeadingOne(self.width)
            m.submodules[f"segment_{name}"] = cut = Segment(self.width, self.segment)
            m.d.comb += [lead.a.eq(word), cut.a.eq(word), cut.k.eq(lead.k)]
            m.d.comb += [part.eq(cut.word), shift.eq(cut.shift)]
        m.d.comb += [decoder.product.eq(product.p), self.p.eq(decoder.p)]
        return m
