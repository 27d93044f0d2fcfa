"""A slow, obvious simulator of netlists: one pattern at a time, over truth values."""

from collections.abc import Mapping

from bitproof.circuits.net_faults import NetFault
from bitproof.circuits.netlist import Netlist


def outputs_of(
    netlist: Netlist, words: Mapping[str, int], fault: NetFault | None = None
) -> dict[str, int]:
    """Return the words that come out for words that go in, with a fault on one net."""
    values = {0: 0, 1: 1}

    def put(net: int, value: int) -> None:
        if fault is not None and net == fault.net:
            value = {"stuck0": 0, "stuck1": 1, "flip": 1 - value}[fault.kind]
        values[net] = value

    for port in netlist.inputs:
        for i, net in enumerate(port.nets):
            put(net, words[port.name] >> i & 1)
    for cell in netlist.cells:
        index = sum(values[net] << i for i, net in enumerate(cell.inputs))
        for net, function in cell.outputs:
            put(net, function.truth_table >> index & 1)
    return {
        port.name: sum(values[net] << i for i, net in enumerate(port.nets))
        for port in netlist.outputs
    }
