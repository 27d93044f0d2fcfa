"""The parts of logarithmic multipliers, and Mitchell's multiplier of them.

Model:  `LeadingOne` finds the characteristic k of an operand, `Normalizer` the first bits behind
        the leading one, the mantissa; `LogAdder` adds characteristics and mantissas as one word;
        `Antilogarithm` shifts one and mantissa to where the sum of characteristics says, and gives
        0 where an operand was 0.
Source: Mitchell, "Computer Multiplication and Division Using Binary Logarithms", 1962; METHODS C.2.
"""

from amaranth import C, Cat, Elaboratable, Module, Mux, Signal
from amaranth.utils import bits_for

from bitproof.circuits.rtl.ports import MultiplierModule


class LeadingOne(Elaboratable):
    """Finds the highest bit that is 1."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.a = Signal(width)
        self.k = Signal(bits_for(width - 1))

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        for i in range(1, self.width):  # the last one that holds counts
            with m.If(self.a[i]):
                m.d.comb += self.k.eq(i)
        return m


class Normalizer(Elaboratable):
    """Moves the leading one to the top, and keeps some bits behind it."""

    def __init__(self, width: int, mantissa: int) -> None:
        self.width, self.mantissa = width, mantissa
        self.a = Signal(width)
        self.k = Signal(bits_for(width - 1))
        self.x = Signal(mantissa)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        last, moved = self.width - 1, Signal(self.width)
        m.d.comb += moved.eq(self.a << (last - self.k).as_unsigned()[: len(self.k)])
        m.d.comb += self.x.eq(moved[last - self.mantissa : last])
        return m


class LogAdder(Elaboratable):
    """Adds two logarithms."""

    def __init__(self, width: int, mantissa: int) -> None:
        k = bits_for(width - 1)
        self.mantissa = mantissa
        self.k_a = Signal(k)
        self.k_b = Signal(k)
        self.x_a = Signal(mantissa)
        self.x_b = Signal(mantissa)
        self.k = Signal(k + 1)
        self.m = Signal(mantissa)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.d.comb += Cat(self.m, self.k).eq(Cat(self.x_a, self.k_a) + Cat(self.x_b, self.k_b))
        return m


class Antilogarithm(Elaboratable):
    """Turns a sum of logarithms into a product."""

    def __init__(self, width: int, mantissa: int) -> None:
        self.width, self.mantissa = width, mantissa
        self.k = Signal(bits_for(width - 1) + 1)
        self.m = Signal(mantissa)
        self.nonzero = Signal()
        self.p = Signal(2 * width)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        moved = (Cat(self.m, C(1, 1)) << self.k) >> self.mantissa
        m.d.comb += self.p.eq(Mux(self.nonzero, moved, 0))
        return m


class LogarithmicModule(MultiplierModule):
    """Mitchell's multiplier; mantissas keep some bits."""

    def __init__(self, width: int, mantissa: int) -> None:
        super().__init__(width)
        self.mantissa = mantissa

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        adder = LogAdder(self.width, self.mantissa)
        decoder = Antilogarithm(self.width, self.mantissa)
        self.take_logarithms(m, adder)
        m.submodules.adder, m.submodules.decoder = adder, decoder
        m.d.comb += [
            decoder.k.eq(adder.k),
            decoder.m.eq(adder.m),
            decoder.nonzero.eq(self.a.any() & self.b.any()),
            self.p.eq(decoder.p),
        ]
        return m

    def take_logarithms(self, m: Module, adder: "LogAdder") -> None:
        """Give an adder the logarithms of both operands."""
        pairs = (("a", self.a, adder.k_a, adder.x_a), ("b", self.b, adder.k_b, adder.x_b))
        for name, word, k, x in pairs:
            lead = LeadingOne(self.width)
            shifter = Normalizer(self.width, self.mantissa)
            m.submodules[f"lod_{name}"], m.submodules[f"shifter_{name}"] = lead, shifter
            m.d.comb += [lead.a.eq(word), shifter.a.eq(word), shifter.k.eq(lead.k)]
            m.d.comb += [k.eq(lead.k), x.eq(shifter.x)]
