"""What each kind of fault breaks around a place that breaks, against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitproof.core.errors import SpecError
from bitproof.faults import kinds as kinds_module
from bitproof.faults.kinds import (
    KINDS,
    Bits,
    Burst,
    FaultKind,
    Flip,
    Places,
    RandomValue,
    StuckAt,
    WordLine,
)
from bitproof.faults.space import Stratum
from bitproof.faults.table import ACTIONS, WORD_SITES, FaultSite

MEMORY: list[FaultSite] = ["weight", "bias", "activation", "output", "input"]
FLIP, STUCK0, STUCK1 = range(3)


def spread(
    kind: FaultKind,
    hit: list[tuple[int, int]],
    *,
    words: int = 20,
    width: int = 8,
    site: FaultSite = "weight",
    seed: int = 0,
) -> list[tuple[int, int, int, int]]:
    """Return source, element, bit and action of what breaks at (element, bit) places."""
    stratum = Stratum(site, "layer", words, width, tuple(range(width)))
    element, bit = np.array(hit, np.int64).reshape(-1, 2).T
    found: Bits = kind.spread(Places(stratum, element, bit), np.random.default_rng(seed))
    columns = (found.source, found.element, found.bit, found.action)
    return [tuple(int(one) for one in row) for row in zip(*columns, strict=True)]  # type: ignore[misc]


placed = st.integers(2, 12).flatmap(
    lambda width: st.tuples(
        st.just(width),
        st.lists(st.tuples(st.integers(0, 19), st.integers(0, width - 1)), max_size=6),
    )
)


@given(placed)
def test_flips_and_stuck_bits_break_that_bit(
    drawn: tuple[int, list[tuple[int, int]]],
) -> None:
    width, hit = drawn
    for kind, action in ((Flip(), FLIP), (StuckAt(value=0), STUCK0), (StuckAt(value=1), STUCK1)):
        wanted = [(source, *place, action) for source, place in enumerate(hit)]
        assert spread(kind, hit, width=width) == wanted


@given(placed)
def test_random_values_hold_every_bit_of_the_word(
    drawn: tuple[int, list[tuple[int, int]]],
) -> None:
    width, hit = drawn
    found = spread(RandomValue(), hit, width=width)
    wanted = [(s, word, bit) for s, (word, _) in enumerate(hit) for bit in range(width)]
    assert [row[:3] for row in found] == wanted
    assert {row[3] for row in found} <= {STUCK0, STUCK1}


def test_random_values_are_uniform() -> None:
    found = spread(RandomValue(), [(0, 0)] * 8000, width=3)
    actions = np.array([row[3] - STUCK0 for row in found]).reshape(-1, 3)
    counts = np.bincount(actions @ [1, 2, 4], minlength=8)
    assert (abs(counts - 1000) < 5 * np.sqrt(1000)).all()
    assert found == spread(RandomValue(), [(0, 0)] * 8000, width=3)
    assert found != spread(RandomValue(), [(0, 0)] * 8000, width=3, seed=1)


@given(placed, st.integers(1, 12))
def test_bursts_flip_adjacent_bits_inside_the_word(
    drawn: tuple[int, list[tuple[int, int]]], length: int
) -> None:
    width, hit = drawn
    if length > width:
        with pytest.raises(SpecError, match=f"wanted at most {width}.* weight .* layer, got"):
            spread(Burst(length=length), hit, width=width)
        return
    found = spread(Burst(length=length), hit, width=width)
    assert len(found) == length * len(hit)
    for source, (word, _) in enumerate(hit):
        mine = [row for row in found if row[0] == source]
        first = mine[0][2]
        assert mine == [(source, word, first + i, FLIP) for i in range(length)]
        assert first >= 0
        assert first + length <= width


@pytest.mark.parametrize("length", range(1, 9))
def test_every_burst_of_a_word_can_happen_almost_equally_often(length: int) -> None:
    firsts = [spread(Burst(length=length), [(0, bit)])[0][2] for bit in range(8)]
    counts = [firsts.count(first) for first in range(8 - length + 1)]
    assert sum(counts) == 8
    assert max(counts) - min(counts) <= 1


@given(
    placed, st.integers(1, 30), st.sampled_from(MEMORY), st.sampled_from(["row", "column"]),
    st.sampled_from(["flip", "stuck0", "stuck1", "random"]),
)  # fmt: skip
def test_a_line_is_what_lies_in_the_same_row_or_column(
    drawn: tuple[int, list[tuple[int, int]]], words: int, site: FaultSite, line: str, action: str
) -> None:
    width, hit = drawn
    kind = WordLine.model_validate({"line": line, "words": words, "action": action})
    found = spread(kind, hit, width=width, site=site)
    for source, (word, bit) in enumerate(hit):
        row, column = divmod(word, words)
        wanted = {
            (other, b)
            for other in range(20)
            for b in range(width)
            if (other // words == row if line == "row" else (other % words, b) == (column, bit))
        }
        mine = [one[1:3] for one in found if one[0] == source]
        assert len(mine) == len(set(mine))
        assert set(mine) == wanted
        assert (word, bit) in wanted
    actions = {one[3] for one in found}
    assert actions <= ({STUCK0, STUCK1} if action == "random" else {ACTIONS.index(action)})


@pytest.mark.parametrize("site", sorted(set(WORD_SITES).difference(MEMORY)))
def test_registers_have_no_lines(site: FaultSite) -> None:
    with pytest.raises(SpecError, match=f"wanted a site in a memory, got '{site}'"):
        spread(WordLine(), [(0, 0)], site=site)


def test_lines_that_do_not_fit_in_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds_module, "MOST_ROWS", 100)
    assert len(spread(WordLine(words=6), [(0, 0)] * 2)) == 96
    with pytest.raises(SpecError, match="wanted at most 100 broken bits, got 112"):
        spread(WordLine(words=7), [(0, 0)] * 2)


@pytest.mark.parametrize("kind", [Flip(), StuckAt(), RandomValue(), Burst(), WordLine()])
def test_no_places_break_nothing(kind: FaultKind) -> None:
    assert spread(kind, []) == []


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ({"kind": "flip"}, Flip()),
        ({"kind": "stuck_at", "value": 1}, StuckAt(value=1)),
        ({"kind": "burst", "length": 3}, Burst(length=3)),
        ({"kind": "word_line", "line": "column"}, WordLine(line="column")),
        ({"kind": "random_value"}, RandomValue()),
    ],
)
def test_kinds_are_built_from_tables(table: dict[str, object], wanted: FaultKind) -> None:
    assert KINDS.validate(table) == wanted
    assert KINDS.validate(wanted.model_dump()) == wanted
