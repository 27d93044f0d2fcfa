"""What a circuit takes: from a library and OpenSTA where they are there, else by counting gates.

Model:  without a library, cells are simple gates, and area, delay and power those of the unit-gate
        model. With a library, the area is that of its cells; delay and power are OpenSTA's, or,
        where that is not installed, the unit-gate model's. Units tell which is which.
"""

from dataclasses import dataclass

from bitproof.circuits import sta, unit_gates
from bitproof.circuits.activity import Activity
from bitproof.circuits.netlist import Cell
from bitproof.circuits.yosys import Synthesized
from bitproof.circuits.yosys_json import THROUGH
from bitproof.core.errors import CircuitError


@dataclass(frozen=True)
class CircuitCost:
    """Area, delay and power of a circuit, each with its unit."""

    cells: int
    area: float
    area_unit: str
    delay: float
    delay_unit: str
    power: float
    power_unit: str
    operands: str
    """What switches the circuit, for power."""

    @property
    def pdp(self) -> float:
        """Power times delay; picojoules where units are milliwatts and nanoseconds."""
        return self.power * self.delay

    @property
    def counted(self) -> tuple[str, ...]:
        """Figures that come from the unit-gate model."""
        units = {"area": self.area_unit, "delay": self.delay_unit, "power": self.power_unit}
        return tuple(name for name, unit in units.items() if unit not in ("um2", "ns", "mW"))


def cost_of(circuit: Synthesized, switching: Activity) -> CircuitCost:
    """Return what a circuit takes while its nets switch as given.

    Raises:
        CircuitError: a cell has no area, or OpenSTA cannot read the circuit.
    """
    netlist, library = circuit.netlist, circuit.library
    if library is None:
        area, area_unit = float(unit_gates.area(netlist)), "gates"
    else:
        area, area_unit = sum(_area(cell, library.name) for cell in netlist.cells), "um2"
    if library is not None and sta.available():
        timing = sta.analyze_timing(circuit, switching)
        delay, delay_unit = timing.delay_ns, "ns"
        power, power_unit = timing.power_mw, "mW"
    else:
        delay, delay_unit = float(unit_gates.delay(netlist)), "gate delays"
        power, power_unit = unit_gates.power(netlist, switching), "gates switched"
    return CircuitCost(
        len(netlist.cells),
        area,
        area_unit,
        delay,
        delay_unit,
        power,
        power_unit,
        switching.operands,
    )


def _area(cell: Cell, library: str) -> float:
    """Return the area of one cell; a wire between two names of a net has none."""
    if cell.kind.area is not None:
        return cell.kind.area
    if cell.kind.name == "$_BUF_" and cell.name.endswith(THROUGH):
        return 0.0
    raise CircuitError(
        f"{library}: wanted an area for each cell, {cell.kind.name} (cell {cell.name}) has none"
    )
