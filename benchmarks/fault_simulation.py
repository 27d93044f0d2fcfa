"""All single faults of 8-bit multipliers over all 65,536 pairs of operands, on one core.

ours:   every class of stuck-at faults of the circuit, simulated bit-parallel from the net on that
        it is on, and counted: masked, detected, silent, how far off. Finding classes is included.
rival:  Verilator: the same netlist with a port that breaks a net, compiled with -O3; it runs some
        of the faults over all pairs and counts wrong products, and the time is scaled up to all
        classes. Its counts must be ours (checked). Reported as well: its fault-free simulation.
limit:  the bitwise operations of ours alone, on rows that lie in the cache.
Needs the extra `circuits` and Verilator (apt-get install verilator); without it, or it says so.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from table import Row, json_path, save, show

from bitproof.circuits import (
    AdamCircuit,
    Design,
    ExactCircuit,
    FaultSimulator,
    Netlist,
    all_faults,
    all_patterns,
    collapse,
    effects,
    synthesize,
)
from bitproof.circuits.fault_port import CODES, with_fault_port
from bitproof.circuits.net_faults import PERMANENT, FaultClass, FaultEffect

PAIRS = 1 << 16
SAMPLE = 40
"""Faults that Verilator runs."""
MAIN = """#include "Vbroken.h"
#include <chrono>
#include <cstdio>
int main() {{
  static const int faults[][2] = {{{faults}}};
  static int golden[65536];
  Vbroken dut;
  auto now = [] {{
    auto since = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double>(since).count();
  }};
  dut.fault_net = 0; dut.fault_kind = 0;
  double start = now();
  for (int i = 0; i < 65536; i++) {{
    dut.a = i >> 8; dut.b = i & 255; dut.eval(); golden[i] = dut.p;
  }}
  double clean = now() - start;
  start = now();
  std::printf("{{\\"wrong\\": [");
  for (auto &f : faults) {{
    long wrong = 0;
    dut.fault_net = f[0]; dut.fault_kind = f[1];
    for (int i = 0; i < 65536; i++) {{
      dut.a = i >> 8; dut.b = i & 255; dut.eval(); wrong += dut.p != golden[i];
    }}
    std::printf("%s%ld", &f == &faults[0] ? "" : ", ", wrong);
  }}
  std::printf("], \\"clean_s\\": %.9f, \\"faults_s\\": %.9f}}\\n", clean, now() - start);
}}
"""


def ours(netlist: Netlist) -> tuple[float, list[FaultClass], list[FaultEffect], int]:
    """Return seconds, classes, effects, and gates evaluated (once per gate and pair)."""
    start = time.perf_counter()
    classes = collapse(netlist, all_faults(netlist, PERMANENT))
    patterns = all_patterns([netlist.port("a"), netlist.port("b")])
    simulator = FaultSimulator(netlist, patterns, PAIRS)
    found = list(effects(simulator, classes))
    taken = time.perf_counter() - start
    gates = sum(len(netlist.cone(each.chosen.net)) for each in classes)
    return taken, classes, found, (gates + len(netlist.cells)) * PAIRS


def bitwise(netlist: Netlist, gates: int) -> float:
    """Return seconds that the bitwise operations for so many gates take."""
    steps = sum(len(f.steps) for cell in netlist.cells for _, f in cell.outputs)
    calls = round(gates / PAIRS * steps / len(netlist.cells))
    one, other, out = (np.zeros(PAIRS // 64, np.uint64) for _ in range(3))
    start = time.perf_counter()
    for _ in range(calls):
        np.bitwise_and(one, other, out)
    return time.perf_counter() - start


def verilator(netlist: Netlist, classes: list[FaultClass]) -> dict[str, object]:
    """Return what Verilator counts and how long it takes, for some classes."""
    faults = ", ".join(f"{{{c.chosen.net}, {CODES[c.chosen.kind]}}}" for c in classes)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "broken.v").write_text(with_fault_port(netlist, "broken"))
        (place / "main.cpp").write_text(MAIN.format(faults=faults))
        command = ["verilator", "--cc", "--exe", "--build", "-O3", "--x-assign", "fast"]
        command += ["--noassert", "-Wno-fatal", "-Wno-lint", "-CFLAGS", "-O3 -march=native"]
        subprocess.run(
            [*command, "broken.v", "main.cpp"], cwd=place, check=True, capture_output=True
        )
        done = subprocess.run(
            [place / "obj_dir" / "Vbroken"], check=True, capture_output=True, text=True
        )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def compare(design: Design) -> tuple[list[Row], list[str]]:
    """Return the rows of one circuit, and lines about it."""
    netlist = synthesize(design.source(), None).netlist
    taken, classes, found, gates = ours(netlist)
    sample = np.linspace(0, len(classes) - 1, SAMPLE).round().astype(int).tolist()
    theirs = verilator(netlist, [classes[i] for i in sample])
    counts = [round(PAIRS * (1 - found[i].masked)) for i in sample]
    if counts != theirs["wrong"]:
        raise SystemExit(f"{design.label}: Verilator's counts are not ours")
    rival = float(str(theirs["faults_s"])) * len(classes) / SAMPLE
    clean = len(netlist.cells) * PAIRS / float(str(theirs["clean_s"]))
    rows = [Row(f"{design.label}, all stuck-at faults", rival, taken, bitwise(netlist, gates), "s")]
    faults = sum(len(each.members) for each in classes)
    return rows, [
        f"{design.label}: {len(netlist.cells)} gates, {faults} faults in {len(classes)} classes; "
        f"ours {gates / taken:.3g} gates/s, Verilator {clean:.3g} gates/s without faults; "
        f"{SAMPLE} faults compared, all equal"
    ]


def main() -> None:
    """Time, check, print."""
    path = json_path("Exhaustive simulation of single faults in multipliers.")
    if shutil.which("verilator") is None:
        sys.exit("wanted Verilator (apt-get install verilator), there is none")
    rows, lines = [], []
    for design in (AdamCircuit(), ExactCircuit()):
        more, said = compare(design)
        rows += more
        lines += said
    show("Single stuck-at faults over all 65,536 pairs, one core", rows)
    print("\n".join(lines))
    if path is not None:
        save(path, rows)


if __name__ == "__main__":
    main()
