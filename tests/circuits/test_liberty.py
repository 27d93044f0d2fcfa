"""Cell libraries."""

import gzip
from pathlib import Path

import pytest

from bitproof.circuits.liberty import NAMED, find_library, parse_library
from bitproof.core.errors import CircuitError

TEXT = """
/* a { comment } with braces */
library ("small") {
  nom_voltage : 1.8;
  cell (NAND2) {
    area : 3.5;
    pg_pin ("VPWR") { pg_type : "primary_power"; }
    leakage_power () { value : 1.0; when : "!A&B"; }
    pin ("A") { direction : "input"; capacitance : 0.002; }
    pin (B) { direction : input; }
    pin (Y) { direction : "output"; function : "!(A & B)";
      timing () { related_pin : "A"; values ("0.1, {0.2}", "0.3"); } }
  }
  cell (ADD) { area : 20;
    pin (A) { direction : input; } pin (B) { direction : input; }
    pin (CO) { direction : output; function : "A*B"; }
    pin (S) { direction : output; function : "A^B"; } }
  cell ("DFF") { area : 9; ff ("IQ","IQ_N") { next_state : "D"; clocked_on : "CK"; }
    pin (D) { direction : input; } pin (CK) { direction : input; }
    pin (Q) { direction : output; function : "IQ"; } }
  cell (TRI) { area : 4; pin (A) { direction : input; } pin (E) { direction : input; }
    pin (Y) { direction : output; function : "A"; three_state : "!E"; } }
}
"""


def test_areas_pins_and_functions_are_read() -> None:
    kinds = parse_library(TEXT, "x").kinds
    assert set(kinds) == {"NAND2", "ADD", "DFF", "TRI"}
    nand, add = kinds["NAND2"], kinds["ADD"]
    assert (nand.area, nand.inputs) == (3.5, ("A", "B"))
    assert nand.outputs["Y"].truth_table == 0b0111
    assert {pin: f.truth_table for pin, f in add.outputs.items()} == {"CO": 8, "S": 6}


def test_cells_with_a_state_or_a_floating_output_are_known_as_such() -> None:
    kinds = parse_library(TEXT, "x").kinds
    assert [bool(kinds[name].refused) for name in ("NAND2", "ADD", "DFF", "TRI")] == [False] * 2 + [
        True
    ] * 2


def test_a_cell_that_is_not_understood_is_refused_where_it_is_used() -> None:
    kinds = parse_library(TEXT.replace('"!(A & B)"', '"!(A & Q)"'), "x").kinds
    assert "one of the pins A, B, got 'Q'" in kinds["NAND2"].refused
    assert not kinds["ADD"].refused


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no cell"),
        ("library (x) { }", "no cell"),
        (TEXT[:-4], "ends inside"),
        (TEXT + "}", "too many"),
        (TEXT.replace("area : 3.5", "area : big"), "wanted a number as area, got 'big'"),
    ],
)
def test_malformed_libraries_are_refused(text: str, problem: str) -> None:
    with pytest.raises(CircuitError, match=problem):
        parse_library(text, "x.lib")


def test_a_users_library_may_be_compressed(tmp_path: Path) -> None:
    path = tmp_path / "own.lib.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    assert find_library(str(path), None).kinds["NAND2"].area == 3.5
    path.write_bytes(gzip.compress(TEXT.encode())[:50])
    with pytest.raises(CircuitError, match="wanted a Liberty file"):
        find_library(str(path), None)


def test_an_unknown_library_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CircuitError, match="sky130, osu018, unit"):
        find_library("sky130x", None)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_named_libraries_have_gates(name: str, data_dir: Path) -> None:
    if name == "osu018" and not Path(NAMED[name].file).is_file():
        pytest.skip(f"{name} is not installed: {NAMED[name].where}")
    library = find_library(name, data_dir)
    tables = {
        function.truth_table
        for kind in library.kinds.values()
        if len(kind.inputs) == 2
        for function in kind.outputs.values()
    }
    assert {0b0111, 0b0001, 0b0110, 0b1001} <= tables  # nand, nor, xor, xnor
    assert any(kind.refused for kind in library.kinds.values())
