"""Protections against slow, bit-by-bit decoders, voters and memories on Python integers."""

from collections import Counter
from itertools import combinations, pairwise, product
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from bitproof.core.errors import FaultListError, SpecError
from bitproof.core.rng import make_generator
from bitproof.faults.bounding import Bound, Bounding, FtClipAct, Ranger
from bitproof.faults.ecc import Parity, Secded, check_bits, hsiao_columns
from bitproof.faults.protection import PROTECTIONS, Protection, Repaired
from bitproof.faults.table import ACTIONS, COLUMNS, SITES, WORD_SITES, FaultTable
from bitproof.faults.voting import TripleModular, faulty_copies
from bitproof.quant import CodedTensor, Grid, IntegerNetwork, Node, quantize
from bitproof.quant.integers import integer_op

Row = tuple[int, str, str, int, int, int, str]
Memory = dict[str, list[int]]
"""Bit patterns of the words of each tensor, without a sign."""

LAYERS = ("a", "b", "relu")


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
        "b.bias": stored((5,), 6, [-40], signed=True),
    },
    {},
)
EVERY = [Secded(), Secded(data_bits=32), Parity(), Parity(zero=False), TripleModular(), Ranger()]
CODES = [Secded(), Secded(data_bits=32), Secded(data_bits=37), Parity(), Parity(zero=False)]


def patterns(network: IntegerNetwork = NETWORK) -> Memory:
    return {
        name: [code % (1 << bits) for code in codes.flatten().tolist()]
        for name, (codes, bits) in network.codes().items()
    }


def act(word: int, bit: int, action: str) -> int:
    if action == "flip":
        return word ^ 1 << bit
    return word | 1 << bit if action == "stuck1" else word & ~(1 << bit)


def broken_memory(rows: list[Row]) -> Memory:
    """Return the words after rows of one trial at weights and biases, in order."""
    memory = patterns()
    for _, site, layer, element, _, bit, action in rows:
        if site in {"weight", "bias"}:
            codes = memory[f"{layer}.{site}"]
            codes[element] = act(codes[element], bit, action)
    return memory


def slow_syndrome(data: int, columns: tuple[int, ...]) -> int:
    result = 0
    for place, column in enumerate(columns):
        if data >> place & 1:
            result ^= column
    return result


def slow_decode(clean: int, broken: int, data_bits: int) -> tuple[int, bool]:
    """Return the data that are read and whether an error was found beyond repair."""
    columns = hsiao_columns(data_bits)
    checks = slow_syndrome(clean, columns)  # written with the data
    syndrome = slow_syndrome(broken, columns) ^ checks
    if syndrome in columns:
        return broken ^ 1 << columns.index(syndrome), False
    return broken, syndrome != 0 and syndrome.bit_count() != 1


def slow_secded(rows: list[Row], data_bits: int) -> tuple[Memory, bool]:
    memory, found = broken_memory(rows), False
    for name, clean in patterns().items():
        bits = NETWORK.tensors[name].grid.bits
        per_code = data_bits // bits
        for start in range(0, len(clean), per_code):
            before, after = (
                sum(word << bits * k for k, word in enumerate(codes[start : start + per_code]))
                for codes in (clean, memory[name])
            )
            data, detected = slow_decode(before, after, data_bits)
            found |= detected
            for k in range(min(per_code, len(clean) - start)):
                memory[name][start + k] = data >> bits * k & (1 << bits) - 1
    return memory, found


def slow_parity(rows: list[Row], *, zero: bool) -> tuple[Memory, bool]:
    memory, found = broken_memory(rows), False
    for name, clean in patterns().items():
        grid = NETWORK.tensors[name].grid
        for k, (before, after) in enumerate(zip(clean, memory[name], strict=True)):
            if (before.bit_count() + after.bit_count()) % 2 == 0:
                continue
            channel = k // (len(clean) // max(1, grid.zero_point.numel()))
            point = grid.zero_point.flatten()[channel].item() if grid.axis == 0 else grid.zero_point
            code = min(max(int(point), grid.low), grid.high)
            found |= not zero
            memory[name][k] = code % (1 << grid.bits) if zero else after
    return memory, found


def slow_repair(protection: Protection, rows: list[Row]) -> tuple[Memory, bool]:
    if isinstance(protection, Secded):
        return slow_secded(rows, protection.data_bits)
    assert isinstance(protection, Parity)
    return slow_parity(rows, zero=protection.zero)


def stored_rows(data: st.DataObject, *, most: int) -> list[Row]:
    """Draw rows that crowd into few words, so that code words break in many ways."""
    names = data.draw(st.lists(st.sampled_from(sorted(NETWORK.tensors)), min_size=1, max_size=3))
    rows: list[Row] = []
    for _ in range(data.draw(st.integers(0, most))):
        name = data.draw(st.sampled_from(names))
        layer, _, site = name.rpartition(".")
        coded = NETWORK.tensors[name]
        element = data.draw(st.integers(0, coded.codes.numel() - 1))
        bit = data.draw(st.integers(0, coded.grid.bits - 1))
        trial, action = data.draw(st.integers(0, 2)), data.draw(st.sampled_from(ACTIONS))
        rows.append((trial, site, layer, element, -1, bit, action))
    if data.draw(st.booleans()):
        rows.append((1, "activation", "relu", 12, -1, 3, "stuck1"))
    return rows


def table_of(rows: list[Row], *, n_trials: int = 4) -> FaultTable:
    return FaultTable.from_rows(rows, layers=LAYERS, n_trials=n_trials)


def crowd(
    n_rows: int, n_trials: int, *, layer: str = "a", codes: int = 21, bits: int = 8
) -> FaultTable:
    """Return random faults in the weights of a layer."""
    draw = np.random.Generator(np.random.PCG64(1))
    columns = {
        "trial": draw.integers(n_trials, size=n_rows),
        "site": np.full(n_rows, SITES.index("weight")),
        "layer": np.full(n_rows, LAYERS.index(layer)),
        "element": draw.integers(codes, size=n_rows),
        "tap": np.full(n_rows, -1),
        "bit": draw.integers(bits, size=n_rows),
        "action": draw.integers(3, size=n_rows),
    }
    return FaultTable.build(LAYERS, n_trials, **columns)


def flips(layer: str, *bits: tuple[int, int], trial: int = 0) -> list[Row]:
    return [(trial, "weight", layer, element, -1, bit, "flip") for element, bit in bits]


def assert_reads_as_slow(protection: Protection, table: FaultTable) -> None:
    repaired = protection.repair(table, NETWORK)
    for trial in range(table.n_trials):
        rows, read = (whole.of_trial(trial).rows() for whole in (table, repaired.table))
        memory, found = slow_repair(protection, rows)
        assert broken_memory(read) == memory
        assert bool(repaired.detected[trial]) == found
        other = [[row for row in some if row[1] == "activation"] for some in (rows, read)]
        assert other[0] == other[1]


@pytest.mark.parametrize("protection", CODES, ids=str)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_codes_read_what_the_slow_decoder_reads(
    protection: Protection, data: st.DataObject
) -> None:
    assert_reads_as_slow(protection, table_of(stored_rows(data, most=14)))


@pytest.mark.parametrize("protection", CODES, ids=str)
def test_crowded_code_words_read_as_the_slow_decoder_reads_them(protection: Protection) -> None:
    """Many odd errors, so that decoders flip bits of padding at the end of words and tensors."""
    assert_reads_as_slow(protection, crowd(2000, 200))
    assert_reads_as_slow(protection, crowd(2000, 200, layer="b", codes=18, bits=5))


@pytest.mark.parametrize("data_bits", [8, 16, 32, 64, 128, 100])
def test_columns_are_distinct_odd_minimal_and_balanced(data_bits: int) -> None:
    columns, rows = hsiao_columns(data_bits), check_bits(data_bits)
    weights = Counter(column.bit_count() for column in columns)
    assert len(set(columns)) == len(columns) == data_bits
    assert all(weight % 2 == 1 and weight >= 3 for weight in weights)
    for lighter, _ in pairwise(sorted(weights)):
        assert weights[lighter] == comb(rows, lighter)
    loads = [sum(column >> row & 1 for column in columns) for row in range(rows)]
    assert max(loads) - min(loads) <= 1


def test_the_72_64_code_is_the_published_one() -> None:
    """Hsiao's (72, 64): all 56 columns of weight 3, 8 of weight 5, 26 data bits in each check."""
    weights = Counter(column.bit_count() for column in hsiao_columns(64))
    assert weights == {3: 56, 5: 8}
    assert {sum(column >> row & 1 for column in hsiao_columns(64)) for row in range(8)} == {26}


@pytest.mark.parametrize(("data_bits", "n_checks"), [(8, 5), (16, 6), (32, 7), (64, 8), (128, 9)])
def test_check_bits_are_the_published_numbers(data_bits: int, n_checks: int) -> None:
    assert check_bits(data_bits) == n_checks


def test_all_single_errors_of_a_code_word_are_corrected() -> None:
    singles = [row for k in range(64) for row in flips("a", divmod(k, 8), trial=k)]
    repaired = Secded().repair(table_of(singles, n_trials=64), NETWORK)
    assert len(repaired.table) == 0
    assert not repaired.detected.any()


def test_all_double_errors_of_a_code_word_are_detected_and_passed() -> None:
    pairs = list(combinations(range(64), 2))
    rows = [
        row
        for trial, (one, two) in enumerate(pairs)
        for row in flips("a", divmod(one, 8), divmod(two, 8), trial=trial)
    ]
    table = table_of(rows, n_trials=len(pairs))
    repaired = Secded().repair(table, NETWORK)
    assert len(pairs) == 64 * 63 // 2
    assert repaired.detected.all()
    assert repaired.table.rows() == table.rows()


def test_triple_errors_are_miscorrected_or_detected_as_the_columns_say() -> None:
    columns = hsiao_columns(64)
    triples = list(combinations(range(0, 64, 3), 3))
    rows = [
        row
        for trial, places in enumerate(triples)
        for row in flips("a", *(divmod(place, 8) for place in places), trial=trial)
    ]
    repaired = Secded().repair(table_of(rows, n_trials=len(triples)), NETWORK)
    syndromes = [columns[a] ^ columns[b] ^ columns[c] for a, b, c in triples]
    assert len(repaired.table) == len(rows) + sum(s in columns for s in syndromes)
    silent = [s in columns or s.bit_count() == 1 for s in syndromes]
    assert repaired.detected.tolist() == [not passes for passes in silent]
    assert 0.3 < np.mean(silent) < 0.9


def test_four_errors_that_sum_to_nothing_pass_in_silence() -> None:
    columns = hsiao_columns(64)
    four = next(
        (a, b, c, columns.index(columns[a] ^ columns[b] ^ columns[c]))
        for a, b, c in combinations(range(64), 3)
        if columns[a] ^ columns[b] ^ columns[c] in columns[c + 1 :]
    )
    table = table_of(flips("a", *(divmod(place, 8) for place in four)))
    repaired = Secded().repair(table, NETWORK)
    assert repaired.table.rows() == table.rows()
    assert not repaired.detected.any()


def test_errors_in_two_code_words_are_both_corrected() -> None:
    """Word 7 ends the first code word, word 8 begins the second."""
    repaired = Secded().repair(table_of(flips("a", (7, 1), (8, 1))), NETWORK)
    assert len(repaired.table) == 0
    assert not repaired.detected.any()


def test_what_does_not_change_a_bit_does_not_count_as_an_error() -> None:
    word = patterns()["a.weight"][0]
    same = "stuck1" if word & 1 else "stuck0"
    rows = [*flips("a", (0, 3), (1, 2), (1, 2)), (0, "weight", "a", 0, -1, 0, same)]
    repaired = Secded().repair(table_of(rows), NETWORK)
    assert len(repaired.table) == 0
    assert not repaired.detected.any()


def test_one_wrong_bit_reads_as_the_zero_point_of_its_channel() -> None:
    """Zero points of "a": -3, 200 (beyond int8: 127 is nearest) and 5, for 7 words each."""
    rows = flips("a", (0, 0), (7, 7), (20, 3))
    memory = broken_memory(Parity().repair(table_of(rows), NETWORK).table.rows())
    assert [memory["a.weight"][k] for k in (0, 7, 20)] == [256 - 3, 127, 5]


@pytest.mark.parametrize("zero", [True, False])
def test_two_wrong_bits_of_a_word_pass_parity(zero: bool) -> None:
    table = table_of(flips("b", (4, 0), (4, 2)))
    repaired = Parity(zero=zero).repair(table, NETWORK)
    assert repaired.table.rows() == table.rows()
    assert not repaired.detected.any()


def test_parity_without_zero_marks_the_trial_and_passes_the_words() -> None:
    table = table_of(flips("b", (4, 0), trial=2))
    repaired = Parity(zero=False).repair(table, NETWORK)
    assert repaired.table.rows() == table.rows()
    assert repaired.detected.tolist() == [False, False, True, False]


@pytest.mark.parametrize("code", [Secded(sites=("bias",)), Parity(sites=("bias",))], ids=str)
def test_sites_that_are_not_covered_pass(code: Protection) -> None:
    table = table_of([*flips("a", (0, 0)), (0, "bias", "a", 1, -1, 31, "flip")])
    read = code.repair(table, NETWORK).table.rows()
    assert [row for row in read if row[1] == "weight"] == flips("a", (0, 0))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((0, "weight", "a", 21, -1, 0, "flip"), "'a.weight' has, got bit 0 of word 21"),
        ((0, "bias", "b", 0, -1, 6, "flip"), "'b.bias' has, got bit 6 of word 0"),
        ((0, "weight", "relu", 0, -1, 0, "flip"), "no words 'relu.weight'"),
    ],
)
@pytest.mark.parametrize("code", [Secded(), Parity()], ids=str)
def test_rows_without_a_bit_are_refused(code: Protection, row: Row, message: str) -> None:
    with pytest.raises(FaultListError, match=message):
        code.repair(table_of([row]), NETWORK)


def test_a_word_wider_than_the_code_word_is_refused() -> None:
    row = (0, "bias", "a", 0, -1, 0, "flip")
    with pytest.raises(SpecError, match="data_bits: wanted 32 or more"):
        Secded(data_bits=16).repair(table_of([row]), NETWORK)
    with pytest.raises(ValidationError):
        Secded(data_bits=4)


def test_the_voter_has_the_truth_table_of_three_copies() -> None:
    """All of 4**3 things that may befall the copies of a bit, for both stored values."""
    seed_of: dict[tuple[int, ...], int] = {}
    for seed in range(2000):  # find seeds that put the three rows of a trial on given copies
        three = table_of(flips("a", (0, 0), (0, 0), (0, 0)))
        seed_of.setdefault(tuple(faulty_copies(three, seed=seed).tolist()), seed)
    assert len(seed_of) == 27
    for actions in product([None, *ACTIONS], repeat=3):
        rows = [
            (0, "accumulator", "a", 9, -1, 30, action) for action in actions if action is not None
        ]
        filler = [(0, "operand", "a", 9, 4, 0, "flip")] * (3 - len(rows))
        copies = [copy for copy, action in enumerate(actions) if action is not None]
        seed = next(s for drawn, s in seed_of.items() if list(drawn[: len(copies)]) == copies)
        voter = TripleModular(seed=seed, sites=("accumulator",))
        read = voter.repair(table_of([*rows, *filler]), NETWORK).table.rows()
        left = [row for row in read if row[1] == "accumulator"]
        assert len(left) <= 1
        assert len(read) - len(left) == len(filler)
        for value in (0, 1):
            votes = [value if action is None else act(value, 0, action) for action in actions]
            result = act(value, 0, left[0][-1]) if left else value
            assert result == int(sum(votes) >= 2), (actions, value)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), seed=st.integers(0, 5))
def test_votes_are_those_of_three_memories(data: st.DataObject, seed: int) -> None:
    rows = stored_rows(data, most=10)
    for _ in range(data.draw(st.integers(0, 20))):  # few bits, often hit
        element, bit = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1))
        action = data.draw(st.sampled_from(ACTIONS))
        rows.append((0, "weight", "b", element, -1, bit, action))
    table = table_of(rows)
    copies = faulty_copies(table, seed=seed).tolist()
    repaired = TripleModular(seed=seed).repair(table, NETWORK)
    for trial in range(table.n_trials):
        of_copy = [
            broken_memory(
                [
                    row
                    for row, fell in zip(table.rows(), copies, strict=True)
                    if row[0] == trial and fell == copy
                ]
            )
            for copy in range(3)
        ]
        voted = {
            name: [
                a & b | b & c | a & c
                for a, b, c in zip(*(memory[name] for memory in of_copy), strict=True)
            ]
            for name in NETWORK.tensors
        }
        assert broken_memory(repaired.table.of_trial(trial).rows()) == voted


def test_a_single_fault_of_any_site_never_passes_the_voter() -> None:
    rows: list[Row] = [(k, site, "a", 3, -1, 2, "stuck1") for k, site in enumerate(WORD_SITES)]
    repaired = TripleModular().repair(table_of(rows, n_trials=len(WORD_SITES)), NETWORK)
    assert len(repaired.table) == 0
    assert not repaired.detected.any()


def test_output_and_activation_name_the_same_copies() -> None:
    rows: list[Row] = [
        (trial, site, "a", 3, -1, 2, "flip")
        for trial in range(300)
        for site in ("activation", "output")
    ]
    table = table_of(rows, n_trials=300)
    differ = np.diff(faulty_copies(table, seed=0).reshape(300, 2))[:, 0] != 0
    left = TripleModular().repair(table, NETWORK).table
    assert sorted(left.trial.tolist()) == np.flatnonzero(differ).tolist()


def test_faults_fall_on_copies_alike_and_depend_on_the_trial_alone() -> None:
    rows = [row for trial in range(3000) for row in flips("a", *[(0, 0)] * 10, trial=trial)]
    table = table_of(rows, n_trials=3000)
    copies = faulty_copies(table, seed=0)
    counts = np.bincount(copies, minlength=3)
    assert abs(counts - 10_000).max() < 5 * (30_000 * 2 / 9) ** 0.5
    joint = np.bincount(copies[:-1] * 3 + copies[1:], minlength=9)
    assert abs(joint - 30_000 / 9).max() < 5 * (30_000 * 8 / 81) ** 0.5
    assert faulty_copies(table.of_trial(17), seed=0).tolist() == copies[170:180].tolist()
    assert faulty_copies(table, seed=1).tolist() != copies.tolist()


@pytest.mark.parametrize("protection", EVERY, ids=str)
def test_no_faults_stay_no_faults(protection: Protection) -> None:
    repaired = protection.repair(table_of([]), NETWORK)
    assert (len(repaired.table), repaired.table.n_trials) == (0, 4)
    assert repaired.detected.tolist() == [False] * 4


@pytest.mark.parametrize("protection", EVERY, ids=str)
def test_arguments_are_left_alone_and_trials_are_independent(protection: Protection) -> None:
    table, codes = crowd(400, 50), patterns()
    before = {name: getattr(table, name).copy() for name in COLUMNS}
    repaired = protection.repair(table, NETWORK)
    assert patterns() == codes
    assert all(np.array_equal(getattr(table, name), column) for name, column in before.items())
    assert (np.diff(repaired.table.trial) >= 0).all()
    for trial in range(50):
        alone = protection.repair(table.of_trial(trial), NETWORK)
        assert alone.table.rows() == repaired.table.of_trial(trial).rows()
        assert alone.detected[trial] == repaired.detected[trial]


@pytest.mark.parametrize("protection", EVERY, ids=str)
def test_the_same_faults_are_repaired_in_the_same_way(protection: Protection) -> None:
    first, second = (protection.repair(crowd(400, 50), NETWORK) for _ in range(2))
    assert first.table.rows() == second.table.rows()


@pytest.mark.parametrize("code", CODES, ids=str)
def test_what_was_decoded_once_is_read_alike_when_decoded_again(code: Protection) -> None:
    once = code.repair(crowd(400, 50), NETWORK)
    twice = code.repair(once.table, NETWORK)
    for trial in range(50):
        left, right = (broken_memory(r.table.of_trial(trial).rows()) for r in (once, twice))
        assert left == right


@pytest.mark.parametrize("protection", EVERY, ids=str)
def test_a_table_builds_the_same_protection(protection: Protection) -> None:
    assert PROTECTIONS.build(protection.model_dump(mode="json")) == protection


@pytest.mark.slow
@pytest.mark.parametrize("protection", [Secded(), Parity(), TripleModular()], ids=str)
@pytest.mark.parametrize("n_trials", [1, 1000, 1_000_000])
def test_a_million_rows_are_repaired_at_once(protection: Protection, n_trials: int) -> None:
    codes = torch.zeros(1000, 10_000, dtype=torch.int8)
    grid = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 8, signed=True)
    network = IntegerNetwork((), {"a.weight": CodedTensor(codes, grid)}, {})
    table = crowd(1_000_000, n_trials, codes=codes.numel())
    assert isinstance(protection.repair(table, network), Repaired)


def conv_net() -> tuple[IntegerNetwork, dict[str, Tensor]]:
    """Return a small network and its words on some images, by node."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 3, 3),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(3, 5),
        )
        images = torch.rand(12, 1, 6, 6)
    network = quantize(model, images)
    codes: dict[str, Tensor] = {}
    for node in network.nodes:
        operands = [codes[name] for name in node.inputs]
        codes[node.name] = integer_op(network, node, operands, images)
    return network, codes


@pytest.mark.parametrize("bounding", [Ranger(), FtClipAct()], ids=str)
def test_bounds_change_nothing_on_the_profiling_images(bounding: Bounding) -> None:
    network, codes = conv_net()
    bounds = bounding.bounds(network, codes)
    for name, bound in bounds.items():
        point = int(network.grids[name].zero_point)
        assert torch.equal(bounding.apply(codes[name], bound, point), codes[name])


def test_bounded_are_activation_functions_and_what_moves_their_words() -> None:
    network, codes = conv_net()
    ops = {node.name: node.op for node in network.nodes}
    bounds = Ranger().bounds(network, codes)
    assert [ops[name] for name in bounds] == ["conv", "max_pool", "table", "reshape"]
    relu, pooled, gelu, flat = bounds
    for name in (relu, gelu):
        assert bounds[name] == Bound(int(codes[name].min()), int(codes[name].max()), "clamp")
    assert (bounds[pooled], bounds[flat]) == (bounds[relu], bounds[gelu])


def test_words_outside_are_pulled_back_or_zero() -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    ranger, clip = (Bound(10, 200, "clamp"), Bound(0, 200, "zero"))
    assert Bounding.apply(codes, ranger, 7).tolist() == [min(max(k, 10), 200) for k in range(256)]
    assert Bounding.apply(codes, clip, 7).tolist() == [k if k <= 200 else 7 for k in range(256)]
    signed = torch.arange(-128, 128, dtype=torch.int8)
    expected = [k if k <= 100 else -5 for k in range(-128, 128)]
    assert Bounding.apply(signed, Bound(-128, 100, "zero"), -5).tolist() == expected
    assert torch.equal(signed, torch.arange(-128, 128, dtype=torch.int8))


@settings(max_examples=50, deadline=None)
@given(
    codes=st.lists(st.integers(-8, 7), min_size=1, max_size=60),
    percentile=st.sampled_from([0.5, 25.0, 50.0, 90.0, 99.0, 100.0]),
)
def test_the_threshold_is_the_least_word_that_keeps_the_percentile(
    codes: list[int], percentile: float
) -> None:
    grid = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 4, signed=True)
    bound = FtClipAct(percentile=percentile).bound(torch.tensor(codes, dtype=torch.int8), grid)
    kept = [k for k in codes if k <= bound.high]
    fewer = [k for k in codes if k < bound.high]
    assert 100 * len(kept) >= percentile * len(codes) > 100 * len(fewer)


def test_padding_keeps_its_zeros_within_the_bounds_it_inherits() -> None:
    one, zero = torch.tensor(1.0), torch.tensor(3, dtype=torch.int32)
    grid = Grid(one, zero, 8, signed=False)
    nodes = (Node("relu", "table", ("x",), {"function": "clamp"}), Node("pad", "pad", ("relu",)))
    network = IntegerNetwork(nodes, {}, {"relu": grid, "pad": grid})
    codes = {"relu": torch.tensor([[50, 60]], dtype=torch.uint8)}
    assert Ranger().bounds(network, codes)["pad"] == Bound(3, 60, "clamp")


def test_missing_profiling_words_are_an_error() -> None:
    network, codes = conv_net()
    (relu, *_) = Ranger().bounds(network, codes)
    with pytest.raises(SpecError, match=f"wanted profiling words of '{relu}'"):
        Ranger().bounds(network, {name: w for name, w in codes.items() if name != relu})
