"""A combinational circuit of cells, in the order in which signals pass through them.

Model:  nets are numbered; 0 and 1 are the constants. A port is a word of nets, least significant
        bit first. Cells come after the cells that drive them. A block is the path of instances in
        which a cell lay before the hierarchy was dissolved: `lod_a`, `multiplier.adder`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from bitproof.circuits.cells import CellKind
from bitproof.circuits.logic import Function
from bitproof.core.errors import CircuitError, near, shorten

CONSTANTS = (0, 1)


@dataclass(frozen=True)
class Port:
    """A word that goes in or comes out."""

    name: str
    nets: tuple[int, ...]
    signed: bool = False
    """Whether the word is in two's complement."""


@dataclass(frozen=True)
class Cell:
    """One cell, and the nets at its pins."""

    name: str
    kind: CellKind
    inputs: tuple[int, ...]
    """In the order of `kind.inputs`."""
    outputs: tuple[tuple[int, Function], ...]
    """Driven nets, and what they are of the inputs."""
    block: str = ""


@dataclass(frozen=True, eq=False)
class Netlist:
    """A combinational circuit.

    Example:
        >>> from bitproof.circuits.cells import GATES
        >>> nand = GATES["$_NAND_"]
        >>> gate = Cell("g", nand, (2, 3), ((4, nand.outputs["Y"]),))
        >>> inputs = Port("a", (2,)), Port("b", (3,))
        >>> netlist = Netlist("one", inputs, (Port("y", (4,)),), (gate,), 5)
        >>> netlist.readers[2], netlist.driven
        ((0,), (2, 3, 4))
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    cells: tuple[Cell, ...]
    """In topological order."""
    n_nets: int

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """Cells that read each net, by number of the net."""
        found: list[list[int]] = [[] for _ in range(self.n_nets)]
        for number, cell in enumerate(self.cells):
            for net in dict.fromkeys(cell.inputs):
                found[net].append(number)
        return tuple(map(tuple, found))

    @cached_property
    def driven(self) -> tuple[int, ...]:
        """Nets that are not constant and that something reads or that come out, in order."""
        own = [net for port in self.inputs for net in port.nets]
        own += [net for cell in self.cells for net, _ in cell.outputs]
        return tuple(net for net in own if self.readers[net] or net in self._out)

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """The block of each net: that of the cell that drives it, `input` for ports."""
        found = ["constant"] * self.n_nets
        for port in self.inputs:
            for net in port.nets:
                found[net] = "input"
        for cell in self.cells:
            for net, _ in cell.outputs:
                found[net] = cell.block or "top"
        return tuple(found)

    @cached_property
    def _out(self) -> frozenset[int]:
        return frozenset(net for port in self.outputs for net in port.nets)

    def port(self, name: str) -> Port:
        """Return a port by name.

        Raises:
            CircuitError: there is none.
        """
        ports = {port.name: port for port in (*self.inputs, *self.outputs)}
        if name not in ports:
            raise CircuitError(f"{self.name}: no port {shorten(name)}. {near(name, ports)}")
        return ports[name]

    def comes_out(self, net: int) -> bool:
        """Return whether a net is a bit of an output."""
        return net in self._out

    def cone(self, net: int) -> list[int]:
        """Return the cells that a net reaches, in topological order."""
        reached, found = {net}, []
        for number in range(self.readers[net][0] if self.readers[net] else 0, len(self.cells)):
            cell = self.cells[number]
            if not reached.isdisjoint(cell.inputs):
                found.append(number)
                reached.update(out for out, _ in cell.outputs)
        return found


def in_order(cells: Iterable[Cell], inputs: Sequence[Port], name: str) -> tuple[Cell, ...]:
    """Return cells in topological order.

    Raises:
        CircuitError: a net has two drivers or none, or signals run in a circle.
    """
    waiting = list(cells)
    _check_drivers(waiting, inputs, name)
    own = {net for cell in waiting for net, _ in cell.outputs}
    awaited = [{net for net in cell.inputs if net in own} for cell in waiting]
    reads: dict[int, list[int]] = {}
    for number, nets in enumerate(awaited):
        for net in nets:
            reads.setdefault(net, []).append(number)
    missing = [len(nets) for nets in awaited]
    ready = [number for number, left in enumerate(missing) if not left]
    order: list[Cell] = []
    for number in ready:  # grows while it is walked
        order.append(waiting[number])
        for net, _ in waiting[number].outputs:
            for reader in reads.get(net, ()):
                missing[reader] -= 1
                if not missing[reader]:
                    ready.append(reader)
    if len(order) < len(waiting):
        stuck = next(cell for cell, left in zip(waiting, missing, strict=True) if left)
        raise CircuitError(f"{name}: wanted no loops, got one through cell {stuck.name}")
    return tuple(order)


def _check_drivers(cells: Sequence[Cell], inputs: Sequence[Port], name: str) -> None:
    """Check that each net that is read has a driver, and none has two."""
    drivers: dict[int, str] = dict.fromkeys(CONSTANTS, "a constant")
    drivers |= {net: f"port {port.name}" for port in inputs for net in port.nets}
    for cell in cells:
        for net, _ in cell.outputs:
            if net in drivers:
                raise CircuitError(
                    f"{name}: wanted one driver of each net, got {drivers[net]} and {cell.name}"
                )
            drivers[net] = f"cell {cell.name}"
    for cell in cells:
        if not drivers.keys() >= set(cell.inputs):
            raise CircuitError(
                f"{name}: wanted a driver of each net, cell {cell.name} reads one without"
            )
