import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, Point, line_chart
from bitproof.report.marks import Style, bar, sparkline, styles, swatch

STYLE = Style("#000000", "", "M0,0h1")
LEVELS = st.lists(st.floats(0, 1e3, allow_subnormal=False), unique=True, max_size=6).map(sorted)
VALUES = st.floats(0, 1)


def draw(lines: list[Line], *, logarithmic: bool = True) -> ET.Element:
    drawing = line_chart(
        lines,
        label="<accuracy>",
        level_title="BER & more",
        tick_text=lambda level: f"<{level:g}>",
        logarithmic=logarithmic,
    )
    return ET.fromstring(drawing)


def line(points: dict[float, float], name: str = "none") -> Line:
    half = 0.05
    return Line(name, STYLE, tuple(Point(x, y, y - half, y + half) for x, y in points.items()))


def polylines(drawing: ET.Element) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", each.attrib["points"])]
        for each in drawing.iter("polyline")
    ]


@settings(max_examples=60, deadline=None)
@given(levels=LEVELS, data=st.data(), logarithmic=st.booleans())
def test_every_point_lies_inside_the_frame(
    levels: list[float], data: st.DataObject, logarithmic: bool
) -> None:
    points = tuple(Point(level, data.draw(VALUES)) for level in levels)
    drawing = draw([Line("none", STYLE, points)], logarithmic=logarithmic)
    spots = [spot for run in polylines(drawing) for spot in run]
    assert len(spots) == len(levels)
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in spots)


def test_decades_are_evenly_spaced_on_a_logarithmic_axis() -> None:
    (spots,) = polylines(draw([line({1e-4: 0.9, 1e-3: 0.8, 1e-2: 0.7})]))
    (a, _), (b, _), (c, _) = spots
    assert b - a == pytest.approx(c - b, abs=0.2)


def test_level_zero_stands_apart_on_a_logarithmic_axis() -> None:
    zero, rest = polylines(draw([line({0.0: 0.9, 1e-3: 0.8, 1e-2: 0.7})]))
    assert len(zero) == 1
    assert zero[0][0] < rest[0][0]


def test_level_zero_begins_the_line_on_a_linear_axis() -> None:
    (spots,) = polylines(draw([line({0.0: 0.9, 0.1: 0.5})], logarithmic=False))
    assert len(spots) == 2


def test_higher_accuracy_is_drawn_higher() -> None:
    (spots,) = polylines(draw([line({1e-3: 0.9, 1e-2: 0.3})]))
    assert spots[0][1] < spots[1][1]


def test_a_band_has_both_ends_of_each_interval() -> None:
    (band,) = draw([line({1e-3: 0.9, 1e-2: 0.3})]).iter("polygon")
    assert len(band.attrib["points"].split()) == 4


def test_names_are_escaped_and_the_drawing_scales() -> None:
    drawing = draw([line({1e-3: 0.9}, name="<script>alert(1)</script> ]]> &")])
    assert drawing.attrib["viewBox"] == f"0 0 {WIDTH} {HEIGHT}"
    assert "width" not in drawing.attrib
    (title,) = (each.text or "" for each in drawing.iter("title"))
    assert title.startswith("<script>alert(1)</script> ]]> &")
    assert not list(drawing.iter("script"))


def test_level_labels_keep_their_distance() -> None:
    levels = {10 ** -(6 - i / 5): 0.5 for i in range(20)}
    texts = [each for each in draw([line(levels)]).iter("text") if (each.text or "")[:1] == "<"]
    places = sorted(float(each.attrib["x"]) for each in texts)
    assert len(places) >= 3
    assert all(after - before >= 46 for before, after in pairwise(places))


def test_every_variant_looks_different_without_colour() -> None:
    names = ["float", "none", "s1", "s2", "s1+s2", "s2+s1", "s3", "s1+s2+s3"]
    looks = styles(names, reference="none", plain="float", strong="s1+s2+s3")
    assert len({(look.dash, look.marker) for look in looks}) == len(names)
    assert len({look.colour for look in looks}) == len(names)


def test_a_sparkline_leaves_out_what_is_not_finite() -> None:
    drawing = ET.fromstring(sparkline([3.0, float("nan"), 1.0], label='"loss"'))
    (path,) = drawing.iter("path")
    assert path.attrib["d"].count("M") == 2
    assert sparkline([float("inf")], label="loss") == ""
    assert sparkline([], label="loss") == ""


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_bar_is_as_long_as_its_share(share: float) -> None:
    (shape,) = ET.fromstring(bar(share, marked=True)).iter("rect")
    assert float(shape.attrib["width"]) == pytest.approx(199 * share, abs=0.6)


def test_swatches_are_well_formed() -> None:
    assert ET.fromstring(swatch(STYLE)).tag == "svg"
