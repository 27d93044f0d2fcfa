"""Circuits of gates: multipliers as hardware, their cost, and what single faults do to them."""

from bitproof.circuits.activity import Activity, activity, uniform_pairs
from bitproof.circuits.built_in import (
    AdamCircuit,
    DrumCircuit,
    ExactCircuit,
    MitchellCircuit,
    TruncatedCircuit,
    VotedCircuit,
)
from bitproof.circuits.cost import CircuitCost, cost_of
from bitproof.circuits.design import DESIGNS, AnyDesign, Design
from bitproof.circuits.liberty import NAMED, Library, find_library
from bitproof.circuits.net_faults import (
    NET_FAULT_KINDS,
    FaultEffect,
    FaultSimulator,
    NetFault,
    NetFaultKind,
    all_faults,
    collapse,
    effects,
)
from bitproof.circuits.netlist import Cell, Netlist, Port
from bitproof.circuits.reliability import Reliability, by_block, summarize
from bitproof.circuits.rivals import with_rivals
from bitproof.circuits.simulation import all_patterns, pattern_rows, simulate
from bitproof.circuits.sta import available as sta_available
from bitproof.circuits.yosys import (
    Source,
    Synthesized,
    as_written,
    read_sources,
    synthesize,
    to_verilog,
)
from bitproof.circuits.yosys_json import load_netlist, read_netlist

__all__ = [
    "DESIGNS",
    "NAMED",
    "NET_FAULT_KINDS",
    "Activity",
    "AdamCircuit",
    "AnyDesign",
    "Cell",
    "CircuitCost",
    "Design",
    "DrumCircuit",
    "ExactCircuit",
    "FaultEffect",
    "FaultSimulator",
    "Library",
    "MitchellCircuit",
    "NetFault",
    "NetFaultKind",
    "Netlist",
    "Port",
    "Reliability",
    "Source",
    "Synthesized",
    "TruncatedCircuit",
    "VotedCircuit",
    "activity",
    "all_faults",
    "all_patterns",
    "as_written",
    "by_block",
    "collapse",
    "cost_of",
    "effects",
    "find_library",
    "load_netlist",
    "pattern_rows",
    "read_netlist",
    "read_sources",
    "simulate",
    "sta_available",
    "summarize",
    "synthesize",
    "to_verilog",
    "uniform_pairs",
    "with_rivals",
]
