"""A netlist as Verilog with a port that breaks any net: for other simulators, and for FPGAs.

Model:  `fault_net` is the number of a net as here (0: none is broken), `fault_kind` 0 holds it at
        0, 1 holds it at 1, 2 turns it over. Everybody who reads the net sees the fault.
"""

from bitproof.circuits.logic import Function
from bitproof.circuits.netlist import CONSTANTS, Netlist

OPERATORS = {"and": "&", "or": "|", "xor": "^"}
CODES = {"stuck0": 0, "stuck1": 1, "flip": 2}
"""Values of `fault_kind`."""


def with_fault_port(netlist: Netlist, name: str) -> str:
    """Return a module `name` with the ports of the netlist, `fault_net` and `fault_kind`.

    Example:
        >>> from bitproof.circuits.netlist import Port
        >>> wire = Netlist("wire", (Port("a", (2,)),), (Port("y", (2,)),), (), 3)
        >>> print(with_fault_port(wire, "broken"))
        module broken(input [0:0] a, input [1:0] fault_net, input [1:0] fault_kind, output [0:0] y);
          wire n0 = 1'b0;
          wire n1 = 1'b1;
          wire good2 = a[0];
          wire n2 = fault_net == 2 ? (fault_kind[1] ? ~good2 : fault_kind[0]) : good2;
          assign y = {n2};
        endmodule
        <BLANKLINE>
    """
    bits = max(1, (netlist.n_nets - 1).bit_length())
    inputs = [f"input [{len(port.nets) - 1}:0] {port.name}" for port in netlist.inputs]
    inputs += [f"input [{bits - 1}:0] fault_net", "input [1:0] fault_kind"]
    outputs = [f"output [{len(port.nets) - 1}:0] {port.name}" for port in netlist.outputs]
    lines = [f"module {name}({', '.join((*inputs, *outputs))});"]
    lines += [f"  wire n{constant} = 1'b{constant};" for constant in CONSTANTS]
    for port in netlist.inputs:
        for i, net in enumerate(port.nets):
            lines += _driven(net, f"{port.name}[{i}]")
    for cell in netlist.cells:
        for net, function in cell.outputs:
            lines += _driven(net, _expression(function, [f"n{pin}" for pin in cell.inputs]))
    for port in netlist.outputs:
        nets = ", ".join(f"n{net}" for net in reversed(port.nets))
        lines.append(f"  assign {port.name} = {{{nets}}};")
    return "\n".join((*lines, "endmodule", ""))


def _driven(net: int, value: str) -> list[str]:
    broken = f"(fault_kind[1] ? ~good{net} : fault_kind[0])"
    return [
        f"  wire good{net} = {value};",
        f"  wire n{net} = fault_net == {net} ? {broken} : good{net};",
    ]


def _expression(function: Function, pins: list[str]) -> str:
    """Return a function of named signals."""
    values = [*pins, "1'b0", "1'b1"]
    for step in function.steps:
        one, other = values[step.first], values[step.second]
        sign = OPERATORS.get(step.operation)
        values.append(f"~({one})" if sign is None else f"(({one}) {sign} ({other}))")
    return values[function.result]
