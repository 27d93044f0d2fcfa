"""Netlists: from JSON, in order, and what is refused."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from bitproof.circuits import load_netlist, read_netlist
from bitproof.circuits.netlist import Netlist, in_order
from bitproof.core.errors import CircuitError
from tests.circuits.reference import outputs_of


def port(direction: str, *bits: int | str) -> dict[str, Any]:
    """Return a port of a module."""
    return {"direction": direction, "bits": list(bits)}


def cell(kind: str, **pins: int | str) -> dict[str, Any]:
    """Return a cell."""
    return {"type": kind, "connections": {pin: [bit] for pin, bit in pins.items()}}


HALF = {
    "ports": {
        "a": port("input", 2),
        "b": port("input", 3),
        "s": port("output", 4),
        "same": port("output", 2),
        "one": port("output", "1"),
    },
    "cells": {"g": cell("$_XOR_", A=2, B=3, Y=4)},
}
TOP = {
    "ports": {"x": port("input", 2, 3), "y": port("output", 5, 6, 7)},
    "cells": {
        "last": cell("$_NOT_", A=4, Y=5),
        "half": cell("half", a=2, b=3, s=4, same=6, one=7),
    },
}
DOCUMENT = {"modules": {"top": TOP, "half": HALF}}


def test_modules_are_put_into_each_other_in_order_of_signals() -> None:
    netlist = read_netlist(DOCUMENT)
    assert [one.name for one in netlist.cells if "through" not in one.name] == ["half/g", "last"]
    assert netlist.cells[-1].block == "" or netlist.cells[0].block == "half"
    for x in range(4):
        word = (1 - ((x & 1) ^ (x >> 1))) | (x & 1) << 1 | 1 << 2
        assert outputs_of(netlist, {"x": x}) == {"y": word}


def changed(**changes: Any) -> dict[str, Any]:
    """Return the document with other cells in its module on top."""
    document = copy.deepcopy(DOCUMENT)
    document["modules"]["top"]["cells"] |= changes
    return document


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (
            changed(last=cell("$_NUT_", A=4, Y=5)),
            r"no kind of cell '\$_NUT_'.*Did you mean '\$_NOT_'",
        ),
        (changed(last=cell("$_DFF_P_", D=4, C=2, Q=5)), "wanted a combinational circuit.*state"),
        (changed(last=cell("$_NOT_", A=9, Y=5)), "wanted a driver of each net, cell last"),
        (changed(last=cell("$_NOT_", A="x", Y=5)), "nothing drives it"),
        (changed(more=cell("$_NOT_", A=2, Y=5)), "wanted one driver of each net"),
        (changed(last=cell("$_AND_", A=4, B=5, Y=5)), "wanted no loops"),
        (changed(last=cell("$_NOT_", A=4)), "wanted a driver of every bit of y"),
        (changed(last=cell("$_NOT_", A=4, Z=5)), "has no pin 'Z'"),
        (changed(more=cell("top", x=2, y=3)), "wanted one module on top"),
        ({"modules": {}}, "wanted one module on top.*got none"),
        ({}, "wanted a netlist as Yosys writes it"),
        ({"modules": {"top": {"ports": {"io": port("inout", 2)}, "cells": {}}}}, "an inout"),
    ],
)
def test_what_is_no_combinational_netlist_is_refused(
    document: dict[str, Any], problem: str
) -> None:
    with pytest.raises(CircuitError, match=problem):
        read_netlist(document)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "netlist.json"
    with pytest.raises(CircuitError, match="wanted a netlist in JSON"):
        load_netlist(path)
    path.write_text(json.dumps(DOCUMENT)[:-9])
    with pytest.raises(CircuitError, match="wanted a netlist in JSON"):
        load_netlist(path)
    path.write_text(json.dumps(DOCUMENT))
    assert load_netlist(path).name == "top"
    with pytest.raises(CircuitError, match="no module 'tap'"):
        load_netlist(path, top="tap")


def test_order_does_not_depend_on_that_of_the_file(adam: Netlist) -> None:
    shuffled = list(adam.cells)
    random.Random(3).shuffle(shuffled)
    seen = {0, 1, *(net for one in adam.inputs for net in one.nets)}
    for one in in_order(shuffled, adam.inputs, "adam"):
        assert seen.issuperset(one.inputs)
        seen |= {net for net, _ in one.outputs}


def test_blocks_are_paths_of_instances(adam: Netlist) -> None:
    assert {"lod_a", "lod_b", "checker", "decoder", "input", "carries"} <= set(adam.blocks)


def test_the_cone_holds_what_a_net_reaches(exact: Netlist) -> None:
    for net in exact.driven[::7]:
        reached = {net}
        expected = []
        for number, one in enumerate(exact.cells):
            if reached & set(one.inputs):
                expected.append(number)
                reached |= {out for out, _ in one.outputs}
        assert exact.cone(net) == expected
