"""Signatures against sums of Python integers, and what they see of flips."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bitproof.core.errors import FaultListError, SpecError
from bitproof.core.rng import make_generator
from bitproof.faults import FaultTable, RandomFlips, Signatures
from bitproof.faults import signatures as module
from bitproof.faults.protection import PROTECTIONS
from bitproof.faults.table import ACTIONS, FLIP, SITES
from bitproof.faults.word_faults import changed_bits, read_words
from bitproof.quant import CodedTensor, Grid, IntegerNetwork


def stored(shape: tuple[int, ...], bits: int, points: list[int], *, signed: bool) -> CodedTensor:
    zero = torch.tensor(points if len(points) > 1 else points[0], dtype=torch.int32)
    grid = Grid(torch.ones_like(zero).float(), zero, bits, signed, 0 if len(points) > 1 else None)
    draw = make_generator(0, "words", *shape, bits)
    codes = torch.randint(grid.low, grid.high + 1, shape, generator=draw)
    return CodedTensor(codes.to(grid.dtype), grid)


NETWORK = IntegerNetwork(
    (),
    {
        "a.weight": stored((3, 7), 8, [-3, 200, 5], signed=True),
        "a.bias": stored((3,), 32, [0, 0, 0], signed=True),
        "b.weight": stored((2, 3, 3), 5, [11], signed=False),
    },
    {},
)
KINDS = [
    Signatures(words=4),
    Signatures(words=4, interleaved=False),
    Signatures(words=5, bits=3, sites=("weight", "bias")),
    Signatures(words=64, bits=9, seed=3),
    Signatures(words=1, interleaved=False),
]
Row = tuple[int, str, str, int, int, int, str]


def groups(protection: Signatures, size: int) -> list[list[int]]:
    """Return the words of each group, in the order of signs."""
    n = math.ceil(size / protection.words)
    if protection.interleaved:
        return [list(range(first, size, n)) for first in range(n)]
    return [
        list(range(first, min(first + protection.words, size)))
        for first in range(0, size, protection.words)
    ]


def slow_signature(protection: Signatures, codes: list[int], bits: int) -> int:
    signs = protection._signs().tolist()
    total = sum(sign * code for sign, code in zip(signs, codes, strict=False))
    step: int = 2 ** max(bits + 1 - protection.bits, 0)
    return int(total // step % 2**protection.bits)


def slow_read(protection: Signatures, broken: dict[str, list[int]]) -> dict[str, list[int]]:
    read = {name: list(codes) for name, codes in broken.items()}
    for name, codes in broken.items():
        coded = NETWORK.tensors[name]
        grid, clean = coded.grid, coded.codes.flatten().tolist()
        if name.rpartition(".")[2] not in protection.sites:
            continue
        points = grid.zero_point.flatten().tolist()
        for group in groups(protection, len(clean)):
            was, now = (
                slow_signature(protection, [some[k] for k in group], grid.bits)
                for some in (clean, codes)
            )
            for k in group if was != now else ():
                point = points[k // (len(clean) // len(points))]
                read[name][k] = min(max(point, grid.low), grid.high)
    return read


def as_lists(codes: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: words.flatten().tolist() for name, words in codes.items()}


def draw_rows(data: st.DataObject) -> list[Row]:
    rows: list[Row] = []
    for _ in range(data.draw(st.integers(0, 14))):
        name = data.draw(st.sampled_from(sorted(NETWORK.tensors)))
        layer, _, site = name.rpartition(".")
        coded = NETWORK.tensors[name]
        element = data.draw(st.integers(0, coded.codes.numel() - 1))
        top = coded.grid.bits - 1
        bit = data.draw(st.sampled_from([top, top, top - 1, 0]))
        action = data.draw(st.sampled_from(ACTIONS))
        rows.append((data.draw(st.integers(0, 2)), site, layer, element, -1, bit, action))
    return rows


@pytest.mark.parametrize("protection", KINDS, ids=str)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_lists_and_words_read_as_the_slow_version_reads(
    protection: Signatures, data: st.DataObject
) -> None:
    table = FaultTable.from_rows(draw_rows(data), layers=("a", "b"), n_trials=3)
    repaired = protection.repair(table, NETWORK)
    assert not repaired.detected.any()
    for trial in range(3):
        broken = read_words(NETWORK.codes(), table.of_trial(trial))
        wanted = slow_read(protection, as_lists(broken))
        assert as_lists(protection.read(NETWORK, broken)) == wanted
        listed = read_words(NETWORK.codes(), repaired.table.of_trial(trial))
        assert as_lists(listed) == wanted


@pytest.mark.parametrize("protection", KINDS, ids=str)
def test_signatures_are_bits_of_the_masked_sum(protection: Signatures) -> None:
    for coded in NETWORK.tensors.values():
        flat = coded.codes.flatten().tolist()
        wanted = [
            slow_signature(protection, [flat[k] for k in group], coded.grid.bits)
            for group in groups(protection, len(flat))
        ]
        assert protection.signatures(coded).tolist() == wanted


@pytest.mark.parametrize("protection", KINDS, ids=str)
def test_every_single_flip_of_a_watched_bit_is_detected(protection: Signatures) -> None:
    """`b - 1` bits are watched: the most significant one, and those below it."""
    for name, site in (("a", "weight"), ("b", "weight")):
        coded = NETWORK.tensors[f"{name}.{site}"]
        watched = range(max(coded.grid.bits + 1 - protection.bits, 0), coded.grid.bits)
        places = [(k, bit) for k in range(coded.codes.numel()) for bit in watched]
        rows: list[Row] = [
            (trial, site, name, k, -1, bit, "flip") for trial, (k, bit) in enumerate(places)
        ]
        table = FaultTable.from_rows(rows)
        assert protection.detection_rate(table, NETWORK) == 1.0


def test_a_flip_far_below_the_watched_bits_mostly_escapes() -> None:
    flips: list[Row] = [(k, "weight", "a", k, -1, 0, "flip") for k in range(21)]
    assert Signatures(words=4).detection_rate(FaultTable.from_rows(flips), NETWORK) < 0.2


def test_pairs_of_msb_flips_escape_where_their_signed_changes_cancel() -> None:
    protection = Signatures(words=16, interleaved=False)
    grid = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 8, signed=True)
    codes = torch.randint(-128, 128, (16,), generator=make_generator(4)).to(torch.int8)
    network = IntegerNetwork((), {"a.weight": CodedTensor(codes, grid)}, {})
    signs, found = protection._signs(), {True: 0, False: 0}
    for one, two in combinations(range(16), 2):
        pair: list[Row] = [(0, "weight", "a", k, -1, 7, "flip") for k in (one, two)]
        rise = [int(signs[k]) * (1 if codes[k] < 0 else -1) for k in (one, two)]
        detected = protection.detection_rate(FaultTable.from_rows(pair), network) == 1.0
        assert detected == (sum(rise) != 0), "two bits tell +2 from 0"
        found[detected] += 1
    assert min(found.values()) > 40


def test_random_pairs_of_msb_flips_in_a_group_escape_half_of_the_time() -> None:
    n = 4000
    grid = Grid(torch.tensor(1.0), torch.tensor(128, dtype=torch.int32), 8, signed=False)
    codes = torch.randint(0, 256, (n * 16,), generator=make_generator(5)).to(torch.uint8)
    network = IntegerNetwork((), {"a.weight": CodedTensor(codes, grid)}, {})
    draw = np.random.Generator(np.random.PCG64(0))
    words = np.stack([draw.choice(16, 2, replace=False) + 16 * group for group in range(n)])
    size = words.size
    table = FaultTable.build(
        ("a",),
        1,
        trial=np.zeros(size),
        site=np.full(size, SITES.index("weight")),
        layer=np.zeros(size),
        element=words.ravel(),
        tap=np.full(size, -1),
        bit=np.full(size, 7),
        action=np.full(size, FLIP),
    )
    rate = Signatures(words=16, interleaved=False).detection_rate(table, network)
    assert abs(rate - 0.5) < 5 * (0.25 / n) ** 0.5


def test_the_seed_decides_which_pairs_escape() -> None:
    pairs: list[Row] = [
        (trial, "weight", "a", k, -1, 7, "flip")
        for trial, pair in enumerate(combinations(range(21), 2))
        for k in pair
    ]
    table = FaultTable.from_rows(pairs)
    reads = [Signatures(words=21, seed=s).repair(table, NETWORK).table.rows() for s in (0, 1)]
    assert reads[0] != reads[1]


def test_interleaving_puts_neighbours_into_different_groups() -> None:
    burst: list[Row] = [(0, "weight", "a", k, -1, 7, "flip") for k in (8, 9, 10, 11)]
    table = FaultTable.from_rows(burst)
    spread = Signatures(words=4).repair(table, NETWORK).table
    close = Signatures(words=4, interleaved=False).detection_rate(table, NETWORK)
    assert Signatures(words=4).detection_rate(table, NETWORK) == 1.0
    assert close in {0.0, 1.0}, "one group holds all four"
    assert len(np.unique(spread.element)) > 8


def test_overhead_is_bits_for_each_group() -> None:
    # 21 and 18 words in groups of 4, the 3 biases are left out: 6 + 5 groups.
    assert Signatures(words=4, bits=3).overhead_bits(NETWORK) == 3 * 11
    assert Signatures(words=64).redundancy(NETWORK) == {}


def test_many_flips_read_alike_as_list_and_as_words() -> None:
    grid = Grid(torch.tensor(1.0), torch.tensor(100, dtype=torch.int32), 8, signed=False)
    codes = torch.randint(0, 256, (50, 60), generator=make_generator(6)).to(torch.uint8)
    network = IntegerNetwork((), {"a.weight": CodedTensor(codes, grid)}, {})
    fault = RandomFlips(ber=0.01)
    broken = fault.corrupt_all(network.codes(), generator=make_generator(7))
    for protection in (Signatures(words=7), Signatures(words=7, interleaved=False)):
        table = protection.repair(changed_bits(network.codes(), broken), network).table
        listed = read_words(network.codes(), table)["a.weight"]
        assert torch.equal(listed, protection.read(network, broken)["a.weight"])
        assert (listed != broken["a.weight"]).any()


def test_a_list_that_changes_nothing_has_no_rate() -> None:
    held = int(NETWORK.tensors["a.weight"].codes[0, 0]) & 1
    same: Row = (0, "weight", "a", 0, -1, 0, f"stuck{held}")
    for rows in ([], [same], [(0, "bias", "a", 0, -1, 3, "flip")]):
        with pytest.raises(FaultListError, match="wanted changed bits"):
            Signatures().detection_rate(FaultTable.from_rows(rows), NETWORK)


def test_lists_that_would_not_fit_in_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 20)
    flips: list[Row] = [(trial, "weight", "a", 0, -1, 7, "flip") for trial in range(6)]
    Signatures(words=4).repair(FaultTable.from_rows(flips[:5]), NETWORK)
    with pytest.raises(SpecError, match=r"wanted at most 20 words .* got 24"):
        Signatures(words=4).repair(FaultTable.from_rows(flips), NETWORK)


def test_parameters_are_checked_and_survive_a_table() -> None:
    for table in ({"bits": 1}, {"words": 0}, {"sites": ("activation",)}):
        with pytest.raises(ValidationError):
            Signatures.model_validate(table)
    for protection in KINDS:
        assert PROTECTIONS.build(protection.model_dump(mode="json")) == protection
