"""Bit-parallel simulation, against one pattern at a time."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitproof.circuits import Netlist, activity, all_patterns, simulate, uniform_pairs
from bitproof.circuits.netlist import Port
from bitproof.circuits.simulation import Program, numbers, pattern_rows, read_port
from bitproof.core.errors import CircuitError
from tests.circuits.reference import outputs_of


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=200))
def test_numbers_come_back_from_rows(values: list[int]) -> None:
    rows = pattern_rows(np.array(values), 8)
    assert numbers(rows, len(values), signed=True).tolist() == values
    assert numbers(rows, len(values)).tolist() == [value % 256 for value in values]


@pytest.mark.parametrize("name", ["adam", "exact"])
def test_all_patterns_give_what_one_at_a_time_gives(
    name: str, request: pytest.FixtureRequest
) -> None:
    netlist: Netlist = request.getfixturevalue(name)
    rows = Program(netlist).run(all_patterns([netlist.port("a"), netlist.port("b")]))
    found = read_port(rows, netlist.port("p"), 256)
    expected = [outputs_of(netlist, {"a": i // 16, "b": i % 16})["p"] for i in range(256)]
    assert found.tolist() == expected


def test_numbers_that_go_in_give_the_products(exact: Netlist) -> None:
    first, second = np.array([3, 15, 0, 7]), np.array([5, 15, 9, 1])
    assert simulate(exact, {"a": first, "b": second}, "p").tolist() == [15, 225, 0, 7]
    with pytest.raises(CircuitError, match="wanted 4 bits of port b, got 0"):
        simulate(exact, {"a": first}, "p")
    with pytest.raises(CircuitError, match="no port 'q'"):
        simulate(exact, {"a": first, "b": second}, "q")


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(CircuitError, match="at most 20 input bits"):
        all_patterns([Port("a", tuple(range(2, 23)))])


def test_activity_counts_changes_from_one_pair_to_the_next(exact: Netlist) -> None:
    pairs = uniform_pairs(exact, cycles=200, seed=1)
    found = activity(exact, pairs, "uniform")
    products = (pairs["a"] * pairs["b"]).tolist()
    for i, net in enumerate(exact.port("p").nets):
        bits = [product >> i & 1 for product in products]
        changes = sum(x != y for x, y in itertools.pairwise(bits))
        assert found.toggles[net] == changes / 199
        assert found.duty[net] == sum(bits) / 200
    with pytest.raises(CircuitError, match="at least two pairs"):
        activity(exact, {"a": pairs["a"]}, "half")
