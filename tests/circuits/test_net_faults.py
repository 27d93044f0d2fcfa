"""Faults on nets: simulation against one pattern at a time, classes, shares."""

import numpy as np
import pytest

from bitproof.circuits import (
    FaultSimulator,
    Netlist,
    all_faults,
    all_patterns,
    by_block,
    collapse,
    effects,
    summarize,
)
from bitproof.circuits.net_faults import FaultEffect, NetFault
from bitproof.circuits.simulation import read_port
from tests.circuits.reference import outputs_of

PAIRS = 256


def simulator_of(netlist: Netlist) -> FaultSimulator:
    """Return a simulator over all pairs."""
    return FaultSimulator(netlist, all_patterns([netlist.port("a"), netlist.port("b")]), PAIRS)


def slow(netlist: Netlist, fault: NetFault | None, port: str = "p") -> np.ndarray:
    """Return what comes out for all pairs, one at a time."""
    words = ({"a": i // 16, "b": i % 16} for i in range(PAIRS))
    return np.array([outputs_of(netlist, each, fault)[port] for each in words])


@pytest.mark.parametrize("name", ["adam", "exact"])
def test_faulty_products_are_those_of_one_pattern_at_a_time(
    name: str, request: pytest.FixtureRequest
) -> None:
    netlist: Netlist = request.getfixturevalue(name)
    simulator = simulator_of(netlist)
    for fault in all_faults(netlist)[::31]:
        found = read_port(simulator.rows(fault), netlist.port("p"), PAIRS)
        assert np.array_equal(found, slow(netlist, fault)), fault


@pytest.mark.parametrize("name", ["adam", "exact"])
def test_members_of_a_class_do_the_same(name: str, request: pytest.FixtureRequest) -> None:
    netlist: Netlist = request.getfixturevalue(name)
    simulator, faults = simulator_of(netlist), all_faults(netlist)
    classes = collapse(netlist, faults)
    assert sorted(f.net for c in classes for f in c.members) == sorted(f.net for f in faults)
    assert len(classes) < len(faults)
    for each in classes:
        outputs = {
            tuple(tuple(read_port(simulator.rows(fault), port, PAIRS)) for port in netlist.outputs)
            for fault in (each.chosen, *each.members)
        }
        assert len(outputs) == 1, each


def test_effects_are_counts_over_all_pairs(adam: Netlist) -> None:
    simulator = simulator_of(adam)
    golden = slow(adam, None)
    for found in list(effects(simulator, collapse(adam, all_faults(adam)), tolerance=0.25))[::29]:
        faulty = slow(adam, found.fault)
        told = slow(adam, found.fault, "detected") > 0
        wrong, distance = faulty != golden, np.abs(faulty - golden)
        near = wrong & told & (distance <= 0.25 * golden)
        shares = (
            (~wrong).mean(),
            near.mean(),
            (wrong & told & ~near).mean(),
            (wrong & ~told).mean(),
        )
        assert (found.masked, found.mitigated, found.detected, found.silent) == pytest.approx(
            shares
        )
        assert found.mean_distance == pytest.approx(distance.mean())
        assert found.largest == distance.max()
        for place, share in enumerate(found.magnitudes):
            within = (distance >= 2**place) & (distance < 2 ** (place + 1))
            assert share == pytest.approx(within.mean())


def test_weights_choose_the_pairs_that_count(exact: Netlist) -> None:
    weights = np.zeros(PAIRS)
    weights[3 * 16 + 5] = 1.0
    classes = collapse(exact, all_faults(exact))
    for found in effects(simulator_of(exact), classes, weights=weights):
        faulty = outputs_of(exact, {"a": 3, "b": 5}, found.fault)["p"]
        assert (found.silent, found.mean_distance) == (float(faulty != 15), abs(faulty - 15))


def test_shares_add_up_and_every_fault_counts_once(adam: Netlist) -> None:
    found = list(effects(simulator_of(adam), collapse(adam, all_faults(adam))))
    whole = summarize(found)
    assert whole is not None
    assert whole.faults == len(all_faults(adam))
    total = whole.masked + whole.mitigated + whole.detected + whole.silent
    assert total == pytest.approx(1.0)
    blocks = by_block(found)
    for name, one in blocks.items():  # each net of a block, with its faults
        assert one.faults == 3 * sum(adam.blocks[net] == name for net in adam.driven)
    assert sum(one.faults for one in blocks.values()) == whole.faults
    parts = sum(one.faults * one.coverage for one in blocks.values()) / whole.faults
    assert parts == pytest.approx(whole.coverage)
    assert whole.interval == (whole.coverage,) * 3
    assert sum(whole.magnitudes) == pytest.approx(1 - whole.masked)


def test_a_sample_has_an_interval() -> None:
    one = FaultEffect(NetFault(2, "flip"), 1, {"x": 1}, 0.5, 0.0, 0.0, 0.5, 1.0, 3)
    found = summarize([one], sampled=1000)
    assert found is not None
    assert found.interval.low == pytest.approx(0.469, abs=1e-3)
    assert summarize([]) is None
