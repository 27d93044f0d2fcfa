"""Circuits that several tests look at; they need the packages of the extra `circuits`."""

from importlib.util import find_spec

import pytest

from bitproof.circuits import AdamCircuit, ExactCircuit, Netlist, synthesize

if not (find_spec("amaranth") and find_spec("pyosys")):
    collect_ignore = [
        "test_ariths_gen.py",
        "test_built_in.py",
        "test_fault_port.py",
        "test_net_faults.py",
        "test_netlist.py",
        "test_simulation.py",
    ]


@pytest.fixture(scope="session")
def adam() -> Netlist:
    """Return AdAM of 4 bits, of plain gates."""
    return synthesize(AdamCircuit(width=4, mantissa=3, checked=(1, 1, 1, 1)).source(), None).netlist


@pytest.fixture(scope="session")
def exact() -> Netlist:
    """Return an exact multiplier of 4 bits."""
    return synthesize(ExactCircuit(width=4, tree="dadda").source(), None).netlist
