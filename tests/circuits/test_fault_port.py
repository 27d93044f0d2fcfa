"""Faulty products in another simulator, by the port that breaks a net."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bitproof.circuits import FaultSimulator, Netlist, all_faults, all_patterns
from bitproof.circuits.fault_port import CODES, with_fault_port
from bitproof.circuits.simulation import read_port

BENCH = """module bench;
  reg [3:0] a, b; reg [{last}:0] net; reg [1:0] kind; wire [7:0] p; wire detected; integer i;
  broken dut(.a(a), .b(b), .fault_net(net), .fault_kind(kind), .p(p), .detected(detected));
  initial begin
{steps}
  end
endmodule
"""
STEP = """    net = {net}; kind = {kind};
    for (i = 0; i < 256; i = i + 1) begin {{a, b}} = i; #1 $display("%0d", p); end"""


def test_icarus_finds_the_same_faulty_products(adam: Netlist, tmp_path: Path) -> None:
    if shutil.which("iverilog") is None:
        pytest.skip("iverilog is not installed")
    faults = all_faults(adam)[::9]
    steps = "\n".join(STEP.format(net=each.net, kind=CODES[each.kind]) for each in faults)
    last = (adam.n_nets - 1).bit_length() - 1
    (tmp_path / "bench.v").write_text(BENCH.format(last=last, steps=steps))
    (tmp_path / "broken.v").write_text(with_fault_port(adam, "broken"))
    command = ["iverilog", "-g2012", "-o", "bench", "bench.v", "broken.v"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(
        ["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    found = np.array(done.stdout.split(), np.int64).reshape(len(faults), 256)
    simulator = FaultSimulator(adam, all_patterns([adam.port("a"), adam.port("b")]), 256)
    golden = simulator.golden_port("p")
    for fault, products in zip(faults, found, strict=True):
        assert np.array_equal(products, read_port(simulator.rows(fault), adam.port("p"), 256))
    assert (found != golden).any(1).mean() > 0.5
