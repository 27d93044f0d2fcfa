"""Netlists in the JSON format of Yosys, with modules inside modules.

Model:  modules are put into each other until only cells are left; a cell is called by the path of
        its instances and its own name, with slashes, as timing tools call it. Cells must be of
        known kinds and hold no state; an undefined or floating bit is refused, not guessed.
Source: Yosys manual, `write_json`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitproof.circuits.cells import GATES, STATEFUL, CellKind
from bitproof.circuits.netlist import Cell, Netlist, Port, in_order
from bitproof.core.errors import CircuitError, near, shorten

THROUGH = ".through"
"""End of the name of what stands for a port that is fed through a module."""
STATE = re.compile(r"\$_?(a?l?dff|s?dff|dlatch|sr|ff|mem|tribuf|tbuf)", re.IGNORECASE)
"""Cells of Yosys that hold a state, or let go of their output."""
Modules = Mapping[str, Mapping[str, Any]]


def load_netlist(
    path: Path, *, top: str | None = None, kinds: Mapping[str, CellKind] = GATES
) -> Netlist:
    """Return the netlist in a file; `kinds` are the cells that it may be made of.

    Raises:
        CircuitError: the file is not there or malformed, or holds other cells.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CircuitError(f"{path}: wanted a netlist in JSON, got {error}") from error
    return read_netlist(document, top=top, kinds=kinds, origin=str(path))


def read_netlist(
    document: Any,
    *,
    top: str | None = None,
    kinds: Mapping[str, CellKind] = GATES,
    origin: str = "netlist",
) -> Netlist:
    """Return the netlist in a parsed document.

    Raises:
        CircuitError: it is malformed, or holds other cells.

    Example:
        >>> ports = {"a": {"direction": "input", "bits": [2]}}
        >>> ports["y"] = {"direction": "output", "bits": [3]}
        >>> gate = {"type": "$_NOT_", "connections": {"A": [2], "Y": [3]}}
        >>> document = {"modules": {"inverter": {"ports": ports, "cells": {"g": gate}}}}
        >>> [cell.name for cell in read_netlist(document).cells]
        ['g']
    """
    try:
        modules: Modules = document["modules"]
        name = top or only_top(document, origin)
        if name not in modules:
            raise CircuitError(f"{origin}: no module {shorten(name)}. {near(name, modules)}")
        reader = _Flattening(modules, kinds, name)
        return reader.netlist()
    except (KeyError, TypeError, AttributeError) as error:
        raise CircuitError(
            f"{origin}: wanted a netlist as Yosys writes it, got one without {error}"
        ) from error


def only_top(document: Any, origin: str) -> str:
    """Return the one module that no other uses.

    Raises:
        CircuitError: there are several.
    """
    modules: Modules = document["modules"]
    marked = [name for name, module in modules.items() if _is_marked(module)]
    used = {cell["type"] for module in modules.values() for cell in module["cells"].values()}
    found = marked or [name for name in modules if name not in used]
    if len(found) != 1:
        names = ", ".join(sorted(name.removeprefix("\\") for name in found))
        raise CircuitError(
            f"{origin}: wanted one module on top (--top NAME), got {names or 'none'}"
        )
    return found[0]


def _is_marked(module: Mapping[str, Any]) -> bool:
    """Return whether a module says that it is on top."""
    value = str(module.get("attributes", {}).get("top", "0"))
    return value.strip("0") != ""


class _Flattening:
    """Puts modules into each other."""

    def __init__(self, modules: Modules, kinds: Mapping[str, CellKind], top: str) -> None:
        self.modules, self.kinds, self.top = modules, kinds, top
        self.cells: list[Cell] = []
        self.nets = 2

    def netlist(self) -> Netlist:
        bits: dict[int | str, int] = {"0": 0, "1": 1}
        self._inside(self.top, bits, path=())
        ports = self.modules[self.top]["ports"]
        sides: dict[str, list[Port]] = {"input": [], "output": []}
        for name, port in ports.items():
            if port["direction"] not in sides:
                raise CircuitError(
                    f"{self.top}: wanted ports that are inputs or outputs, got {name}, an "
                    f"{port['direction']}"
                )
            nets = tuple(self._net(bits, bit, f"port {name}") for bit in port["bits"])
            signed = bool(port.get("signed", 0))
            sides[port["direction"]].append(Port(name, nets, signed))
        inputs, outputs = (tuple(side) for side in sides.values())
        cells = in_order(self.cells, inputs, self.top)
        netlist = Netlist(self.top, inputs, outputs, cells, self.nets)
        driven = {0, 1, *netlist.driven}
        for port in outputs:
            if not driven.issuperset(port.nets):
                raise CircuitError(f"{self.top}: wanted a driver of every bit of {port.name}")
        return netlist

    def _net(self, bits: dict[int | str, int], bit: int | str, where: str) -> int:
        """Return the net of a bit, a new one where it is new."""
        if bit in ("x", "z"):
            raise CircuitError(
                f"{self.top}: wanted 0, 1 or a driven bit at {where}, got {bit}: nothing drives it"
            )
        if bit not in bits:
            bits[bit] = self.nets
            self.nets += 1
        return bits[bit]

    def _inside(self, name: str, bits: dict[int | str, int], path: tuple[str, ...]) -> None:
        """Add the cells of one instance; `bits` are the nets at its ports."""
        for own, cell in self.modules[name].get("cells", {}).items():
            kind, joined = cell["type"], cell["connections"]
            where = "/".join((*path, own))
            if kind in self.modules and not _is_empty(self.modules[kind], kind in self.kinds):
                inner: dict[int | str, int] = {"0": 0, "1": 1}
                ports = self.modules[kind]["ports"].items()
                # Inputs first: an output that is one of them is then driven by it.
                for pin, port in sorted(ports, key=lambda one: one[1]["direction"]):
                    outer = joined.get(pin, [])
                    if not outer and port["direction"] == "output":
                        continue  # nobody listens
                    if len(outer) != len(port["bits"]):
                        raise CircuitError(
                            f"{self.top}: wanted {len(port['bits'])} bits at {where}.{pin}, "
                            f"got {len(outer)}"
                        )
                    for inside, outside in zip(port["bits"], outer, strict=True):
                        self._join(bits, inner, inside, outside, f"{where}.{pin}")
                if len(path) > 100:
                    raise CircuitError(f"{self.top}: wanted no module inside itself, got {kind}")
                self._inside(kind, inner, (*path, own))
            elif kind != "$scopeinfo":
                self.cells.append(self._cell(where, kind, joined, bits, path))

    def _join(
        self,
        bits: dict[int | str, int],
        inner: dict[int | str, int],
        inside: int | str,
        outside: int | str,
        where: str,
    ) -> None:
        """Let a bit of a port and a bit outside be one net."""
        if inside in ("0", "1") or (inside in inner and inner[inside] != bits.get(outside)):
            # A port that is fed through, or constant: a buffer keeps both nets apart.
            source = self._net(inner, inside, where)
            kind, target = GATES["$_BUF_"], self._net(bits, outside, where)
            outputs = ((target, kind.outputs["Y"]),)
            self.cells.append(Cell(f"{where}{THROUGH}", kind, (source,), outputs))
        else:
            inner[inside] = self._net(bits, outside, where)

    def _cell(
        self,
        where: str,
        name: str,
        joined: Mapping[str, list[int | str]],
        bits: dict[int | str, int],
        path: tuple[str, ...],
    ) -> Cell:
        kind = self.kinds.get(name) or GATES.get(name)
        if kind is None and STATE.match(name):
            kind = CellKind(name, (), {}, refused=STATEFUL)
        if kind is None:
            raise CircuitError(
                f"{self.top}: no kind of cell {shorten(name)} (cell {where}). "
                f"{near(name, self.kinds)}"
            )
        if kind.refused:
            raise CircuitError(
                f"{self.top}: wanted a combinational circuit, cell {where} ({name}) {kind.refused}"
            )
        pins = {*kind.inputs, *kind.outputs}
        for pin in joined:
            if pin not in pins:
                raise CircuitError(f"{self.top}: {name} (cell {where}) has no pin {shorten(pin)}")
        inputs = tuple(self._net(bits, _one(joined, pin, where), where) for pin in kind.inputs)
        outputs = tuple(
            (self._net(bits, _one(joined, pin, where), where), function)
            for pin, function in kind.outputs.items()
            if joined.get(pin)
        )
        return Cell(where, kind, inputs, outputs, ".".join(path))


def _one(joined: Mapping[str, list[int | str]], pin: str, where: str) -> int | str:
    bits = joined.get(pin, [])
    if len(bits) != 1:
        raise CircuitError(f"cell {where}: wanted one bit at pin {pin}, got {len(bits)}")
    return bits[0]


def _is_empty(module: Mapping[str, Any], known: bool) -> bool:
    """Return whether a module is only the outline of a library's cell."""
    return known and not module.get("cells")
