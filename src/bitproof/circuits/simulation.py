"""Simulation of a netlist, many input patterns at once: a bit of a machine word for each.

Model:  a signal is a row of 64-bit words; pattern i is bit i % 64 of word i // 64. A cell is a few
        bitwise operations on rows, which NumPy does with the widest registers there are (512
        patterns at a time with AVX-512). There is no time: signals are what they settle to.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from bitproof.circuits.netlist import Cell, Netlist, Port
from bitproof.core.errors import CircuitError

Row = UInt64[np.ndarray, " words"]
Numbers = Int64[np.ndarray, " patterns"]
ONES = np.uint64(2**64 - 1)
SWAPS = (
    (np.uint64(7), np.uint64(0x00AA00AA00AA00AA)),
    (np.uint64(14), np.uint64(0x0000CCCC0000CCCC)),
    (np.uint64(28), np.uint64(0x00000000F0F0F0F0)),
)
"""Steps that turn 8 x 8 bits over: Warren, "Hacker's Delight", 2002, section 7-3."""
MOST_EXHAUSTIVE = 20
"""Input bits of which all patterns are tried at once."""
Run = tuple[Callable[..., object], int, int, int]
"""What to do (a function of NumPy), what it is of, and where the result goes."""


@dataclass(frozen=True)
class CellProgram:
    """The operations of one cell; the last ones give its outputs."""

    runs: tuple[Run, ...]
    written: tuple[int, ...]
    """Rows that it writes."""


class Program:
    """The operations of a netlist, in order; rows are nets first, intermediate results then."""

    def __init__(self, netlist: Netlist) -> None:
        self.netlist = netlist
        self.n_rows = netlist.n_nets
        self.cells = [self._compile(cell) for cell in netlist.cells]

    def start(self, words: int) -> UInt64[np.ndarray, "rows words"]:
        """Return rows of zeros, with the constant 1 set."""
        rows = np.zeros((self.n_rows, words), np.uint64)
        rows[1] = ONES
        return rows

    def run(self, patterns: Mapping[str, Sequence[Row]]) -> UInt64[np.ndarray, "rows words"]:
        """Return all rows, for patterns of the input ports, bit by bit.

        Raises:
            CircuitError: a port is missing, or has other bits.
        """
        words = len(next(iter(patterns.values()))[0])
        rows = self.start(words)
        for port in self.netlist.inputs:
            given = patterns.get(port.name, ())
            if len(given) != len(port.nets):
                raise CircuitError(
                    f"{self.netlist.name}: wanted {len(port.nets)} bits of port {port.name}, "
                    f"got {len(given)}"
                )
            for net, bit in zip(port.nets, given, strict=True):
                rows[net] = bit
        views = list(rows)
        for cell in self.cells:
            execute(cell.runs, views)
        return rows

    def _compile(self, cell: Cell) -> CellProgram:
        runs: list[Run] = []
        written: list[int] = []
        for net, function in cell.outputs:
            places = [*cell.inputs, 0, 1]
            for step in function.steps:
                last = len(places) == function.result
                place = net if last else self.n_rows
                self.n_rows += not last
                places.append(place)
                written.append(place)
                first, second = places[step.first], places[step.second]
                # Row 1 holds ones: exclusive or with it negates.
                other = 1 if step.operation == "not" else second
                runs.append((OPERATIONS[step.operation], first, other, place))
            if not function.steps or function.result != len(places) - 1:
                runs.append((np.bitwise_or, places[function.result], 0, net))
                written.append(net)
        return CellProgram(tuple(runs), tuple(written))


def execute(runs: Iterable[Run], rows: list[Row]) -> None:
    """Compute rows in place."""
    for function, first, second, out in runs:
        function(rows[first], rows[second], rows[out])


OPERATIONS: Mapping[str, Callable[..., object]] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.bitwise_xor,
}


def all_patterns(ports: Sequence[Port]) -> dict[str, list[Row]]:
    """Return all patterns of input ports; the last port counts fastest.

    Raises:
        CircuitError: there are too many.

    Example:
        >>> rows = all_patterns([Port("a", (2, 3)), Port("b", (4, 5))])
        >>> numbers(rows["a"], 16).tolist()
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    """
    total = sum(len(port.nets) for port in ports)
    if total > MOST_EXHAUSTIVE:
        raise CircuitError(
            f"wanted at most {MOST_EXHAUSTIVE} input bits for all patterns, got {total}"
        )
    words = max(1, (1 << total) // 64)
    found: dict[str, list[Row]] = {}
    low = 0
    for port in reversed(ports):
        found[port.name] = [counter_bit(low + i, words) for i in range(len(port.nets))]
        low += len(port.nets)
    return found


def counter_bit(bit: int, words: int) -> Row:
    """Return one bit of the numbers 0, 1, 2, ... as a row."""
    if bit >= 6:
        index = np.arange(words, dtype=np.uint64)
        return np.where(index >> np.uint64(bit - 6) & np.uint64(1), ONES, np.uint64(0))
    word = sum(((i >> bit) & 1) << i for i in range(64))
    return np.full(words, word, np.uint64)


def pattern_rows(values: Numbers, bits: int) -> list[Row]:
    """Return the low bits of numbers as rows; patterns are filled up with zeros to whole words.

    Example:
        >>> [int(row[0]) for row in pattern_rows(np.array([1, 2, 3]), 2)]
        [5, 6]
    """
    words = -(-len(values) // 64)
    padded = np.zeros(words * 64, np.int64)
    padded[: len(values)] = values
    return [
        np.packbits((padded >> i & 1).astype(np.uint8), bitorder="little").view(np.uint64)
        for i in range(bits)
    ]


def numbers(rows: Sequence[Row], patterns: int, *, signed: bool = False) -> Numbers:
    """Return what the rows of a word say, pattern by pattern.

    Example:
        >>> numbers(pattern_rows(np.array([1, 2, 3]), 2), 3, signed=True).tolist()
        [1, -2, -1]
    """
    size = len(rows[0]) * 64
    words = np.zeros((size, 8), np.uint8)
    for i in range(0, len(rows), 8):
        words[:, i // 8] = _transposed(rows[i : i + 8])
    total = words.view(np.int64)[:patterns, 0]
    if signed:
        unused = 64 - len(rows)
        total = total << unused >> unused  # repeats the highest bit
    return total


def _transposed(rows: Sequence[Row]) -> UInt8[np.ndarray, " patterns"]:
    """Return bytes whose bit j is that of row j: each block of 8 x 8 bits is turned over."""
    lanes = np.zeros((len(rows[0]) * 8, 8), np.uint8)
    for j, row in enumerate(rows):
        lanes[:, j] = row.view(np.uint8)
    blocks = lanes.view(np.uint64)[:, 0]
    for shift, mask in SWAPS:
        swapped = (blocks >> shift ^ blocks) & mask
        blocks ^= swapped ^ swapped << shift
    return lanes.reshape(-1)


def unpacked(row: Row, patterns: int) -> np.ndarray:
    """Return the bits of a row as bytes that are 0 or 1."""
    return np.unpackbits(row.view(np.uint8), count=patterns, bitorder="little")


def read_port(
    rows: Sequence[Row] | UInt64[np.ndarray, "rows words"], port: Port, patterns: int
) -> Numbers:
    """Return the numbers at a port."""
    return numbers([rows[net] for net in port.nets], patterns, signed=port.signed)


def simulate(netlist: Netlist, words: Mapping[str, Numbers], port: str) -> Numbers:
    """Return the numbers at an output port for numbers at the input ports, pair by pair.

    Raises:
        CircuitError: a port is missing.
    """
    count = len(next(iter(words.values())))
    patterns = {
        own.name: pattern_rows(words[own.name], len(own.nets))
        for own in netlist.inputs
        if own.name in words
    }
    return read_port(Program(netlist).run(patterns), netlist.port(port), count)
