"""`bitproof circuit`: reports, other people's Verilog, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitproof.approx import Mitchell, Stored, multiplier_of, short_name
from bitproof.circuits import Design, ExactCircuit, VotedCircuit

pytest.importorskip("amaranth")
pytest.importorskip("pyosys")
Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
EXACT = "module mine(input [7:0] x, y, output [15:0] z); assign z = x * y; endmodule\n"
NARROW = EXACT.replace("[7:0]", "[3:0]").replace("[15:0]", "[7:0]")


def write(folder: Path, text: str, name: str = "mine.v") -> Path:
    """Write one file of Verilog into a folder, and return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder


def test_all_designs_are_listed(call: Call) -> None:
    outcome = call("circuit", "list")
    assert (outcome.code, outcome.err) == (0, "")
    for kind in ("adam", "exact", "mitchell", "drum", "truncated", "tmr"):
        assert f"│ {kind} " in outcome.out


@pytest.mark.slow
def test_a_report_has_all_rivals(call: Call) -> None:
    outcome = call("circuit", "report", "adam", "--width", 4)
    for label in (
        "exact dadda",
        "DRUM-3",
        "TMR of Mitchell",
        "AdAM, t = 3, protected characteristic",
    ):
        assert label in outcome.out


def test_a_report_has_ratios_blocks_and_files(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(wanted: list[Design], **_words: object) -> list[Design]:
        return [ExactCircuit(width=4), VotedCircuit(width=4), *wanted]

    monkeypatch.setattr("bitproof.cli.circuit.with_rivals", few)
    outcome = call("circuit", "report", "adam", "--width", 4, "--json", "rows.json")
    assert (outcome.code, outcome.err) == (0, "")
    assert "by the unit-gate model: area, delay, power" in outcome.out
    assert "nets held at 0 or 1, by block" in outcome.out
    rows = {row["label"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert rows["exact"]["mred"] == 0
    assert rows["TMR of exact"]["area"] > 3 * rows["exact"]["area"]
    stuck = {label: row["permanent"]["coverage"] for label, row in rows.items()}
    assert stuck["exact"] < stuck["AdAM, t = 3"] < stuck["TMR of exact"]
    for row in rows.values():
        parts = [row["permanent"][name] for name in ("masked", "mitigated", "detected", "silent")]
        assert sum(parts) == pytest.approx(1)
    assert rows["exact"]["permanent"]["mitigated"] == 0
    assert "checker" in rows["AdAM, t = 3"]["blocks"]


@pytest.mark.slow
def test_verilog_that_is_written_can_be_read_back(call: Call, tmp_path: Path) -> None:
    assert call("circuit", "verilog", "mitchell", "--out", "m.v").code == 0
    outcome = call("circuit", "import", "m.v", "--table", "m.npz")
    assert (outcome.code, outcome.err) == (0, "")
    stored = Stored(path=str(tmp_path / "m.npz"), signed=False).table()
    assert np.array_equal(stored.products, Mitchell().table().products)


def test_ports_without_signs_are_read_as_what_fits(call: Call, tmp_path: Path) -> None:
    text = """module mine(input [3:0] x, y, output [7:0] z);
  wire signed [3:0] a = x, b = y; wire signed [7:0] p = a * b; assign z = p;
endmodule
"""
    place = write(tmp_path / "v", text)
    best = call("circuit", "import", place, "--json", "best.json")
    assert "operands are read as two's complement, which fits best (NMED" in best.out
    assert call("circuit", "import", place, "--no-signed", "--json", "forced.json").code == 0
    found = [json.loads((tmp_path / f"{name}.json").read_text())[0] for name in ("best", "forced")]
    assert found[0]["nmed"] == 0
    assert found[1]["nmed"] > 0.2


def test_a_plain_product_of_signed_operands_is_signed(call: Call, tmp_path: Path) -> None:
    place = write(tmp_path / "v", NARROW.replace("input", "input signed"))
    outcome = call("circuit", "import", place, "--json", "rows.json")
    assert "two's complement, as declared" in outcome.out
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["wce"] == 0
    refused = call("circuit", "import", place, "--no-signed")
    assert (refused.code, "wanted operands of one sort" in refused.err) == (2, True)


def test_gates_can_be_taken_as_they_are_written(call: Call, tmp_path: Path) -> None:
    gates = """module mine(input [1:0] x, y, output [3:0] z);
  wire p, q, r, s, c;
  and (z[0], x[0], y[0]); and (p, x[1], y[0]); and (q, x[0], y[1]); and (r, x[1], y[1]);
  xor (z[1], p, q); and (c, p, q); xor (z[2], r, c); and (z[3], r, c);
endmodule
"""
    place = write(tmp_path / "v", gates)
    outcome = call("circuit", "import", place, "--as-written", "--json", "rows.json")
    assert (outcome.code, outcome.err) == (0, "")
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["cells"], row["area"], row["wce"]) == (8, 10, 0)
    nets = 2 + 2 + 8  # operands, and what gates drive
    assert row["permanent"]["faults"] == 2 * nets


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (EXACT.replace("x * y", "x * ;"), "mine.v:1: syntax error"),
        (EXACT.replace("x * y", "x * q"), "Identifier|no driver"),
        (EXACT.replace("endmodule", "wire [7:0] q; assign z = q; endmodule"), "driver"),
        (EXACT + EXACT.replace("mine", "other"), "wanted one module on top.*mine, other"),
        (
            "module m(input c, input [7:0] x, y, output reg [15:0] z);"
            " always @(posedge c) z <= x * y; endmodule",
            "wanted a combinational circuit",
        ),
        (EXACT.replace("x, y", "x, y, w"), r"wanted a multiplier with two input words.*w \(8"),
        (EXACT.replace("assign z = x * y;", "foo f(x, y, z);"), "foo"),
        (EXACT.replace("x * y", "x[0] ? x * y : 16'bz"), "lets go of its output"),
        (EXACT.replace("x * y", "{1'bx, x[6:0] * y}"), "nothing drives it"),
        (
            EXACT.replace("[15:0] z", "[15:0] c, z").replace("= x", "= c; assign c = x"),
            "wanted one output as product",
        ),
        (EXACT.replace("[15:0] z", "[39:0] z"), "a product of at most 32 bits, got 40"),
        (EXACT.replace("[7:0] x, y", "[63:0] x, y"), "operands of at most 16 bits"),
        (
            EXACT.replace("endmodule", "endmodule module other(output detected); endmodule"),
            "wanted one module on top",
        ),
        (
            EXACT.replace("z);", "z, output detected); assign detected = 1'b1;"),
            "wanted one bit 'detected' that is 0 without faults",
        ),
        ('`include "/etc/passwd"\n' + EXACT, "wanted includes of headers beside it"),
        (EXACT.replace("assign", 'initial $readmemh("x", z); assign'), "no data files are read"),
        (
            "module leaf(input [7:0] a, b, output [15:0] c); assign c = a * b; endmodule\n"
            + EXACT.replace("assign z = x * y;", "leaf l(.a(x), .c(z));"),
            "no driver",
        ),
        (
            'import "DPI-C" function integer system(integer p);\n'
            + EXACT.replace("assign", "localparam r = system(1); assign"),
            "DPI",
        ),
    ],
)
def test_what_is_no_multiplier_is_refused_in_one_line(
    text: str, problem: str, call: Call, tmp_path: Path
) -> None:

    outcome = call("circuit", "import", write(tmp_path / "v", text))
    assert (outcome.code, len(outcome.problems)) == (2, 1)
    assert re.search(problem, outcome.err), outcome.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("report", "adm"), "Did you mean 'adam'"),
        (("report", "adam:drp=true"), "Did you mean 'drop'"),
        (("report", "adam", "--t", "9"), "wanted at most 7 bits, got 9"),
        (("report", "adam", "--lib", "sky13"), "wanted sky130, osu018, unit"),
        (("import", "nowhere"), "there is no such file or folder"),
        (("import", "."), "wanted files that end in .v"),
        (("verilog", "tmr:of=[adm]"), "Did you mean 'adam'"),
        (("report", "exact:width=4", "--width", "6"), "wanted width 6"),
        (("report", "adam:kind=exact"), "wanted KIND or KIND:field=value"),
        (("import", "x.v", "--table", "x.csv"), "wanted a file that ends in .npz"),
        (("import", "x.v", "--as-written", "--keep-hierarchy"), "got both"),
    ],
)
def test_bad_words_are_refused_in_one_line(
    words: tuple[str, ...], problem: str, call: Call
) -> None:
    outcome = call("circuit", *words)
    assert (outcome.code, len(outcome.problems)) == (2, 1)
    assert problem in outcome.err


def test_a_module_on_top_is_no_command(call: Call, tmp_path: Path) -> None:
    place = write(tmp_path / "v", EXACT)
    outcome = call("circuit", "import", place, "--top", "mine; exec -- touch pwned")
    assert outcome.code == 2
    assert "wanted the name of a module" in outcome.err
    assert not (tmp_path / "pwned").exists()


def test_names_of_files_and_modules_reach_no_command(call: Call, tmp_path: Path) -> None:
    place = write(tmp_path / "v", NARROW, "mine.v; exec -- touch pwned")
    assert call("circuit", "import", place / "mine.v; exec -- touch pwned").code == 0
    odd = write(tmp_path / "w", NARROW.replace("module mine", "module mine$8"))
    found = call("circuit", "import", odd)
    assert (found.code, "mine$8" in found.out) == (0, True)
    escaped = write(tmp_path / "x", EXACT.replace("module mine", "module \\[{*}exec\\x20touch] "))
    refused = call("circuit", "import", escaped)
    assert (refused.code, "wanted the name of a module" in refused.err) == (2, True)
    assert not list(tmp_path.rglob("pwned"))


def test_netlists_of_yosys_can_be_imported(call: Call, tmp_path: Path) -> None:
    cells = {
        f"g{i}{j}": {
            "type": "$_AND_",
            "port_directions": {"A": "input", "B": "input", "Y": "output"},
            "connections": {"A": [2 + i], "B": [4 + j], "Y": [6 + 2 * i + j]},
        }
        for i in range(2)
        for j in range(2)
    }
    bits = {"x": [2, 3], "y": [4, 5], "z": [6, 7, 8, 9]}
    ports = {
        name: {"direction": "output" if name == "z" else "input", "bits": own}
        for name, own in bits.items()
    }
    path = tmp_path / "n.json"
    path.write_text(json.dumps({"modules": {"n": {"ports": ports, "cells": cells}}}))
    outcome = call("circuit", "import", path, "--as-written", "--json", "rows.json")
    assert (outcome.code, outcome.err) == (0, "")
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["cells"], row["permanent"]["faults"]) == (4, 16)
    path.write_text("{")
    refused = call("circuit", "import", path)
    assert (refused.code, len(refused.problems)) == (2, 1)


def test_headers_of_the_folder_may_be_included(call: Call, tmp_path: Path) -> None:
    place = write(tmp_path / "v", "`define TOP 7\n", "sizes.vh")
    write(place, '`include "sizes.vh"\n' + EXACT.replace("[7:0]", "[`TOP:0]"))
    outcome = call("circuit", "import", place)
    assert (outcome.code, outcome.err) == (0, "")


def test_big_endian_ports_and_uneven_operands_are_read(call: Call, tmp_path: Path) -> None:
    text = "module m(input [0:3] x, input [5:0] y, output [0:9] z); assign z = x * y; endmodule\n"
    place = write(tmp_path / "v", text)
    assert call("circuit", "import", place, "--json", "rows.json").code == 0
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["wce"], row["pairs"], row["exhaustive"]) == (0, 1024, True)


def test_options_reach_the_copies(call: Call) -> None:
    outcome = call("circuit", "verilog", "tmr:of=[adam]", "--width", 4)
    assert (outcome.code, outcome.err) == (0, "")
    assert "input [3:0] a" in outcome.out


@pytest.mark.parametrize(
    "name",
    [
        "circuit:adam:drop=true,mantissa=5,signed=true,width=8",
        "circuit:tmr:of=[exact:tree=dadda,width=8],width=8",
        "circuit:adam:checked=[1,1,1,1,1,1,1,1],drop=true,mantissa=5,width=8",
    ],
)
def test_names_of_circuits_are_understood(name: str) -> None:
    assert short_name(multiplier_of(name)) == name
