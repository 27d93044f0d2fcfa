"""Designs: gates, Verilog in another simulator, and the library's cells compute the same."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.approx.behaviour import behaviour_of
from bitproof.circuits import (
    DESIGNS,
    AdamCircuit,
    Design,
    DrumCircuit,
    ExactCircuit,
    MitchellCircuit,
    Source,
    TruncatedCircuit,
    VotedCircuit,
    as_written,
    find_library,
    simulate,
    synthesize,
    to_verilog,
)
from bitproof.circuits.yosys import Synthesized
from bitproof.core.errors import SpecError

TREES = ("operator", "array", "wallace", "dadda", "booth")
ALL = [
    *(ExactCircuit(tree=tree, signed=signed) for tree in TREES for signed in (False, True)),
    TruncatedCircuit(columns=5),
    MitchellCircuit(),
    MitchellCircuit(mantissa=4, signed=True),
    DrumCircuit(segment=5),
    AdamCircuit(),
    AdamCircuit(drop=False),
    AdamCircuit(compensate=True, signed=True),
    AdamCircuit(mantissa=7, checked=(0, 1, 2, 3, 3, 3, 2, 1), protect_characteristic=True),
    VotedCircuit(),
    VotedCircuit(of=AdamCircuit(drop=False, protect_characteristic=True), signed=True),
]
FEW = [ExactCircuit(tree="booth", signed=True), AdamCircuit(compensate=True), VotedCircuit()]
OTHERS = [
    ExactCircuit(width=5, tree="booth"),
    ExactCircuit(width=16, tree="wallace", signed=True),
    MitchellCircuit(width=16, mantissa=9),
    DrumCircuit(width=12, segment=6),
    AdamCircuit(width=4, mantissa=3, checked=(1, 1, 1, 1)),
    AdamCircuit(width=12, mantissa=6, compensate=True),
    AdamCircuit(width=16, mantissa=8, drop=False, protect_characteristic=True, compensate=True),
]


QUICK = {
    "exact array, signed, 8",
    "truncated, 5 columns, 8",
    "Mitchell, t = 4, signed, 8",
    "DRUM-5, 8",
    "TMR of exact, 8",
    "exact booth, 5",
    "AdAM (1, 1, 1, 1), t = 3, 4",
    "AdAM, t = 8, own checker, protected characteristic, compensated, 16",
}
"""Those that the default run looks at."""


def named(design: Design) -> str:
    """Return what a test is called."""
    return f"{design.label}{', signed' if design.signed else ''}, {design.width}"


def pairs(design: Design, count: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of words of 8 bits and less; of more, some, with the largest among them."""
    if design.width <= 8:
        first, second = np.divmod(np.arange(1 << 2 * design.width), 1 << design.width)
    else:
        draw = np.random.default_rng(design.width)
        top = 1 << design.width
        first, second = draw.integers(0, top, (2, count))
        small = draw.integers(0, design.width + 1, (2, count))
        first, second = first >> small[0], second >> small[1]
        first[:4], second[:4] = [0, top - 1, top // 2, 1], [top - 1, top - 1, top // 2, 0]
    return first, second


def values(words: np.ndarray, design: Design) -> torch.Tensor:
    """Return the numbers that words stand for."""
    sign = words >> (design.width - 1) if design.signed else 0 * words
    return torch.from_numpy(words - (sign << design.width))


def products(circuit: Synthesized, design: Design) -> np.ndarray:
    """Return what the gates say."""
    first, second = pairs(design)
    return simulate(circuit.netlist, {"a": first, "b": second}, "p")


def expected(design: Design) -> np.ndarray:
    """Return what the formula says."""
    behaviour = behaviour_of(design)
    assert behaviour is not None
    first, second = pairs(design)
    return behaviour(values(first, design), values(second, design)).numpy()


@pytest.mark.parametrize(
    "design",
    [
        pytest.param(design, marks=() if named(design) in QUICK else pytest.mark.slow)
        for design in (*ALL, *OTHERS)
    ],
    ids=named,
)
def test_gates_compute_the_formula(design: Design) -> None:
    circuit = synthesize(design.source(), None)
    assert np.array_equal(products(circuit, design), expected(design))
    flags = [port.name for port in circuit.netlist.outputs if port.name != "p"]
    for flag in flags:  # nothing is detected where nothing is broken
        first, second = pairs(design)
        assert not simulate(circuit.netlist, {"a": first, "b": second}, flag).any()


@pytest.mark.parametrize("design", FEW, ids=named)
@pytest.mark.parametrize("name", [pytest.param("sky130", marks=pytest.mark.slow), "osu018"])
def test_cells_of_a_library_compute_the_formula(design: Design, name: str, data_dir: Path) -> None:
    if name == "osu018" and not Path("/usr/share/qflow/tech/osu018").is_dir():
        pytest.skip("osu018 is not installed (apt-get install qflow-tech-osu018)")
    library = find_library(name, data_dir)
    circuit = synthesize(design.source(), library)
    assert {cell.kind.name for cell in circuit.netlist.cells} <= {*library.kinds, "$_BUF_"}
    assert np.array_equal(products(circuit, design), expected(design))
    # What was written can be read again, cell by cell.
    again = as_written(Source({"net.v": circuit.verilog}, circuit.netlist.name), library)
    assert np.array_equal(products(again, design), expected(design))


@pytest.mark.parametrize("design", FEW, ids=named)
@pytest.mark.parametrize(
    "simulator", ["iverilog", pytest.param("verilator", marks=pytest.mark.slow)]
)
def test_verilog_computes_the_formula_in_other_simulators(
    design: Design, simulator: str, tmp_path: Path
) -> None:
    if shutil.which(simulator) is None:
        pytest.skip(f"{simulator} is not installed")
    (tmp_path / "design.v").write_text(to_verilog(design.source()))
    if simulator == "iverilog":
        found = run_icarus(design, tmp_path)
    else:
        found = run_verilator(design, tmp_path)
    mask = (1 << 2 * design.width) - 1
    assert np.array_equal(found, expected(design) & mask)


def run_icarus(design: Design, place: Path) -> np.ndarray:
    """Return the products, as words, by Icarus Verilog."""
    (place / "bench.v").write_text(
        f"""module bench;
  reg [7:0] a, b; wire [15:0] p; integer i;
  {design.kind} dut(.a(a), .b(b), .p(p));
  initial for (i = 0; i < 65536; i = i + 1) begin
    {{a, b}} = i; #1 $display("%0d", p);
  end
endmodule
"""
    )
    subprocess.run(["iverilog", "-o", "bench", "bench.v", "design.v"], cwd=place, check=True)
    done = subprocess.run(["vvp", "bench"], cwd=place, check=True, capture_output=True, text=True)
    return np.array(done.stdout.split(), np.int64)


def run_verilator(design: Design, place: Path) -> np.ndarray:
    """Return the products, as words, by Verilator."""
    name = f"V{design.kind}"
    (place / "main.cpp").write_text(
        f"""#include "{name}.h"
#include <cstdio>
int main() {{
  {name} dut;
  for (int i = 0; i < 65536; i++) {{
    dut.a = i >> 8; dut.b = i & 255; dut.eval(); std::printf("%d\\n", dut.p & 0xffff);
  }}
}}
"""
    )
    command = ["verilator", "--cc", "--exe", "--build", "-O1", "-Wno-fatal", "-Wno-lint"]
    subprocess.run(
        [*command, "--top-module", design.kind, "design.v", "main.cpp"],
        cwd=place,
        check=True,
        capture_output=True,
    )
    done = subprocess.run(
        [f"obj_dir/{name}"], cwd=place, check=True, capture_output=True, text=True
    )
    return np.array(done.stdout.split(), np.int64)


def test_quick_designs_are_there() -> None:
    assert {named(design) for design in (*ALL, *OTHERS)} >= QUICK


def test_redundancy_survives_synthesis() -> None:
    single, three = (
        len(synthesize(design.source(), None).netlist.cells)
        for design in (ExactCircuit(), VotedCircuit())
    )
    assert three > 3 * single


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"kind": "adam", "mantissa": 9}, "wanted at most 7 bits, got 9"),
        ({"kind": "adam", "checked": [1, 2]}, "wanted 8 numbers, one for each place, got 2"),
        ({"kind": "adam", "checked": [3] * 8}, "at most 2 of 5 mantissa bits while cells are lent"),
        ({"kind": "adam", "width": 3}, "width"),
        ({"kind": "mitchell", "width": 4, "mantissa": 4}, "wanted at most 3 bits, got 4"),
        ({"kind": "drum", "width": 4, "segment": 4}, "wanted less than the width, 4, got 4"),
        ({"kind": "exact", "tree": "wallas"}, "tree"),
    ],
)
def test_impossible_designs_are_refused(table: dict[str, object], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        DESIGNS.build(table)


def test_copies_have_the_words_of_the_voted() -> None:
    design = VotedCircuit(of=MitchellCircuit(), width=12, signed=True)
    assert (design.of.width, design.of.signed) == (12, True)
    inside = VotedCircuit(of=MitchellCircuit(width=6))
    assert (inside.width, inside.signed) == (6, False)
    assert DESIGNS.validate(design.model_dump(mode="json")) == design


def test_the_default_policy_loses_bits_only_where_none_is_idle() -> None:
    design = AdamCircuit()
    assert design.checks == (1, 1, 2, 2, 2, 2, 2, 2)
    assert design.lost == (0, 0, 0, 0, 1, 2, 2, 2)
    assert AdamCircuit(drop=False).lost == (0,) * 8
