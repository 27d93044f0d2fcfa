"""Lists from words and words from lists, against single bits in Python integers."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.faults import FaultTable, RandomFlips
from bitproof.faults.table import ACTIONS
from bitproof.faults.word_faults import changed_bits, read_words

Row = tuple[int, str, str, int, int, int, str]
WIDTHS = {
    "a.weight": (torch.int8, 8),
    "a.bias": (torch.int32, 32),
    "b.c.weight": (torch.uint8, 5),
    "b.c.bias": (torch.int8, 6),
    "d.weight": (torch.int16, 9),
}


def words() -> dict[str, tuple[Tensor, int]]:
    found = {}
    for number, (name, (dtype, bits)) in enumerate(WIDTHS.items()):
        low = -(1 << bits - 1) if dtype.is_signed else 0
        draw = make_generator(0, number)
        codes = torch.randint(low, low + (1 << bits), (3, 4), generator=draw)
        found[name] = (codes.to(dtype), bits)
    return found


def slow_read(rows: list[Row]) -> dict[str, list[int]]:
    read = {}
    for name, (codes, bits) in words().items():
        own = [code % (1 << bits) for code in codes.flatten().tolist()]
        for _, site, layer, element, _, bit, action in rows:
            if f"{layer}.{site}" == name:
                one = 1 << bit
                own[element] = {
                    "flip": own[element] ^ one,
                    "stuck1": own[element] | one,
                    "stuck0": own[element] & ~one,
                }[action]
        signed = WIDTHS[name][0].is_signed
        read[name] = [code - (1 << bits) if signed and code >> bits - 1 else code for code in own]
    return read


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_words_are_read_bit_by_bit_in_the_order_of_the_list(data: st.DataObject) -> None:
    rows: list[Row] = []
    for _ in range(data.draw(st.integers(0, 30))):
        name = data.draw(st.sampled_from(sorted(WIDTHS)))
        layer, _, site = name.rpartition(".")
        element = data.draw(st.integers(0, 3))
        bit = data.draw(st.integers(0, WIDTHS[name][1] - 1))
        action = data.draw(st.sampled_from(ACTIONS))
        rows.append((0, site, layer, element, -1, bit, action))
    read = read_words(words(), FaultTable.from_rows(rows, n_trials=1))
    assert {name: codes.flatten().tolist() for name, codes in read.items()} == slow_read(rows)
    for name, (codes, _) in words().items():
        assert (read[name].dtype, read[name].shape) == (codes.dtype, codes.shape)


def test_the_list_of_changed_words_gives_them_back() -> None:
    stored = words()
    broken = RandomFlips(ber=0.2).corrupt_all(stored, generator=make_generator(1))
    table = changed_bits(stored, broken)
    read = read_words(stored, table)
    assert all(torch.equal(read[name], broken[name]) for name in stored)
    n = sum(
        (int(a) ^ int(b)) % (1 << bits) != 0
        for name, (codes, bits) in stored.items()
        for a, b in zip(codes.flatten(), broken[name].flatten(), strict=True)
    )
    assert len({(row[1], row[2], row[3]) for row in table.rows()}) == n > 0
    assert {row[-1] for row in table.rows()} == {"flip"}


def test_words_without_faults_are_shared() -> None:
    stored = words()
    row = (0, "weight", "a", 1, -1, 2, "flip")
    read = read_words(stored, FaultTable.from_rows([row]))
    assert read["a.bias"] is stored["a.bias"][0]
    assert torch.equal(stored["a.weight"][0], words()["a.weight"][0])


def test_no_changes_make_an_empty_list() -> None:
    stored = words()
    table = changed_bits(stored, {name: codes for name, (codes, _) in stored.items()})
    assert (len(table), table.n_trials) == (0, 1)
