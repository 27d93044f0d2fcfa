"""Timing and power by OpenSTA, where it is installed.

Model:  a circuit of a library's cells without wires between them, at the library's corner; the
        longest path from inputs to outputs; power at one operation per `PERIOD_NS`. OpenSTA tells
        what each cell takes if its output switches once per operation; that is multiplied by how
        often it switches in simulation, and leakage is added. (OpenSTA's own estimate of switching
        takes signals for independent, which those of a multiplier are not.)
Source: OpenSTA (GPL-3, called as a program: `sta`; Debian's package opensta).
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bitproof.circuits.activity import Activity
from bitproof.circuits.cells import GATES
from bitproof.circuits.yosys import Synthesized
from bitproof.core.errors import CircuitError

PERIOD_NS = 10.0
"""Time between operations, for power."""
SCRIPT = """read_liberty cells.lib
set_cmd_units -time ns
read_verilog net.v
link_design {top}
create_clock -name operation -period {period}
set_input_delay 0 -clock operation [all_inputs]
set_output_delay 0 -clock operation [all_outputs]
set_power_activity -global -activity 1.0 -duty 0.5
report_checks -path_delay max -digits 6
report_power -instances [get_cells -hierarchical *] -digits 8
exit
"""
DECLARED = re.compile(r"^(\s*(?:input|output|wire)) signed", re.MULTILINE)
"""What OpenSTA does not know: whether words have a sign makes no difference to it."""
ARRIVAL = re.compile(r"^\s*([\d.]+)\s+data arrival time", re.MULTILINE)
CELL = re.compile(r"^\s*([\d.e+-]+)\s+([\d.e+-]+)\s+([\d.e+-]+)\s+[\d.e+-]+\s+(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Timing:
    """Delay and power of a circuit."""

    delay_ns: float
    power_mw: float


def available() -> bool:
    """Return whether OpenSTA is installed."""
    return shutil.which("sta") is not None


def analyze_timing(circuit: Synthesized, switching: Activity) -> Timing:
    """Return delay and power of a circuit of a library's cells.

    Raises:
        CircuitError: OpenSTA is not installed or cannot read the circuit.
    """
    program = shutil.which("sta")
    if program is None or circuit.library is None:
        raise CircuitError("wanted OpenSTA (apt-get install opensta) and cells of a library")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "cells.lib").write_text(circuit.library.text(), "utf-8")
        (place / "net.v").write_text(DECLARED.sub(r"\1", circuit.verilog), "utf-8")
        script = SCRIPT.format(top=circuit.module, period=PERIOD_NS)
        (place / "run.tcl").write_text(script, "utf-8")
        command = [program, "-no_splash", "-exit", "run.tcl"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    cells = {cell.name: cell for cell in circuit.netlist.cells if cell.kind.name not in GATES}
    if not cells:
        return Timing(0.0, 0.0)
    rows = {match[4]: match for match in CELL.finditer(done.stdout)}
    arrival = ARRIVAL.search(done.stdout)
    if arrival is None or not cells.keys() <= rows.keys():
        said = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
        raise CircuitError(
            f"sta: wanted the delay, and the power of {len(cells)} cells, got "
            f"{len(rows)}{'' if arrival else ' and no delay'}{': ' + said[0] if said else ''}"
        )
    watts = 0.0
    for name, cell in cells.items():
        internal, outside, leakage = map(float, rows[name].group(1, 2, 3))
        toggles = np.mean([switching.toggles[net] for net, _ in cell.outputs])
        watts += leakage + float(toggles) * (internal + outside)
    return Timing(float(arrival[1]), 1e3 * watts)
