"""Single faults on the nets of a circuit, and what they do over many input patterns.

Model:  a fault holds one net at 0 or at 1 (permanent), or turns it over while one pattern is there
        (transient; each pattern is a case of its own). The net is the wire that its driver sees:
        everybody who reads it sees the fault. Faults that cannot be told apart at any output are
        one class, of which one is simulated: where a net has a single reader, and holding it makes
        the output of that cell constant, it is as good as holding that output; likewise for a net
        whose turning over always turns the output over.

        A case is a fault and a pattern. It is `masked` if the product is what it is without the
        fault; else `mitigated` if the circuit says so and the product is off by no more than
        `tolerance` times the fault-free one; `detected` if it says so and is off by more; and
        `silent` if nothing is said. Coverage is the share of masked and mitigated cases.
Source: Abramovici, Breuer, Friedman, "Digital Systems Testing and Testable Design", 1990, ch. 4
        (equivalence); Waicukauskas et al., "Fault Simulation for Structured VLSI", 1985 (parallel
        patterns, single fault); METHODS C.3 (coverage).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from bitproof.circuits.netlist import Netlist
from bitproof.circuits.simulation import (
    ONES,
    Numbers,
    Program,
    Row,
    Run,
    execute,
    read_port,
    unpacked,
)

NetFaultKind = Literal["stuck0", "stuck1", "flip"]
NET_FAULT_KINDS: tuple[NetFaultKind, ...] = ("stuck0", "stuck1", "flip")
PERMANENT: tuple[NetFaultKind, NetFaultKind] = ("stuck0", "stuck1")
"""Held at 0, held at 1."""
TOLERANCE = 0.25
"""Share of the fault-free product that a detected fault may change and count as mitigated."""


@dataclass(frozen=True)
class NetFault:
    """A net, and what happens to it."""

    net: int
    kind: NetFaultKind


@dataclass(frozen=True)
class FaultClass:
    """Faults that no output tells apart."""

    chosen: NetFault
    members: tuple[NetFault, ...]


def all_faults(netlist: Netlist, kinds: Sequence[NetFaultKind] = NET_FAULT_KINDS) -> list[NetFault]:
    """Return every fault of some kinds, net by net.

    Example:
        >>> from bitproof.circuits.cells import GATES
        >>> from bitproof.circuits.netlist import Cell, Port
        >>> inv = GATES["$_NOT_"]
        >>> cell = Cell("g", inv, (2,), ((3, inv.outputs["Y"]),))
        >>> netlist = Netlist("inverter", (Port("a", (2,)),), (Port("y", (3,)),), (cell,), 4)
        >>> len(all_faults(netlist)), len(collapse(netlist, all_faults(netlist)))
        (6, 3)
    """
    return [NetFault(net, kind) for net in netlist.driven for kind in kinds]


def collapse(netlist: Netlist, faults: Sequence[NetFault]) -> list[FaultClass]:
    """Return classes of equivalent faults; the one nearest to the outputs is chosen."""
    same = dict(_equivalences(netlist))

    def last(fault: NetFault) -> NetFault:
        while fault in same:
            fault = same[fault]
        return fault

    found: dict[NetFault, list[NetFault]] = {}
    for fault in faults:
        found.setdefault(last(fault), []).append(fault)
    return [FaultClass(chosen, tuple(members)) for chosen, members in found.items()]


def _equivalences(netlist: Netlist) -> Iterator[tuple[NetFault, NetFault]]:
    """Yield faults on a net with one reader, with the same fault behind that reader."""
    for net in netlist.driven:
        readers = netlist.readers[net]
        if len(readers) != 1 or netlist.comes_out(net):
            continue
        cell = netlist.cells[readers[0]]
        pins = [i for i, own in enumerate(cell.inputs) if own == net]
        if len(pins) != 1 or len(cell.outputs) != 1:
            continue
        out, function = cell.outputs[0]
        ones = (1 << (1 << (len(cell.inputs) - 1))) - 1
        low, high = (function.with_pin(pins[0], value) for value in (0, 1))
        for kind, table in zip(PERMANENT, (low, high), strict=True):
            if table in (0, ones):
                yield NetFault(net, kind), NetFault(out, PERMANENT[table != 0])
        if low ^ high == ones:
            yield NetFault(net, "flip"), NetFault(out, "flip")


class FaultSimulator:
    """Computes what comes out under one fault after the other, for the same patterns.

    Only the cells behind the fault are computed again.
    """

    def __init__(self, netlist: Netlist, patterns: Mapping[str, Sequence[Row]], count: int) -> None:
        self.netlist, self.count = netlist, count
        self.program = Program(netlist)
        self.golden = self.program.run(patterns)
        self._views = list(self.golden)
        self._scratch = list(np.empty_like(self.golden))
        self._kept: dict[int, tuple[list[Run], list[int]]] = {}

    def rows(self, fault: NetFault) -> list[Row]:
        """Return all rows under a fault; they hold until the next call."""
        rows = list(self._views)
        forced = self._scratch[fault.net]
        if fault.kind == "flip":
            np.invert(self._views[fault.net], forced)
        else:
            forced[:] = ONES if fault.kind == "stuck1" else 0
        rows[fault.net] = forced
        runs, written = self._work(fault.net)
        for place in written:
            rows[place] = self._scratch[place]
        execute(runs, rows)
        return rows

    def _work(self, net: int) -> tuple[list[Run], list[int]]:
        """Return the operations of the cells behind a net, and the rows that they write."""
        if net not in self._kept:
            cells = [self.program.cells[number] for number in self.netlist.cone(net)]
            runs = [run for cell in cells for run in cell.runs]
            self._kept[net] = runs, [place for cell in cells for place in cell.written]
        return self._kept[net]

    def golden_port(self, name: str) -> Numbers:
        """Return the fault-free numbers at a port."""
        return read_port(self.golden, self.netlist.port(name), self.count)


@dataclass(frozen=True)
class FaultEffect:
    """What one class of faults does: shares of patterns, by weight."""

    fault: NetFault
    members: int
    """Faults of the class."""
    blocks: Mapping[str, int]
    """How many of them lie in each block."""
    masked: float
    mitigated: float
    detected: float
    """Detected, and off by more than the tolerance."""
    silent: float
    mean_distance: float
    """Mean of |faulty - fault-free| over all patterns, in units of the product."""
    largest: int
    """Largest |faulty - fault-free|."""
    magnitudes: tuple[float, ...] = ()
    """Shares of patterns that are off by 1, by 2 to 3, by 4 to 7, and so on."""

    @property
    def coverage(self) -> float:
        """Share of patterns that stand the fault."""
        return self.masked + self.mitigated


def effects(
    simulator: FaultSimulator,
    classes: Sequence[FaultClass],
    *,
    product: str = "p",
    flag: str = "detected",
    weights: Float64[np.ndarray, " patterns"] | None = None,
    tolerance: float = TOLERANCE,
) -> Iterator[FaultEffect]:
    """Yield what each class does; `weights` of patterns add up to 1 (None: all alike)."""
    netlist, count = simulator.netlist, simulator.count
    port, blocks = netlist.port(product), netlist.blocks
    flags = [each.nets[0] for each in netlist.outputs if each.name == flag]
    golden = simulator.golden_port(product)
    limit = tolerance * np.abs(golden)
    for each in classes:
        rows = simulator.rows(each.chosen)
        distance = np.abs(read_port(rows, port, count) - golden)
        wrong = distance != 0
        told = wrong & (unpacked(rows[flags[0]], count) != 0) if flags else None
        near = None if told is None else told & (distance <= limit)
        off, flagged, mitigated = (_share(which, weights) for which in (wrong, told, near))
        total = distance.sum() / count if weights is None else distance @ weights
        yield FaultEffect(
            each.chosen,
            len(each.members),
            Counter(blocks[one.net] for one in each.members),
            masked=1.0 - off,
            mitigated=mitigated,
            detected=flagged - mitigated,
            silent=off - flagged,
            mean_distance=float(total),
            largest=int((distance if weights is None else distance[weights > 0]).max()),
            magnitudes=_magnitudes(distance, wrong, weights, len(port.nets)),
        )


def _magnitudes(
    distance: Numbers,
    wrong: Bool[np.ndarray, " patterns"],
    weights: Float64[np.ndarray, " patterns"] | None,
    bits: int,
) -> tuple[float, ...]:
    """Return shares of patterns by the power of two that their distance reaches."""
    places = np.frexp(distance[wrong])[1] - 1
    own = None if weights is None else weights[wrong]
    counts = np.bincount(places, own, minlength=bits)
    return tuple((counts / (len(distance) if weights is None else 1.0)).tolist())


def _share(
    which: Bool[np.ndarray, " patterns"] | None, weights: Float64[np.ndarray, " patterns"] | None
) -> float:
    """Return the share of patterns that are chosen."""
    if which is None:
        return 0.0
    if weights is None:
        return np.count_nonzero(which) / len(which)
    return float(weights[which].sum())
