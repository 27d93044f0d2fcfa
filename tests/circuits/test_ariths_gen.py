"""Verilog of ArithsGen, read and synthesized, against the package's own simulation."""

from importlib import import_module
from io import StringIO
from typing import Any

import pytest

pytest.importorskip("ariths_gen")

from bitproof.approx import ArithsGen
from bitproof.approx.circuit import product_port, table_of_circuit
from bitproof.approx.circuit_measurement import with_signs
from bitproof.circuits import Source, synthesize
from bitproof.circuits.unit_gates import area

CIRCUITS = [
    ArithsGen(circuit="SignedDaddaMultiplier"),
    ArithsGen(circuit="UnsignedWallaceMultiplier"),
    ArithsGen(circuit="UnsignedBrokenArrayMultiplier", horizontal_cut=1, vertical_cut=4),
    ArithsGen(circuit="UnsignedBrokenArrayMultiplier", horizontal_cut=2, vertical_cut=6),
    ArithsGen(circuit="UnsignedTruncatedArrayMultiplier", truncation_cut=3),
]


def verilog(one: ArithsGen, *, flat: bool) -> str:
    """Return what the package writes."""
    cuts: dict[str, Any] = {
        name: getattr(one, name)
        for name in ("horizontal_cut", "vertical_cut", "truncation_cut")
        if getattr(one, name)
    }
    folder = "approximate_multipliers" if cuts else "multipliers"
    kind = getattr(import_module(f"ariths_gen.multi_bit_circuits.{folder}"), one.circuit)
    bus = import_module("ariths_gen.wire_components").Bus
    made, text = kind(bus("a", 8), bus("b", 8), **cuts), StringIO()
    (made.get_v_code_flat if flat else made.get_v_code_hier)(text)
    return text.getvalue()


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("one", CIRCUITS, ids=lambda one: f"{one.circuit}-{one.vertical_cut}")
def test_products_are_those_of_the_package(one: ArithsGen, flat: bool) -> None:
    circuit = synthesize(Source({"m.v": verilog(one, flat=flat)}, ""), None, flatten=True)
    product = product_port(circuit.netlist)
    circuit, _ = with_signs(circuit, product, None)
    found, wanted = table_of_circuit(circuit.netlist, product), one.table()
    assert found.signed == wanted.signed
    assert (found.products == wanted.products).all()


def test_deeper_cuts_are_smaller() -> None:
    areas = [
        area(synthesize(Source({"m.v": verilog(one, flat=True)}, ""), None).netlist)
        for one in (*CIRCUITS[1:4],)
    ]
    assert areas == sorted(areas, reverse=True)
