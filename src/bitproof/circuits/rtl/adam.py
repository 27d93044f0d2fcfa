"""AdAM: a logarithmic multiplier whose idle adder cells compute its highest bits again.

Model:  the adder of mantissas has a cell for each bit: propagate p = x ^ y and generate g = x & y;
        a lookahead makes carries of them. As long as operands are small, low cells have only zeros
        to add. The r lowest ones get the operands of the r highest instead, where r depends on the
        leading one of `a | b`; what low bits there still were is lost. The checker forms the high
        sums again, from the second p and g and the same carry into them, and sets those that differ
        to zero. With cells of its own, no bits are lost. Characteristics may be added twice, too. A
        unit may be added where low bits were lost, which is what they have on average.
Source: Taheri et al., "AdAM: Adaptive Fault-Tolerant Approximate Multiplier for Edge DNN
        Accelerators", ETS 2024, as METHODS C.2 reads it.
"""

from collections.abc import Sequence

from amaranth import Cat, Const, Elaboratable, Module, Mux, Signal

from bitproof.circuits.rtl.logarithm import Antilogarithm, LeadingOne, Normalizer
from bitproof.circuits.rtl.ports import MultiplierModule


class Policy(Elaboratable):
    """Tells from the leading one of both operands which cells are lent, and whether to round up."""

    def __init__(self, width: int, checked: Sequence[int], rounded: Sequence[bool]) -> None:
        self.checked, self.rounded = checked, rounded
        self.either = Signal(width)
        self.lent = Signal(max(*checked, 1))
        """Bit j: cell j is lent."""
        self.round_up = Signal()

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        for k, (r, rounded) in enumerate(zip(self.checked, self.rounded, strict=True)):
            found = [self.lent.eq((1 << r) - 1), self.round_up.eq(rounded)]
            if not k:
                m.d.comb += found
                continue
            with m.If(self.either[k]):  # the last one that holds counts
                m.d.comb += found
        return m


class Steering(Elaboratable):
    """Gives lent cells the bits of the high cells that they check."""

    def __init__(self, mantissa: int, lent: int, counts: Sequence[int]) -> None:
        self.mantissa, self.counts = mantissa, counts
        self.x = Signal(mantissa)
        self.lent = Signal(lent)
        self.word = Signal(lent)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        for j in range(len(self.lent)):
            bit = self.x[j]
            for r in sorted({r for r in self.counts if r > j}):  # cell r - 1 is lent if r cells are
                bit = Mux(self.lent[r - 1], self.x[self.mantissa - r + j], bit)
            m.d.comb += self.word[j].eq(bit)
        return m


class Cells(Elaboratable):
    """Partial full adders: propagate and generate of each bit."""

    def __init__(self, bits: int) -> None:
        self.x = Signal(bits)
        self.y = Signal(bits)
        self.p = Signal(bits)
        self.g = Signal(bits)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.d.comb += [self.p.eq(self.x ^ self.y), self.g.eq(self.x & self.y)]
        return m


class Carries(Elaboratable):
    """The carries of the adder; none comes out of a cell that is lent."""

    def __init__(self, mantissa: int, lent: int) -> None:
        self.mantissa = mantissa
        self.p = Signal(mantissa)
        self.g = Signal(mantissa)
        self.lent = Signal(lent)
        self.round_up = Signal()
        self.c = Signal(mantissa + 1)
        """Carry into each bit; the last one goes to the characteristic."""
        self.s = Signal(mantissa)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        lent = Cat(self.lent, Const(0, self.mantissa - len(self.lent)))
        m.d.comb += self.c[0].eq(self.round_up & ~lent[0])
        for j in range(self.mantissa):
            out = (self.g[j] | (self.p[j] & self.c[j])) & ~lent[j]
            if j + 1 < self.mantissa:  # a unit at the lowest bit that is kept
                out |= self.round_up & lent[j] & ~lent[j + 1]
            m.d.comb += self.c[j + 1].eq(out)
        m.d.comb += self.s.eq((self.p ^ self.c[: self.mantissa]) & ~lent)
        return m


class Characteristic(Elaboratable):
    """Adds both characteristics and the carry of the mantissas."""

    def __init__(self, bits: int) -> None:
        self.k_a = Signal(bits)
        self.k_b = Signal(bits)
        self.carry = Signal()
        self.k = Signal(bits + 1)

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.d.comb += self.k.eq(self.k_a + self.k_b + self.carry)
        return m


class Checker(Elaboratable):
    """Forms the high sums again, compares, and sets what differs to zero.

    The second sums take their carries from the second cells, from the first one on.
    """

    def __init__(self, mantissa: int, most: int, counts: Sequence[int]) -> None:
        self.mantissa, self.counts = mantissa, sorted(set(counts))
        self.s = Signal(mantissa)
        self.c = Signal(mantissa + 1)
        self.p = Signal(most)
        self.g = Signal(most)
        """Of the second cells."""
        self.lent = Signal(most)
        """How many check: bit r - 1 for r."""
        self.m = Signal(mantissa)
        self.carry = Signal()
        """What the second cells hand on to the characteristic."""
        self.differs = Signal()

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        size, lent = self.mantissa, Cat(self.lent, Const(0, 1))
        wrong = Signal(size)
        m.d.comb += self.carry.eq(self.c[size])
        for r in self.counts:
            if not r:
                continue
            first = size - r
            carry, own = self.c[first], []
            for j in range(r):
                own.append(self.s[first + j] ^ self.p[j] ^ carry)
                carry = self.g[j] | (self.p[j] & carry)
            with m.If(lent[r - 1] & ~lent[r]):
                m.d.comb += [wrong[first:].eq(Cat(*own)), self.carry.eq(carry)]
        m.d.comb += [self.m.eq(self.s & ~wrong), self.differs.eq(wrong.any())]
        return m


class Comparison(Elaboratable):
    """Compares two words, and sets the bits that differ to zero."""

    def __init__(self, bits: int) -> None:
        self.one = Signal(bits)
        self.other = Signal(bits)
        self.both = Signal(bits)
        self.differs = Signal()

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.d.comb += [
            self.both.eq(self.one & self.other),
            self.differs.eq((self.one ^ self.other).any()),
        ]
        return m


class AdamModule(MultiplierModule):
    """The multiplier."""

    def __init__(
        self,
        width: int,
        mantissa: int,
        *,
        checked: Sequence[int],
        rounded: Sequence[bool],
        lend: bool,
        protect_characteristic: bool,
    ) -> None:
        super().__init__(width)
        self.mantissa, self.checked, self.rounded = mantissa, tuple(checked), tuple(rounded)
        self.lend, self.protect_characteristic = lend, protect_characteristic
        self.detected = Signal()

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m, detected = Module(), self.detected
        assert detected is not None
        size, most = self.mantissa, max(*self.checked, 1)
        k_a, x_a = self.logarithm(m, self.a, "a")
        k_b, x_b = self.logarithm(m, self.b, "b")
        m.submodules.policy = policy = Policy(self.width, self.checked, self.rounded)
        m.d.comb += policy.either.eq(self.a | self.b)

        # Cells that check: the low ones of the adder, or others.
        m.submodules.second_cells = second = Cells(most)
        for name, x, word in (("a", x_a, second.x), ("b", x_b, second.y)):
            m.submodules[f"steering_{name}"] = steering = Steering(size, most, self.checked)
            m.d.comb += [steering.x.eq(x), steering.lent.eq(policy.lent), word.eq(steering.word)]
        low = most if self.lend else 0
        m.submodules.cells = cells = Cells(size - low)
        m.d.comb += [cells.x.eq(x_a[low:]), cells.y.eq(x_b[low:])]

        m.submodules.carries = carries = Carries(size, most)
        m.d.comb += [
            carries.p.eq(Cat(second.p, cells.p) if low else cells.p),
            carries.g.eq(Cat(second.g, cells.g) if low else cells.g),
            carries.lent.eq(policy.lent if low else 0),
            carries.round_up.eq(policy.round_up),
        ]
        m.submodules.checker = checker = Checker(size, most, self.checked)
        m.d.comb += [
            checker.s.eq(carries.s),
            checker.c.eq(carries.c),
            checker.p.eq(second.p),
            checker.g.eq(second.g),
            checker.lent.eq(policy.lent),
        ]

        m.submodules.characteristic = first = Characteristic(len(k_a))
        m.d.comb += [first.k_a.eq(k_a), first.k_b.eq(k_b), first.carry.eq(carries.c[size])]
        k, differs = first.k, checker.differs
        if self.protect_characteristic:
            m.submodules.second_characteristic = other = Characteristic(len(k_a))
            m.submodules.comparison = comparison = Comparison(len(k))
            m.d.comb += [other.k_a.eq(k_a), other.k_b.eq(k_b), other.carry.eq(checker.carry)]
            m.d.comb += [comparison.one.eq(first.k), comparison.other.eq(other.k)]
            k, differs = comparison.both, differs | comparison.differs

        m.submodules.decoder = decoder = Antilogarithm(self.width, size)
        m.d.comb += [
            decoder.k.eq(k),
            decoder.m.eq(checker.m),
            decoder.nonzero.eq(self.a.any() & self.b.any()),
            self.p.eq(decoder.p),
            detected.eq(differs),
        ]
        return m

    def logarithm(self, m: Module, word: Signal, name: str) -> tuple[Signal, Signal]:
        """Return characteristic and mantissa of an operand."""
        lead = LeadingOne(self.width)
        shifter = Normalizer(self.width, self.mantissa)
        m.submodules[f"lod_{name}"], m.submodules[f"shifter_{name}"] = lead, shifter
        m.d.comb += [lead.a.eq(word), shifter.a.eq(word), shifter.k.eq(lead.k)]
        return lead.k, shifter.x
