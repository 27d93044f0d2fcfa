"""Boolean functions of cells."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitproof.circuits.cells import GATES
from bitproof.circuits.logic import parse
from bitproof.core.errors import CircuitError

PINS = ("A", "B", "C")


Values = dict[str, int]
BINARY: dict[str, Callable[[int, int], int]] = {
    "&": lambda a, b: a & b,
    "*": lambda a, b: a & b,
    " ": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "+": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
}


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> tuple[str, Callable[[Values], int]]:
    """Draw one expression in Liberty's writing, and what it is of the pins."""
    if depth == 0 or draw(st.booleans()):
        pin = draw(st.sampled_from((*PINS, "0", "1")))
        return pin, lambda values: values.get(pin, int(pin == "1"))
    kind = draw(st.sampled_from(["!", "'", *BINARY]))
    one, ours = draw(expressions(depth=depth - 1))
    if kind in {"!", "'"}:
        text = f"!({one})" if kind == "!" else f"({one})'"
        return text, lambda values: 1 - ours(values)
    other, theirs = draw(expressions(depth=depth - 1))
    return f"({one}) {kind} ({other})", lambda values: BINARY[kind](ours(values), theirs(values))


@given(expressions())
def test_functions_are_those_of_their_parts(pair: tuple[str, Callable[[Values], int]]) -> None:
    text, function = pair
    table = parse(text, PINS).truth_table
    for i, bits in enumerate(itertools.product((0, 1), repeat=3)):
        values = dict(zip(reversed(PINS), bits, strict=True))
        assert table >> i & 1 == function(values)


def test_negation_binds_before_exclusive_or_before_and_before_or() -> None:
    loose = parse("!A ^ B & C | A", PINS)
    assert loose.truth_table == parse("(((!A) ^ B) & C) | A", PINS).truth_table


@pytest.mark.parametrize("text", ["", "A &", "(A", "A)", "A & D", "A ? B", "!", "A ^ ^ B"])
def test_malformed_functions_are_refused(text: str) -> None:
    with pytest.raises(CircuitError, match="wanted"):
        parse(text, PINS)


def test_gates_are_those_of_the_manual_of_yosys() -> None:
    known: dict[str, Callable[..., int]] = {
        "$_AND_": lambda a, b: a & b,
        "$_NAND_": lambda a, b: 1 - (a & b),
        "$_OR_": lambda a, b: a | b,
        "$_NOR_": lambda a, b: 1 - (a | b),
        "$_XOR_": lambda a, b: a ^ b,
        "$_XNOR_": lambda a, b: 1 - (a ^ b),
        "$_ANDNOT_": lambda a, b: a & (1 - b),
        "$_ORNOT_": lambda a, b: a | (1 - b),
        "$_MUX_": lambda a, b, s: b if s else a,
        "$_NMUX_": lambda a, b, s: 1 - (b if s else a),
        "$_AOI3_": lambda a, b, c: 1 - ((a & b) | c),
        "$_OAI3_": lambda a, b, c: 1 - ((a | b) & c),
        "$_AOI4_": lambda a, b, c, d: 1 - ((a & b) | (c & d)),
        "$_OAI4_": lambda a, b, c, d: 1 - ((a | b) & (c | d)),
        "$_NOT_": lambda a: 1 - a,
        "$_BUF_": lambda a: a,
    }
    assert known.keys() == GATES.keys()
    for name, function in known.items():
        kind = GATES[name]
        for i in range(1 << len(kind.inputs)):
            bits = [i >> j & 1 for j in range(len(kind.inputs))]
            assert kind.outputs["Y"].truth_table >> i & 1 == function(*bits), name


@pytest.mark.parametrize("name", sorted(GATES))
def test_fixing_a_pin_leaves_the_function_of_the_others(name: str) -> None:
    function = GATES[name].outputs["Y"]
    for pin in range(len(function.pins)):
        for value in (0, 1):
            fixed = function.with_pin(pin, value)
            for i in range(1 << (len(function.pins) - 1)):
                low = i & ((1 << pin) - 1)
                whole = (i >> pin << (pin + 1)) | (value << pin) | low
                assert fixed >> i & 1 == function.truth_table >> whole & 1
