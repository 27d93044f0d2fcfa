import re
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from bitproof.report.labels import LETTER, LONGEST, Box, place_labels

FRAME = Box(0, 0, 400, 300)
SPOTS = st.lists(st.tuples(st.floats(5, 395), st.floats(5, 295)), max_size=35)


def boxes(drawn: list[Markup]) -> list[Box]:
    """Return where the texts stand, read from the drawing."""
    found = []
    for each in drawn:
        match = re.search(r'<text[^>]* x="([\d.]+)" y="([\d.]+)".*anchor="(\w+)"[^>]*>(.*)<', each)
        assert match is not None
        x, y, width = float(match[1]), float(match[2]), LETTER * len(match[4])
        left = {"start": x, "end": x - width, "middle": x - width / 2}[match[3]]
        found.append(Box(left, y - 10, left + width, y + 2))
    return found


@settings(max_examples=40, deadline=None)
@given(spots=SPOTS)
def test_labels_cover_neither_each_other_nor_a_point(spots: list[tuple[float, float]]) -> None:
    taken = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    wanted = [(f"mul8s_1K{i:02d}", x, y) for i, (x, y) in enumerate(spots)]
    found = boxes(place_labels(wanted, taken, frame=FRAME))
    # Coordinates are written with one decimal.
    slim = [Box(b.left + 0.2, b.top + 0.2, b.right - 0.2, b.bottom - 0.2) for b in found]
    assert not any(one.touches(two) for one, two in combinations(slim, 2))
    assert not any(one.touches(two) for one in slim for two in taken)
    assert all(box.inside(FRAME) for box in slim)
    assert bool(found) is bool(spots)


def test_the_most_important_label_stands_next_to_its_point() -> None:
    (drawn,) = place_labels([("best", 100.0, 100.0)], [], frame=FRAME)
    assert boxes([drawn])[0].left == 109.0
    assert "leader" not in drawn


def test_a_label_that_finds_no_room_is_left_out() -> None:
    assert place_labels([("best", 100.0, 100.0)], [FRAME], frame=FRAME) == []


def test_long_names_are_cut_and_all_are_escaped() -> None:
    (long,) = place_labels([("x" * 60, 10.0, 100.0)], [], frame=FRAME)
    assert "x" * (LONGEST - 1) + "…<" in long
    (nasty,) = place_labels([("<b>", 10.0, 100.0)], [], frame=FRAME)
    assert "<b>" not in nasty
