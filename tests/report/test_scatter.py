import re
from typing import get_args
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.report.curves import BOTTOM, LEFT, RIGHT, TOP
from bitproof.report.run import Circuit
from bitproof.report.scatter import (
    MOST_LABELS,
    RING,
    SHAPES,
    Spot,
    line_swatch,
    nice_ticks,
    scatter_chart,
    spot_swatch,
)

COSTS = st.floats(0, 1e4, allow_subnormal=False)
SPOTS = st.lists(st.tuples(COSTS, st.floats(0, 1)), max_size=12)


def draw(spots: list[Spot], reference: tuple[str, float] | None = None) -> ET.Element:
    drawing = scatter_chart(spots, label="<a>", cost_title="power & more", reference=reference)
    return ET.fromstring(drawing)


def classed(drawing: ET.Element, name: str) -> list[ET.Element]:
    return [each for each in drawing.iter() if each.get("class") == name]


def places(drawing: ET.Element) -> dict[str, tuple[float, float]]:
    """Return the place of each marker by the name in its title."""
    found = {}
    for each in classed(drawing, "spot"):
        x, y = re.findall(r"-?[\d.]+", each.attrib["transform"])
        found[(each[-1].text or "").split(":")[0]] = (float(x), float(y))
    return found


@settings(max_examples=60, deadline=None)
@given(points=SPOTS, reference=st.none() | st.tuples(st.just("none"), st.floats(0, 1)))
def test_every_marker_lies_inside_the_frame(
    points: list[tuple[float, float]], reference: tuple[str, float] | None
) -> None:
    spots = [Spot(f"m{i}", cost, value) for i, (cost, value) in enumerate(points)]
    found = places(draw(spots, reference))
    assert len(found) == len(spots)
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in found.values())


def test_cost_grows_to_the_right_and_accuracy_upwards() -> None:
    found = places(draw([Spot("a", 0.1, 0.5), Spot("b", 0.2, 0.9), Spot("c", 0.4, 0.5)]))
    assert found["a"][0] < found["b"][0] < found["c"][0]
    assert found["b"][1] < found["a"][1] == found["c"][1]
    assert found["c"][0] - found["b"][0] == pytest.approx(
        2 * (found["b"][0] - found["a"][0]), abs=0.3
    )


def test_the_front_is_a_staircase_through_its_markers() -> None:
    spots = [Spot("c", 0.4, 0.9), Spot("a", 0.1, 0.5), Spot("bad", 0.3, 0.6), Spot("b", 0.2, 0.8)]
    drawing = draw(spots)
    at = places(drawing)
    (path,) = classed(drawing, "front")
    assert path.attrib["d"] == (
        f"M{at['a'][0]},{at['a'][1]}H{at['b'][0]}V{at['b'][1]}H{at['c'][0]}V{at['c'][1]}H{RIGHT}"
    )
    filled = {
        (each[-1].text or "").split(":")[0]: each[0].attrib["fill"] != "#ffffff"
        for each in classed(drawing, "spot")
    }
    assert filled == {"a": True, "b": True, "c": True, "bad": False}


def test_kinds_of_circuits_have_their_own_shapes() -> None:
    kinds: tuple[Circuit, ...] = get_args(Circuit)
    drawing = draw([Spot(kind, 0.1, 0.5, circuit=kind) for kind in kinds])
    shapes = [each[0].attrib["d"] for each in classed(drawing, "spot")]
    assert shapes == [SHAPES[kind] for kind in kinds]
    assert len(set(shapes)) == 4


def test_a_ring_and_a_thin_line_join_a_network_to_the_one_before() -> None:
    spots = [
        Spot("a", 0.1, 0.5),
        Spot("a+r", 0.1, 0.8, before="a"),
        Spot("b+r", 0.2, 0.9, before="b"),
    ]
    drawing = draw(spots)
    at = places(drawing)
    (join,) = classed(drawing, "join")
    assert join.attrib["d"] == f"M{at['a'][0]},{at['a'][1]}L{at['a+r'][0]},{at['a+r'][1]}"
    rings = [
        (each[-1].text or "")[0] for each in classed(drawing, "spot") if each[1].get("d") == RING
    ]
    assert rings == ["a", "b"]


def test_whiskers_span_the_intervals() -> None:
    drawing = draw([Spot("a", 0.1, 0.5, 0.4, 0.6), Spot("b", 0.2, 0.5)])
    (whisker,) = classed(drawing, "whisker")
    low, high = re.findall(r"[\d.]+", whisker.attrib["d"])[1:]
    middle = places(drawing)["a"][1]
    assert float(low) - middle == pytest.approx(middle - float(high), abs=0.2)


def test_the_exact_network_is_a_line_across_at_its_accuracy() -> None:
    drawing = draw([Spot("a", 0.1, 0.9), Spot("b", 0.2, 0.5)], ("none", 0.9))
    (line,) = classed(drawing, "reference")
    assert line.attrib["d"] == f"M{LEFT},{places(drawing)['a'][1]}H{RIGHT}"
    assert any(each.text == "none 90.0" for each in drawing.iter("text"))


def test_of_many_networks_only_the_front_and_the_ends_are_labelled() -> None:
    spots = [
        Spot(f"m{i:02d}", 0.01 * (i + 1), 0.5 + (0.4 if i % 5 else -0.3) * i / 35)
        for i in range(35)
    ]
    drawing = draw(spots)
    labels = [each.text for each in classed(drawing, "label")]
    assert 4 <= len(labels) <= MOST_LABELS
    assert {"m00", "m30", "m34"} <= set(labels)
    assert len(drawing.findall(".//title")) == 35


@pytest.mark.parametrize(
    ("costs", "wanted"),
    [
        ([], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([0.0], [0.0, 0.2]),
        ([300.0], [0.0, 100.0, 200.0, 300.0]),
        ([705.0, 720.0, 731.0], [700.0, 710.0, 720.0, 730.0, 740.0]),
        ([3.0, 1200.0], [0.0, 250.0, 500.0, 750.0, 1000.0, 1250.0]),
    ],
)
def test_ticks_are_round_and_reach_around_all_costs(
    costs: list[float], wanted: list[float]
) -> None:
    assert nice_ticks(costs) == wanted


@settings(max_examples=100, deadline=None)
@given(costs=st.lists(COSTS, min_size=1))
def test_ticks_are_few_and_rise(costs: list[float]) -> None:
    ticks = nice_ticks(costs)
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= min(costs) * (1 + 1e-5)
    assert ticks[-1] >= max(costs) * (1 - 1e-5)


def test_samples_are_drawings() -> None:
    for sample in (spot_swatch(circuit="unknown", ring=True), line_swatch(dash="6 4")):
        assert ET.fromstring(sample).attrib["aria-hidden"] == "true"
