"""Exact and truncated multipliers: partial products, added up in rows or in a tree.

Model:  partial product (i, j) is bit i of a times bit j of b, in column i + j. Signed operands as
        in Baugh and Wooley: products with one sign bit are inverted, ones are added in columns n
        and 2n - 1. `array` adds one row after the other; `wallace` adds three rows at a time, in
        parallel; `dadda` does no more in each step than the next one needs. Booth recodes b into
        digits from -2 to 2, one for two bits, and adds the rows as a Wallace tree. Two rows are
        left for an adder. `operator` leaves all to synthesis.
Source: Wallace, "A Suggestion for a Fast Multiplier", 1964; Dadda, "Some Schemes for Parallel
        Multipliers", 1965; Baugh and Wooley, 1973; MacSorley, "High-Speed Arithmetic in Binary
        Computers", 1961 (radix-4 Booth).
"""

from collections.abc import Callable

from amaranth import C, Cat, Module, Mux, Signal
from amaranth.hdl import Value

from bitproof.circuits.rtl.ports import MultiplierModule

Row = list[Value | None]
"""Bits of a summand by column."""
Keep = Callable[[int, int], bool]


class Operator(MultiplierModule):
    """Whatever synthesis makes of `a * b`."""

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        m.d.comb += self.p.eq(self.a * self.b)
        return m


class Summation(MultiplierModule):
    """Partial products and their sum."""

    def __init__(
        self, width: int, *, is_signed: bool, tree: str, keep: Keep = lambda _i, _j: True
    ) -> None:
        super().__init__(width, is_signed=is_signed)
        self.is_signed, self.tree, self.keep = is_signed, tree, keep

    def elaborate(self, platform: object) -> Module:  # noqa: ARG002
        """Return the module."""
        m = Module()
        rows = self.booth_rows(m) if self.tree == "booth" else self.rows(m)
        low, high = Adders(m).reduce(rows, "wallace" if self.tree == "booth" else self.tree)
        m.d.comb += self.p.eq(word(low) + word(high))
        return m

    def rows(self, m: Module) -> list[Row]:
        """Return one row for each bit of b."""
        n = self.width
        rows: list[Row] = []
        for j in range(n):
            row = Signal(n, name=f"row_{j}")
            bits: Row = [None] * (2 * n)
            for i in range(n):
                if self.keep(i, j):
                    product = self.a[i] & self.b[j]
                    inverted = self.is_signed and (i == n - 1) != (j == n - 1)
                    m.d.comb += row[i].eq(~product if inverted else product)
                    bits[i + j] = row[i]
            rows.append(bits)
        if self.is_signed:
            rows.append([C(1, 1) if i in (n, 2 * n - 1) else None for i in range(2 * n)])
        return rows

    def booth_rows(self, m: Module) -> list[Row]:
        """Return one row for each digit of b, and one that completes negative ones."""
        n, size = self.width, 2 * self.width
        top = self.b[-1] if self.is_signed else C(0, 1)
        digits = (n + 1) // 2 if self.is_signed else n // 2 + 1
        bits = Cat(C(0, 1), self.b, top.replicate(2 * digits - n))
        rows, ones = [], Row([None] * size)
        for i in range(digits):
            below, low, high = bits[2 * i], bits[2 * i + 1], bits[2 * i + 2]
            once, twice = Signal(name=f"once_{i}"), Signal(name=f"twice_{i}")
            minus, row = Signal(name=f"minus_{i}"), Signal(size, name=f"row_{i}")
            m.d.comb += [
                once.eq(low ^ below),
                twice.eq((high & ~low & ~below) | (~high & low & below)),
                minus.eq(high & ~(low & below)),
            ]
            sign = self.a[-1] if self.is_signed else C(0, 1)
            wide = Cat(self.a, sign.replicate(size - n))
            chosen = Mux(once, wide, 0) | Mux(twice, wide << 1, 0)
            m.d.comb += row.eq(((chosen ^ minus.replicate(size)) << (2 * i))[:size])
            rows.append([None] * (2 * i) + [row[c] for c in range(2 * i, size)])
            ones[2 * i] = minus
        return [*rows, ones]


class Adders:
    """Adds rows of bits up, with full and half adders that have names."""

    def __init__(self, m: Module) -> None:
        self.m, self.made = m, 0

    def reduce(self, rows: list[Row], tree: str) -> tuple[Row, Row]:
        """Return two rows with the same sum."""
        if tree == "dadda":
            return self.dadda(rows)
        while len(rows) > 2:
            if tree == "array":
                rows = [*self.three(*rows[:3]), *rows[3:]]
            else:
                whole = len(rows) // 3 * 3
                groups = [self.three(*rows[i : i + 3]) for i in range(0, whole, 3)]
                rows = [*(row for pair in groups for row in pair), *rows[whole:]]
        low, high = [*rows, [None] * len(rows[0])][:2]
        return low, high

    def three(self, *rows: Row) -> tuple[Row, Row]:
        """Return the sums and the carries of three rows."""
        size = len(rows[0])
        sums: Row = [None] * size
        carries: Row = [None] * (size + 1)
        for column, bits in enumerate(zip(*rows, strict=True)):
            sums[column], carries[column + 1] = self.add([b for b in bits if b is not None])
        return sums, carries[:size]

    def dadda(self, rows: list[Row]) -> tuple[Row, Row]:
        """Return two rows, by the fewest adders that reach the next height."""
        size = len(rows[0])
        columns = [[row[c] for row in rows if row[c] is not None] for c in range(size)]
        heights = [2]
        while heights[-1] < max(map(len, columns)):
            heights.append(heights[-1] * 3 // 2)
        for height in reversed(heights):
            for c in range(size):
                while len(columns[c]) > height:
                    taken = 3 if len(columns[c]) > height + 1 else 2
                    bits = [bit for bit in columns[c][:taken] if bit is not None]
                    total, carry = self.add(bits)
                    columns[c] = [*columns[c][taken:], total]
                    if c + 1 < size:
                        columns[c + 1].append(carry)
        low, high = ([col[i] if len(col) > i else None for col in columns] for i in range(2))
        return low, high

    def add(self, bits: list[Value]) -> tuple[Value | None, Value | None]:
        """Return sum and carry of up to three bits."""
        if len(bits) < 2:
            return (bits[0] if bits else None), None
        self.made += 1
        total, carry = Signal(name=f"sum_{self.made}"), Signal(name=f"carry_{self.made}")
        if len(bits) == 2:
            one, other = bits
            self.m.d.comb += [total.eq(one ^ other), carry.eq(one & other)]
        else:
            one, other, third = bits
            either = one ^ other
            self.m.d.comb += [total.eq(either ^ third), carry.eq((one & other) | (either & third))]
        return total, carry


def word(row: Row) -> Value:
    """Return a row as a word, zeros where there is nothing."""
    return Cat(*(C(0, 1) if bit is None else bit for bit in row))
