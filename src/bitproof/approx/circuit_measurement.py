"""All there is to know of one multiplier circuit: cost, errors, and what single faults do to it.

Model:  up to 20 bits of both operands, all pairs are simulated; of wider ones, a fixed sample, from
        which errors are estimates as well. Gates and formula are compared on all of them, and a
        difference is an error. Errors count all pairs alike; faults too, or as often as a layer of
        a network meets them. Power is that of pairs one after the other, drawn alike or as they
        pass through a multiplier of that layer.
Source: METHODS C.2 and C.3.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from bitproof.approx.behaviour import Behaviour, behaviour_of
from bitproof.approx.circuit import FLAG, operand_ports
from bitproof.approx.figures import ErrorFigures, figures_of
from bitproof.approx.operands import OperandPairs
from bitproof.circuits.activity import Activity, activity, uniform_pairs
from bitproof.circuits.cost import CircuitCost, cost_of
from bitproof.circuits.design import Design
from bitproof.circuits.liberty import Library
from bitproof.circuits.net_faults import (
    NET_FAULT_KINDS,
    PERMANENT,
    TOLERANCE,
    FaultEffect,
    FaultSimulator,
    all_faults,
    collapse,
    effects,
)
from bitproof.circuits.netlist import Netlist, Port
from bitproof.circuits.reliability import Reliability, by_block, summarize
from bitproof.circuits.simulation import MOST_EXHAUSTIVE, numbers, pattern_rows, simulate
from bitproof.circuits.yosys import Synthesized, synthesize
from bitproof.core.errors import CircuitError
from bitproof.kernels.forms import WORDS

SAMPLE = 65_536
"""Pairs that are simulated of wider operands."""
READING = {False: "unsigned", True: "two's complement"}
Words = Int64[np.ndarray, " pairs"]


@dataclass(frozen=True, eq=False)
class CircuitFigures:
    """One circuit."""

    label: str
    cost: CircuitCost
    errors: ErrorFigures
    permanent: Reliability | None
    """Nets held at 0 or 1."""
    transient: Reliability | None
    """Nets that turn over for one operation."""
    effects: tuple[FaultEffect, ...]
    """Of every class of faults."""
    pairs: int
    exhaustive: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: cost, errors, what faults do; of stuck nets, also by block."""
        stuck = [each for each in self.effects if each.fault.kind in PERMANENT]
        sampled = None if self.exhaustive else self.pairs
        blocks = by_block(stuck, sampled=sampled).items()
        return {
            "label": self.label,
            **vars(self.cost),
            "pdp": self.cost.pdp,
            **vars(self.errors),
            "pairs": self.pairs,
            "exhaustive": self.exhaustive,
            "permanent": self.permanent and self.permanent.to_dict(),
            "transient": self.transient and self.transient.to_dict(),
            "blocks": {name: block.to_dict() for name, block in blocks},
        }


@dataclass(frozen=True, eq=False)
class Pairs:
    """Operands that are simulated, as patterns, and how much each pair counts."""

    first: Words
    second: Words
    exhaustive: bool
    weights: np.ndarray | None
    """Shares; None: all alike."""


def measure_design(
    design: Design,
    library: Library | None,
    *,
    operands: OperandPairs | None = None,
    tolerance: float = TOLERANCE,
) -> CircuitFigures:
    """Return the figures of a design.

    Raises:
        CircuitError: its gates do not compute what its formula says, or a tool fails.
        AdapterError: Amaranth or Yosys is not installed.
    """
    circuit = synthesize(design.source(), library)
    return measure_circuit(
        circuit,
        design.label,
        behaviour=behaviour_of(design),
        operands=operands,
        tolerance=tolerance,
    )


def check_equal(plain: Netlist, mapped: Netlist) -> None:
    """Check that a synthesized circuit computes what its gates as they are written compute.

    Raises:
        CircuitError: it does not, for some pair that is looked at.
    """
    one, other = operand_ports(plain)
    pairs = _pairs(plain, None)
    words = {one.name: pairs.first, other.name: pairs.second}
    for port in plain.outputs:
        found, wanted = (simulate(each, words, port.name) for each in (mapped, plain))
        if wrong := int((found != wanted).sum()):
            raise CircuitError(
                f"{mapped.name}: cells and source differ at {port.name} for {wrong} of "
                f"{len(wanted)} pairs: the library's functions are not what synthesis took them for"
            )


def measure_circuit(
    circuit: Synthesized,
    label: str,
    *,
    behaviour: Behaviour | None = None,
    operands: OperandPairs | None = None,
    tolerance: float = TOLERANCE,
    product: str = "p",
) -> CircuitFigures:
    """Return the figures of a synthesized multiplier; `product` names its output.

    Raises:
        CircuitError: gates and formula differ, or a tool fails.
    """
    netlist = circuit.netlist
    one, other = operand_ports(netlist)
    pairs = _pairs(netlist, operands)
    patterns = {
        one.name: pattern_rows(pairs.first, len(one.nets)),
        other.name: pattern_rows(pairs.second, len(other.nets)),
    }
    simulator = FaultSimulator(netlist, patterns, len(pairs.first))
    found = torch.from_numpy(simulator.golden_port(product))
    first, second = (
        torch.from_numpy(_value(words, port))
        for words, port in ((pairs.first, one), (pairs.second, other))
    )
    if behaviour is not None and not torch.equal(behaviour(first, second), found):
        wrong = int((behaviour(first, second) != found).sum())
        raise CircuitError(f"{label}: gates and formula differ for {wrong} of {len(found)} pairs")
    _check_flag(simulator, label)
    classes = collapse(netlist, all_faults(netlist, NET_FAULT_KINDS))
    seen = tuple(
        effects(simulator, classes, product=product, weights=pairs.weights, tolerance=tolerance)
    )
    sampled = None if pairs.exhaustive else len(pairs.first)
    return CircuitFigures(
        label,
        cost_of(circuit, _switching(netlist, operands)),
        figures_of(found, first * second),
        summarize([each for each in seen if each.fault.kind in PERMANENT], sampled=sampled),
        summarize([each for each in seen if each.fault.kind == "flip"], sampled=sampled),
        seen,
        len(pairs.first),
        pairs.exhaustive,
    )


def with_signs(circuit: Synthesized, product: str, signed: bool | None) -> tuple[Synthesized, str]:
    """Return a circuit whose ports say how they are read, and a line that tells.

    Many netlists of signed circuits have ports that are declared as plain words. `signed` says what
    they are; None: what is declared, or, where nothing is, what comes nearer to exact products.

    Raises:
        CircuitError: one operand is declared signed and the other is not, or `signed` denies it.
    """
    netlist = circuit.netlist
    operands, out = operand_ports(netlist), netlist.port(product)
    if out.signed or any(port.signed for port in operands):
        if signed is False or not all(port.signed for port in operands):
            ports = (*operands, out)
            names = ", ".join(f"{p.name} {'signed' if p.signed else 'plain'}" for p in ports)
            raise CircuitError(f"{netlist.name}: wanted operands of one sort, got {names}")
        return _signed(circuit, product, True), "operands are two's complement, as declared"
    if signed is not None:
        return _signed(circuit, product, signed), f"operands are read as {READING[signed]}"
    distances = {way: _distance(_signed(circuit, product, way).netlist, product) for way in READING}
    best = min(distances, key=lambda way: (distances[way], way))
    note = ", ".join(f"{READING[way]} {100 * nmed:.4g} %" for way, nmed in distances.items())
    return _signed(circuit, product, best), (
        f"operands are read as {READING[best]}, which fits best (NMED as {note}); "
        "--signed or --no-signed to say otherwise"
    )


def _signed(circuit: Synthesized, product: str, signed: bool) -> Synthesized:
    netlist = circuit.netlist

    def read(port: Port) -> Port:
        return replace(port, signed=signed)

    outputs = tuple(read(port) if port.name == product else port for port in netlist.outputs)
    return replace(
        circuit, netlist=replace(netlist, inputs=tuple(map(read, netlist.inputs)), outputs=outputs)
    )


def _distance(netlist: Netlist, product: str) -> float:
    """Return the mean distance to exact products, over the largest of them."""
    pairs, (one, other) = _pairs(netlist, None), operand_ports(netlist)
    words = {one.name: pairs.first, other.name: pairs.second}
    found = simulate(netlist, words, product)
    exact = _value(pairs.first, one) * _value(pairs.second, other)
    return float(np.abs(found - exact).mean() / np.abs(exact).max())


def _check_flag(simulator: FaultSimulator, label: str) -> None:
    """Check that a flag has one bit, and tells of nothing while nothing is broken."""
    for port in simulator.netlist.outputs:
        if port.name != FLAG:
            continue
        raised = int((simulator.golden_port(FLAG) != 0).sum())
        if len(port.nets) != 1 or raised:
            raise CircuitError(
                f"{label}: wanted one bit '{FLAG}' that is 0 without faults, got {len(port.nets)} "
                f"bits that are not 0 for {raised} of {simulator.count} pairs"
            )


def _pairs(netlist: Netlist, operands: OperandPairs | None) -> Pairs:
    one, other = operand_ports(netlist)
    size, last = 1 << len(one.nets), 1 << len(other.nets)
    if operands is not None:
        if (size, last) != (WORDS, WORDS):
            raise CircuitError(
                f"{netlist.name}: wanted 8 bits for the operands of a network, got "
                f"{len(one.nets)} and {len(other.nets)}"
            )
        first, second = np.divmod(np.arange(size * last), last)
        return Pairs(first, second, True, operands.shares.numpy().reshape(-1))
    if len(one.nets) + len(other.nets) <= MOST_EXHAUSTIVE:
        first, second = np.divmod(np.arange(size * last), last)
        return Pairs(first, second, True, None)
    draw = np.random.default_rng(0)
    first, second = (draw.integers(0, top, SAMPLE, dtype=np.int64) for top in (size, last))
    return Pairs(first, second, False, None)


def _switching(netlist: Netlist, operands: OperandPairs | None) -> Activity:
    if operands is None:
        return activity(netlist, uniform_pairs(netlist), "uniform pairs")
    one, other = operand_ports(netlist)
    words = {one.name: operands.first.numpy(), other.name: operands.second.numpy()}
    return activity(netlist, words, f"layer {operands.layer}")


def _value(words: Words, port: Port) -> Words:
    return numbers(pattern_rows(words, len(port.nets)), len(words), signed=port.signed)
