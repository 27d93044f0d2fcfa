"""The unit-gate model: area, delay and power by counting gates, where no library or tool is there.

Model:  of a cell's function, each and and or of two inputs is a gate of area 1 and delay 1, each
        exclusive or one of area 2 and delay 2; inverters cost nothing. Power is the area that
        switches per operation: each cell's area, times how often its output switches. These units
        compare circuits with each other; they are no square micrometres, nanoseconds or milliwatts.
Source: Tyagi, "A Reduced-Area Scheme for Carry-Select Adders", IEEE TC 1993; Zimmermann, "Binary
        Adder Architectures for Cell-Based VLSI and their Synthesis", 1997, ch. 4.
"""

import numpy as np

from bitproof.circuits.activity import Activity
from bitproof.circuits.logic import Function
from bitproof.circuits.netlist import Netlist

WEIGHTS = {"and": 1, "or": 1, "xor": 2, "not": 0}


def gates(function: Function) -> int:
    """Return the area of a function.

    Example:
        >>> from bitproof.circuits.logic import parse
        >>> gates(parse("!(A&B)", ("A", "B"))), gates(parse("(A&!S)|(B&S)", ("A", "B", "S")))
        (1, 3)
    """
    return sum(WEIGHTS[step.operation] for step in function.steps)


def levels(function: Function) -> int:
    """Return the delay of a function, from its slowest pin."""
    times = [0] * (len(function.pins) + 2)
    for step in function.steps:
        times.append(WEIGHTS[step.operation] + max(times[step.first], times[step.second]))
    return times[function.result]


def area(netlist: Netlist) -> int:
    """Return the area of a circuit, in gates."""
    return sum(gates(function) for cell in netlist.cells for _, function in cell.outputs)


def delay(netlist: Netlist) -> int:
    """Return the longest path through a circuit, in delays of a gate."""
    times = np.zeros(netlist.n_nets, np.int64)
    for cell in netlist.cells:
        start = max((times[net] for net in cell.inputs), default=0)
        for net, function in cell.outputs:
            times[net] = start + levels(function)
    return max((int(times[net]) for port in netlist.outputs for net in port.nets), default=0)


def power(netlist: Netlist, switching: Activity) -> float:
    """Return the area that switches per operation, in gates."""
    return sum(
        gates(function) * float(switching.toggles[net])
        for cell in netlist.cells
        for net, function in cell.outputs
    )
