"""How often each net of a circuit switches while it multiplies one pair of operands after another.

Model:  pairs come one per cycle; a net switches if it settles to another value than in the cycle
        before. Glitches in between are not counted, so that power is a lower bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from bitproof.circuits.netlist import Netlist
from bitproof.circuits.simulation import Numbers, Program, Row, pattern_rows, unpacked
from bitproof.core.errors import CircuitError

CYCLES = 4096
"""Pairs of operands where nobody gives any."""


@dataclass(frozen=True, eq=False)
class Activity:
    """Rates of all nets, by number."""

    toggles: Float64[np.ndarray, " nets"]
    """Changes per cycle."""
    duty: Float64[np.ndarray, " nets"]
    """Share of cycles at 1."""
    operands: str
    """Where the pairs are from."""


def activity(netlist: Netlist, pairs: Mapping[str, Numbers], operands: str) -> Activity:
    """Return how often nets switch while the numbers of `pairs` come in at the input ports.

    Raises:
        CircuitError: there are fewer than two pairs, or a port gets none.

    Example:
        >>> from bitproof.circuits.netlist import Port
        >>> wire = Netlist("wire", (Port("a", (2,)),), (Port("y", (2,)),), (), 3)
        >>> activity(wire, {"a": np.array([0, 1, 1, 0, 1])}, "five").toggles.tolist()
        [0.0, 0.0, 0.75]
    """
    counts = {len(pairs.get(port.name, ())) for port in netlist.inputs}
    count = min(counts)
    if len(counts) != 1 or count < 2:
        raise CircuitError(
            f"activity: wanted at least two pairs at all ports, got {sorted(counts)}"
        )
    patterns: dict[str, Sequence[Row]] = {
        port.name: pattern_rows(pairs[port.name], len(port.nets)) for port in netlist.inputs
    }
    rows = Program(netlist).run(patterns)[: netlist.n_nets]
    toggles, duty = np.zeros(netlist.n_nets), np.zeros(netlist.n_nets)
    for net, row in enumerate(rows):
        bits = unpacked(row, count)
        toggles[net] = np.count_nonzero(bits[1:] != bits[:-1]) / (count - 1)
        duty[net] = bits.mean()
    return Activity(toggles, duty, operands)


def uniform_pairs(netlist: Netlist, cycles: int = CYCLES, seed: int = 0) -> dict[str, Numbers]:
    """Return pairs of operands of which all are as likely, always the same for one seed."""
    draw = np.random.default_rng(seed)
    return {
        port.name: draw.integers(0, 1 << len(port.nets), cycles, dtype=np.int64)
        for port in netlist.inputs
    }
