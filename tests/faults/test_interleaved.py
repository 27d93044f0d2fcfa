"""Interleaving as a bijection, and what it does to neighbours that break together."""

from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.core.types import Count
from bitproof.faults import FAULTS, FaultModel, Interleaved, Memory, RandomFlips, SimulatedSram
from bitproof.faults.interleaved import interleaved_address, interleaved_place
from bitproof.faults.kinds import Places, WordLine
from bitproof.faults.space import Stratum


class Neighbours(FaultModel):
    """Flip the lowest bit of the first words in the memory."""

    level: ClassVar[str] = "n"

    kind: Literal["neighbours"] = "neighbours"
    n: Count = 4

    def inject_(self, memory: Memory, *, generator: torch.Generator) -> None:  # noqa: ARG002
        SEEN.append(memory)
        memory.codes[: self.n] ^= 1


SEEN: list[Memory] = []


@given(n=st.integers(0, 300), ways=st.integers(1, 350))
def test_places_and_addresses_are_inverse_bijections(n: int, ways: int) -> None:
    every = np.arange(n)
    places = interleaved_place(every, n, ways=ways)
    assert np.array_equal(np.sort(places), every)
    assert np.array_equal(interleaved_address(places, n, ways=ways), every)
    assert np.array_equal(
        interleaved_place(interleaved_address(every, n, ways=ways), n, ways=ways), every
    )


@pytest.mark.parametrize(("n", "ways"), [(12, 3), (64, 8), (60, 60), (7, 1)])
def test_the_place_is_the_formula_where_ways_divide_the_memory(n: int, ways: int) -> None:
    places = interleaved_place(np.arange(n), n, ways=ways)
    assert places.tolist() == [(a % ways) * (n // ways) + a // ways for a in range(n)]


@pytest.mark.parametrize("ways", [1, 3, 5, 8, 100])
@pytest.mark.parametrize("n", [1, 16, 37])
def test_words_that_break_side_by_side_lie_apart(n: int, ways: int) -> None:
    words = torch.zeros(n, dtype=torch.uint8)
    fault = Interleaved(fault=Neighbours(n=4), ways=ways)
    struck = fault.corrupt(words, bits=8, generator=make_generator(0)).nonzero().flatten()
    assert struck.tolist() == sorted(interleaved_address(np.arange(min(4, n)), n, ways=ways))
    if n >= 4 * ways:
        assert struck.diff().tolist() == [ways] * 3


def test_a_burst_of_words_hits_as_many_groups() -> None:
    fault = Interleaved(fault=Neighbours(n=8), ways=8)
    words = torch.zeros(64, dtype=torch.uint8)
    struck = fault.corrupt(words, bits=8, generator=make_generator(0)).nonzero().flatten()
    assert len(set((struck // 8).tolist())) == 8, "eight words of a code word, all in one of each"


def test_words_of_a_width_lie_together() -> None:
    """As SimulatedSram packs them: 8-bit words take 8 cells, wherever the 32-bit ones lie."""
    SEEN.clear()
    tensors = {
        "a.weight": (torch.arange(5, dtype=torch.uint8), 8),
        "a.bias": (torch.arange(100, 103, dtype=torch.int32), 32),
        "b.weight": (torch.arange(5, 9, dtype=torch.uint8), 8),
    }
    broken = Interleaved(fault=Neighbours(n=2), ways=2).corrupt_all(
        tensors, generator=make_generator(0)
    )
    (memory,) = SEEN
    assert [(t.start, t.bits, t.size) for t in memory.tensors] == [(0, 8, 9), (9, 32, 3)]
    # Words 0 and 2 of the narrow ones are broken; the rest is as interleaving says.
    assert memory.codes.tolist() == [1, 3, 4, 6, 8, 1, 3, 5, 7, 100, 102, 101]
    assert broken["a.weight"].tolist() == [1, 1, 3, 3, 4]
    assert torch.equal(broken["b.weight"], tensors["b.weight"][0])


def test_one_way_is_no_interleaving() -> None:
    words = torch.arange(200).to(torch.uint8)
    chip = SimulatedSram(ber=0.1, arrays=1, rows=16, columns=16, column_share=0.5)
    plain, wrapped = (
        fault.corrupt(words, bits=8, generator=make_generator(1))
        for fault in (chip, Interleaved(fault=chip, ways=1))
    )
    assert torch.equal(plain, wrapped)


def test_the_rate_stays_and_flips_stay_nested() -> None:
    words = torch.zeros(20_000, dtype=torch.uint8)

    def flips(ber: float) -> torch.Tensor:
        fault = Interleaved(fault=RandomFlips(ber=ber), ways=7)
        return fault.corrupt(words, bits=8, generator=make_generator(2))

    few, many = flips(0.01), flips(0.05)
    assert torch.equal(few & many, few)
    n = sum(int((many >> bit & 1).sum()) for bit in range(8))
    assert abs(n - 8000) < 5 * (160_000 * 0.05 * 0.95) ** 0.5


def test_its_level_is_that_of_the_faults_within() -> None:
    fault = Interleaved(fault={"kind": "interleaved", "fault": RandomFlips(ber=0.1)}, ways=3)
    assert fault.at(0.25) == Interleaved(fault=Interleaved(fault=RandomFlips(ber=0.25)), ways=3)
    with pytest.raises(SpecError, match="ber"):
        fault.at(2.0)
    assert fault.label.title == "Random bit flips, interleaved, interleaved"
    assert (fault.label.symbol, fault.label.notation) == ("BER", "scientific")


def test_content_matters_where_it_does_within() -> None:
    assert Interleaved(fault=RandomFlips(ber=0.1)).content_free
    assert not Interleaved(fault=SimulatedSram(ber=0.1)).content_free


def test_a_table_builds_it() -> None:
    table: dict[str, Any] = {"kind": "interleaved", "fault": {"kind": "random_flips", "ber": 0.1}}
    assert FAULTS.build(table) == Interleaved(fault=RandomFlips(ber=0.1))
    with pytest.raises(ValidationError, match="ways"):
        Interleaved(fault=RandomFlips(ber=0.1), ways=0)


@pytest.mark.parametrize("line", ["row", "column"])
@pytest.mark.parametrize("ways", [1, 3, 8])
def test_word_lines_of_campaigns_hit_the_words_of_interleaved_rows(
    line: Literal["row", "column"], ways: int
) -> None:
    n, row = 37, 4
    places = Places(Stratum("weight", "a", n, 8, tuple(range(8))), np.array([5]), np.array([3]))
    kind = WordLine(line=line, words=row, ways=ways, action="flip")
    bits = kind.spread(places, np.random.Generator(np.random.PCG64(0)))
    where = {a: int(interleaved_place(np.array([a]), n, ways=ways)[0]) for a in range(n)}
    if line == "row":
        wanted = {(a, b) for a in range(n) for b in range(8) if where[a] // row == where[5] // row}
    else:
        wanted = {(a, 3) for a in range(n) if where[a] % row == where[5] % row}
    found = list(zip(bits.element.tolist(), bits.bit.tolist(), strict=True))
    assert set(found) == wanted
    assert len(found) == len(wanted)
