"""A multiplier that is a circuit of gates: its products are what the gates say.

Model:  the design is synthesized to plain gates, and all 65,536 pairs are simulated. Networks on it
        can have faults in its gates (`evaluation.multiplier_faults`).
Source: `bitproof.circuits`.
"""

from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import field_validator

from bitproof.approx.base import MULTIPLIERS, Multiplier, ProductTable
from bitproof.circuits import AnyDesign, Design, Netlist, Port, simulate, synthesize
from bitproof.core.errors import CircuitError
from bitproof.kernels.forms import WORDS

MOST_BITS = 16
"""Bits of an operand of circuits that are measured."""
FLAG = "detected"
"""The output that tells of a fault."""


@MULTIPLIERS.register
class CircuitMultiplier(Multiplier):
    """Multiply as a circuit of gates does; needs the extra `circuits`.

    Example:
        >>> from bitproof.circuits import MitchellCircuit
        >>> CircuitMultiplier(design=MitchellCircuit(mantissa=5)).design.label
        'Mitchell, t = 5'
    """

    kind: Literal["circuit"] = "circuit"
    design: AnyDesign
    """The circuit, of 8-bit operands."""

    @field_validator("design")
    @classmethod
    def _check_width(cls, design: Design) -> Design:
        if design.width != 8:
            raise ValueError(f"wanted operands of 8 bits, got {design.width}")
        return design

    def table(self, data_dir: Path | str | None = None) -> ProductTable:  # noqa: ARG002
        """Return what the gates say for all pairs.

        Raises:
            AdapterError: Amaranth or Yosys is not installed.
        """
        return table_of_circuit(gates_of(self.design), "p")


@lru_cache(maxsize=32)
def gates_of(design: Design) -> Netlist:
    """Return a design as plain gates, made once.

    Raises:
        AdapterError: Amaranth or Yosys is not installed.
    """
    return synthesize(design.source(), None).netlist


def operand_ports(netlist: Netlist) -> tuple[Port, Port]:
    """Return the two operands of a multiplier: `a` and `b`, or whatever its two inputs are.

    Raises:
        CircuitError: there are not two inputs.
    """
    ports = {port.name: port for port in netlist.inputs}
    if len(ports) != 2:
        came = ", ".join(f"{name} ({len(port.nets)} bits)" for name, port in ports.items())
        raise CircuitError(
            f"{netlist.name}: wanted a multiplier with two input words, got {came or 'none'}"
        )
    wide = [f"{port.name} ({len(port.nets)} bits)" for port in netlist.inputs]
    if max(len(port.nets) for port in netlist.inputs) > MOST_BITS:
        raise CircuitError(
            f"{netlist.name}: wanted operands of at most {MOST_BITS} bits, got {', '.join(wide)}"
        )
    one, other = (ports["a"], ports["b"]) if {"a", "b"} == ports.keys() else netlist.inputs
    return one, other


def product_port(netlist: Netlist, name: str = "") -> str:
    """Return the output that is the product: the named one, `p`, or the only one but `detected`.

    Raises:
        CircuitError: there are several, none, or it has more bits than can be.
    """
    ports = {port.name: port for port in netlist.outputs}
    others = [each for each in ports if each != FLAG]
    found = name or ("p" if "p" in ports else others[0] if len(others) == 1 else "")
    if found not in ports:
        names = ", ".join(f"{port.name} ({len(port.nets)} bits)" for port in netlist.outputs)
        raise CircuitError(
            f"{netlist.name}: wanted one output as product (--product NAME), got {names or 'none'}"
        )
    if len(ports[found].nets) > 2 * MOST_BITS:
        raise CircuitError(
            f"{netlist.name}: wanted a product of at most {2 * MOST_BITS} bits, got "
            f"{len(ports[found].nets)}"
        )
    return found


def table_of_circuit(netlist: Netlist, product: str) -> ProductTable:
    """Return all products of a multiplier of two 8-bit words.

    Raises:
        CircuitError: it takes other words.
    """
    one, other = operand_ports(netlist)
    if len(one.nets) != 8 or len(other.nets) != 8 or one.signed != other.signed:
        raise CircuitError(
            f"{netlist.name}: wanted operands of 8 bits for a table, signed or unsigned both, got "
            f"{len(one.nets)} and {len(other.nets)}"
        )
    first, second = np.divmod(np.arange(WORDS * WORDS), WORDS)
    products = simulate(netlist, {one.name: first, other.name: second}, product)
    largest = int(np.abs(products).max())
    if largest >= 2**31:
        raise CircuitError(f"{netlist.name}: wanted products of 32 bits for a table, got {largest}")
    table = torch.from_numpy(products).reshape(WORDS, WORDS).int()
    return ProductTable(table, one.signed)
