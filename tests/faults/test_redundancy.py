"""Memories whose check bits and copies break as well, against slow decoders."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.faults import (
    Interleaved,
    Parity,
    Protection,
    RandomFlips,
    Ranger,
    Secded,
    Signatures,
    SimulatedSram,
    TripleModular,
    corrupt,
    corrupt_float32,
)
from bitproof.faults.base import FaultModel
from bitproof.faults.ecc import check_bits, hsiao_columns
from bitproof.faults.protection import DecodedWords, zero_codes
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
        "a.weight": stored((3, 70), 8, [-3, 200, 5], signed=True),
        "a.bias": stored((3,), 32, [0, 0, 0], signed=True),
        "b.weight": stored((20, 3, 3), 5, [11], signed=False),
        "b.bias": stored((5,), 6, [-40], signed=True),
    },
    {},
)
CODES = [Secded(), Secded(data_bits=32), Secded(data_bits=37), Secded(data_bits=300)]
STORING = [*CODES, Parity(), TripleModular()]
EVERY: list[Protection] = [*STORING, Parity(zero=False), Signatures(words=8), Ranger()]


def raw(codes: Tensor, bits: int) -> list[int]:
    return [int(code) % (1 << bits) for code in codes.flatten()]


def packed(words: list[int], bits: int) -> int:
    return sum(word << bits * k for k, word in enumerate(words))


def slow_checks(data: int, data_bits: int) -> int:
    checks = 0
    for place, column in enumerate(hsiao_columns(data_bits)):
        checks ^= column * (data >> place & 1)
    return checks


def slow_decode(data: int, checks: int, data_bits: int) -> int:
    """Return the data that are read of a code word of which any bit may be broken."""
    syndrome, columns = slow_checks(data, data_bits) ^ checks, hsiao_columns(data_bits)
    return data ^ 1 << columns.index(syndrome) if syndrome in columns else data


def slow_secded(
    protection: Secded, broken: dict[str, Tensor], checks: dict[str, Tensor]
) -> dict[str, list[int]]:
    read = {}
    for name, codes in broken.items():
        bits, words = NETWORK.tensors[name].grid.bits, raw(codes, NETWORK.tensors[name].grid.bits)
        span = protection.data_bits // bits
        own = raw(checks[name], check_bits(protection.data_bits))
        for number, start in enumerate(range(0, len(words), span)):
            data = slow_decode(
                packed(words[start : start + span], bits), own[number], protection.data_bits
            )
            for k in range(start, min(start + span, len(words))):
                words[k] = data >> bits * (k - start) & (1 << bits) - 1
        read[name] = words
    return read


def broken_parts(
    protection: Protection, fault: FaultModel, seed: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return broken words, and broken words of what the protection stores beside them."""
    words = fault.corrupt_all(NETWORK.codes(), generator=make_generator(seed))
    beside = protection.redundancy(NETWORK)
    return words, fault.corrupt_all(beside, generator=make_generator(seed, "beside"))


def as_raw(codes: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: raw(words, NETWORK.tensors[name].grid.bits) for name, words in codes.items()}


@pytest.mark.parametrize("protection", CODES, ids=str)
def test_check_bits_are_those_of_the_code(protection: Secded) -> None:
    redundancy = protection.redundancy(NETWORK)
    assert list(redundancy) == list(NETWORK.tensors)
    for name, (checks, n_checks) in redundancy.items():
        coded = NETWORK.tensors[name]
        words, bits = raw(coded.codes, coded.grid.bits), coded.grid.bits
        span = protection.data_bits // bits
        parts = [words[start : start + span] for start in range(0, len(words), span)]
        assert n_checks == check_bits(protection.data_bits)
        assert raw(checks, n_checks) == [
            slow_checks(packed(part, bits), protection.data_bits) for part in parts
        ]


@pytest.mark.parametrize("protection", CODES, ids=str)
@pytest.mark.parametrize("ber", [0.001, 0.01, 0.05, 0.3])
def test_broken_data_and_check_bits_are_decoded_together(protection: Secded, ber: float) -> None:
    for seed in range(5):
        words, checks = broken_parts(protection, RandomFlips(ber=ber), seed)
        read = protection.read(NETWORK, words, checks)
        assert as_raw(read) == slow_secded(protection, words, checks)


def code_word() -> IntegerNetwork:
    """Return a network of eight words of eight bits, one code word."""
    coded = stored((8,), 8, [0], signed=False)
    return IntegerNetwork((), {"a.weight": coded}, {})


def read_flipped(places: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Return what is stored, and what is read with bits of the 72 flipped; check bits come last."""
    network, protection = code_word(), Secded()
    words = network.tensors["a.weight"].codes.clone()
    checks = protection.redundancy(network)["a.weight"][0].clone()
    for place in places:
        target, bit = (words, place) if place < 64 else (checks, place - 64)
        target[bit // 8] ^= 1 << bit % 8
    read = protection.read(network, {"a.weight": words}, {"a.weight": checks})
    return network.tensors["a.weight"].codes.tolist(), read["a.weight"].tolist()


def test_each_single_flip_among_the_72_bits_is_mended() -> None:
    for place in range(72):
        stored_words, read = read_flipped((place,))
        assert read == stored_words


def test_each_pair_among_the_72_bits_leaves_the_data_as_they_broke() -> None:
    """Found, not mended: with one check bit and one data bit, the data bit stays wrong."""
    for pair in combinations(range(0, 72, 3), 2):
        stored_words, read = read_flipped(pair)
        wrong = [a ^ b for a, b in zip(stored_words, read, strict=True)]
        assert sum(word.bit_count() for word in wrong) == sum(place < 64 for place in pair)


def test_three_check_bits_can_break_the_data() -> None:
    columns = hsiao_columns(64)
    for three in combinations(range(8), 3):
        stored_words, read = read_flipped(tuple(64 + bit for bit in three))
        syndrome = sum(1 << bit for bit in three)
        wrong = [a ^ b for a, b in zip(stored_words, read, strict=True)]
        assert sum(word.bit_count() for word in wrong) == int(syndrome in columns)


@pytest.mark.parametrize("ber", [0.001, 0.05, 0.3])
def test_a_broken_parity_bit_makes_a_whole_word_zero(ber: float) -> None:
    words, parities = broken_parts(Parity(), RandomFlips(ber=ber), 1)
    read = Parity().read(NETWORK, words, parities)
    for name, codes in words.items():
        coded = NETWORK.tensors[name]
        zeros = raw(zero_codes(coded), coded.grid.bits)
        broken = raw(codes, coded.grid.bits)
        wanted = [
            zero if word.bit_count() % 2 != parity else word
            for word, parity, zero in zip(broken, raw(parities[name], 1), zeros, strict=True)
        ]
        assert raw(read[name], coded.grid.bits) == wanted


def test_parity_bits_are_those_of_the_words() -> None:
    for name, (parities, bits) in Parity().redundancy(NETWORK).items():
        coded = NETWORK.tensors[name]
        assert bits == 1
        words = raw(coded.codes, coded.grid.bits)
        assert parities.flatten().tolist() == [word.bit_count() % 2 for word in words]


def test_copies_are_three_memories_that_break_alike() -> None:
    voter = TripleModular()
    words, copies = broken_parts(voter, RandomFlips(ber=0.2), 1)
    read = as_raw(voter.read(NETWORK, words, copies))
    for name, first in as_raw(words).items():
        bits = NETWORK.tensors[name].grid.bits
        second, third = (raw(copy, bits) for copy in copies[name])
        assert second != third != first
        for word, *copied in zip(read[name], first, second, third, strict=True):
            for bit in range(bits):
                assert word >> bit & 1 == int(sum(copy >> bit & 1 for copy in copied) >= 2)


def test_a_voter_passes_three_times_the_squared_rate() -> None:
    zeros = CodedTensor(torch.zeros(300, 1000, dtype=torch.uint8), NETWORK.tensors["b.weight"].grid)
    network = IntegerNetwork((), {"a.weight": zeros}, {})
    ber, n = 0.01, 300_000 * 5
    broken = corrupt(
        network,
        RandomFlips(ber=ber),
        generator=make_generator(0),
        protections=[TripleModular()],
    )
    codes = broken.tensors["a.weight"].codes
    wrong = sum(int((codes >> bit & 1).sum()) for bit in range(5))
    expected = n * (3 * ber**2 - 2 * ber**3)
    assert abs(wrong - expected) < 5 * expected**0.5


@pytest.mark.parametrize("ber", [0.002, 0.01])
def test_code_words_fail_as_often_as_72_bits_break_twice(ber: float) -> None:
    """METHODS E.7: 1 - (1-p)^72 - 72 p (1-p)^71, 16 % of code words at p = 1 %."""
    n = 40_000
    zeros = CodedTensor(torch.zeros(n, 8, dtype=torch.uint8), Grid(
        torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 8, signed=False
    ))  # fmt: skip
    network, secded = IntegerNetwork((), {"a.weight": zeros}, {}), Secded()
    words = RandomFlips(ber=ber).corrupt_all(network.codes(), generator=make_generator(0))
    checks = RandomFlips(ber=ber).corrupt_all(
        secded.redundancy(network), generator=make_generator(1)
    )
    n_broken = torch.stack([(words["a.weight"] >> bit & 1) for bit in range(8)]).sum((0, 2))
    n_broken += torch.stack([(checks["a.weight"] >> bit & 1) for bit in range(8)]).sum(0)
    failing = (n_broken >= 2).float().mean()
    fails = 1 - (1 - ber) ** 72 - 72 * ber * (1 - ber) ** 71
    assert abs(float(failing) - fails) < 5 * (fails * (1 - fails) / n) ** 0.5
    read = secded.read(network, words, checks)["a.weight"]
    assert not read[n_broken <= 1].any()
    # One data bit at least is wrong, unless both broken bits are check bits or three make a fourth.
    assert 0.9 < float(read[n_broken >= 2].any(1).float().mean()) <= 1.0


@pytest.mark.parametrize("protection", EVERY, ids=str)
@pytest.mark.parametrize("ber", [0.0, 0.003, 0.1])
def test_with_whole_check_bits_words_read_as_the_list_is_repaired(
    protection: Protection, ber: float
) -> None:
    if isinstance(protection, TripleModular):
        pytest.skip("a list is of all copies together, words are those of one")
    words = RandomFlips(ber=ber).corrupt_all(NETWORK.codes(), generator=make_generator(2))
    table = protection.repair(changed_bits(NETWORK.codes(), words), NETWORK).table
    listed = read_words(NETWORK.codes(), table)
    whole = {name: checks for name, (checks, _) in protection.redundancy(NETWORK).items()}
    for redundant in (None, whole):
        read = protection.read(NETWORK, words, redundant)
        assert as_raw(read) == as_raw(listed)
        assert all(read[name].dtype == words[name].dtype for name in words)


@pytest.mark.parametrize("protection", EVERY, ids=str)
def test_what_is_given_is_left_as_it_was(protection: Protection) -> None:
    before = as_raw({name: coded.codes for name, coded in NETWORK.tensors.items()})
    words, beside = broken_parts(protection, RandomFlips(ber=0.05), 4)
    given = [{name: codes.clone() for name, codes in some.items()} for some in (words, beside)]
    read = protection.read(NETWORK, words, beside)
    assert sorted(read) == sorted(NETWORK.tensors)
    for some, same in zip((words, beside), given, strict=True):
        assert all(torch.equal(codes, same[name]) for name, codes in some.items())
    assert as_raw({name: coded.codes for name, coded in NETWORK.tensors.items()}) == before


@pytest.mark.parametrize("protection", EVERY, ids=str)
def test_words_that_break_without_protections_are_those_that_break_with_them(
    protection: Protection,
) -> None:
    fault = RandomFlips(ber=0.01)
    generators = [make_generator(3) for _ in range(2)]
    plain = corrupt(NETWORK, fault, generator=generators[0])
    seen: list[dict[str, Tensor]] = []

    class Watching(type(protection)):  # type: ignore[misc]
        def decoded(
            self, network: IntegerNetwork, codes: dict[str, Tensor], redundant: object = None
        ) -> tuple[dict[str, Tensor], DecodedWords | None]:
            seen.append(codes)
            found: tuple[dict[str, Tensor], None] = super().decoded(network, codes, redundant)
            return found

    watched = Watching.model_validate(protection.model_dump())
    corrupt(NETWORK, fault, generator=generators[1], protections=[watched])
    assert torch.equal(*(generator.get_state() for generator in generators))
    (codes,) = seen
    assert all(torch.equal(codes[name], plain.tensors[name].codes) for name in codes)


@pytest.mark.parametrize("protection", STORING, ids=str)
def test_check_words_break_at_the_same_level_and_are_nested(protection: Protection) -> None:
    seen: list[Tensor] = []

    class Watching(type(protection)):  # type: ignore[misc]
        def decoded(
            self,
            network: IntegerNetwork,
            codes: dict[str, Tensor],
            redundant: dict[str, Tensor],
        ) -> tuple[dict[str, Tensor], DecodedWords | None]:
            written = self.redundancy(network)
            changes = [
                (redundant[name] ^ words).flatten().long() & (1 << bits) - 1
                for name, (words, bits) in written.items()
            ]
            seen.append(torch.cat(changes))
            return codes, None

    watched = Watching.model_validate(protection.model_dump())
    for ber in (0.05, 0.2):
        fault = RandomFlips(ber=ber)
        corrupt(NETWORK, fault, generator=make_generator(3), protections=[watched])
    few, many = seen
    assert torch.equal(few & many, few)
    bits = protection.overhead_bits(NETWORK)
    struck = sum(int((many >> bit & 1).sum()) for bit in range(32))
    assert abs(struck - 0.2 * bits) < 5 * (bits * 0.16) ** 0.5


def test_two_like_protections_have_check_bits_of_their_own() -> None:
    fault = RandomFlips(ber=0.02)
    once, twice = (
        corrupt(NETWORK, fault, generator=make_generator(3), protections=[Parity()] * n)
        for n in (1, 2)
    )
    differ = [
        not torch.equal(once.tensors[name].codes, coded.codes)
        for name, coded in twice.tensors.items()
    ]
    assert any(differ), "the second has parity bits that broke elsewhere"


def test_check_bits_of_sites_that_do_not_break_stay_whole() -> None:
    broken = corrupt(
        NETWORK,
        RandomFlips(ber=0.1),
        generator=make_generator(3),
        sites=("weight",),
        protections=[Parity(), Secded(), TripleModular()],
    )
    for name, coded in NETWORK.tensors.items():
        changed = not torch.equal(broken.tensors[name].codes, coded.codes)
        assert changed == (name.rpartition(".")[2] == "weight")


@pytest.mark.parametrize(
    "fault",
    [
        SimulatedSram(ber=0.05, arrays=1, rows=64, columns=64),
        Interleaved(fault=SimulatedSram(ber=0.05, arrays=1, rows=64, columns=64), ways=9),
    ],
    ids=str,
)
@pytest.mark.parametrize("protection", EVERY, ids=str)
def test_any_fault_model_breaks_check_bits(protection: Protection, fault: FaultModel) -> None:
    first, again = (
        corrupt(NETWORK, fault, generator=make_generator(3), protections=[protection])
        for _ in range(2)
    )
    for name, coded in first.tensors.items():
        assert torch.equal(coded.codes, again.tensors[name].codes)
        assert raw(coded.codes, coded.grid.bits)


def test_floats_are_words_of_32_bits_behind_protections() -> None:
    tensors = {
        "net.weight": torch.randn(40, 5, generator=make_generator(0)),
        "scale": torch.ones(3),
    }
    fault = RandomFlips(ber=5e-4)
    plain = corrupt_float32(tensors, fault, generator=make_generator(1))
    read = corrupt_float32(tensors, fault, generator=make_generator(1), protections=[Secded()])
    zero = corrupt_float32(
        tensors,
        RandomFlips(ber=0.02),
        generator=make_generator(1),
        protections=[Parity(sites=("weight",))],
    )
    assert list(read) == list(tensors)
    assert not torch.equal(plain["net.weight"], tensors["net.weight"])
    assert torch.equal(read["net.weight"], tensors["net.weight"])
    assert bool((zero["net.weight"] == 0).any())


def test_overheads_are_the_published_ones() -> None:
    coded = CodedTensor(torch.zeros(8000, dtype=torch.int8), NETWORK.tensors["a.weight"].grid)
    network = IntegerNetwork((), {"a.weight": coded}, {})
    bits = 8 * 8000
    found = {
        one: one.overhead_bits(network) / bits for one in (Secded(), Parity(), TripleModular())
    }
    assert list(found.values()) == [1 / 8, 1 / 8, 2.0]
    assert Ranger().overhead_bits(network) == 0
    assert Signatures(words=64).overhead_bits(network) / bits == 2 / (64 * 8)


def test_words_too_wide_for_the_code_are_refused() -> None:
    with pytest.raises(SpecError, match="data_bits: wanted 32 or more"):
        corrupt(
            NETWORK,
            RandomFlips(ber=0.1),
            generator=make_generator(0),
            protections=[Secded(data_bits=16)],
        )


def slow_words(
    protection: Secded, broken: dict[str, Tensor], checks: dict[str, Tensor]
) -> DecodedWords:
    """Return the code words that broke, decoded one by one."""
    corrected = detected = silent = 0
    written = protection.redundancy(NETWORK)
    for name, codes in broken.items():
        coded = NETWORK.tensors[name]
        bits, n_checks = coded.grid.bits, check_bits(protection.data_bits)
        span = protection.data_bits // bits
        before, after = raw(coded.codes, bits), raw(codes, bits)
        own = zip(raw(written[name][0], n_checks), raw(checks[name], n_checks), strict=True)
        for start, (old, new) in zip(range(0, len(before), span), own, strict=True):
            clean = packed(before[start : start + span], bits)
            data = packed(after[start : start + span], bits)
            wrong = (clean ^ data).bit_count() + (old ^ new).bit_count()
            syndrome = slow_checks(data, protection.data_bits) ^ new
            known = {*hsiao_columns(protection.data_bits), *(1 << k for k in range(n_checks)), 0}
            corrected += wrong == 1
            detected += syndrome not in known
            silent += wrong > 1 and syndrome in known
    return DecodedWords(corrected, detected, silent)


@pytest.mark.parametrize("protection", CODES, ids=str)
@pytest.mark.parametrize("ber", [0.0, 0.001, 0.01, 0.1])
def test_words_are_counted_as_one_by_one(protection: Secded, ber: float) -> None:
    for seed in range(3):
        words, checks = broken_parts(protection, RandomFlips(ber=ber), seed)
        read, counted = protection.decoded(NETWORK, words, checks)
        assert counted == slow_words(protection, words, checks)
        assert as_raw(read) == as_raw(protection.read(NETWORK, words, checks))


def test_parity_that_zeroes_nothing_counts_odd_words_and_even_ones_that_are_wrong() -> None:
    protection = Parity(zero=False)
    words, parities = broken_parts(protection, RandomFlips(ber=0.1), 0)
    odd = even = 0
    for name, codes in words.items():
        bits, stored_words = NETWORK.tensors[name].grid.bits, NETWORK.tensors[name].codes
        old = raw(protection.redundancy(NETWORK)[name][0], 1)
        for a, b, p, q in zip(
            raw(stored_words, bits), raw(codes, bits), old, raw(parities[name], 1), strict=True
        ):
            wrong = (a ^ b).bit_count() + (p ^ q)
            odd += wrong % 2
            even += wrong > 0 and wrong % 2 == 0
    assert protection.decoded(NETWORK, words, parities)[1] == DecodedWords(0, odd, even)
    assert Parity().decoded(NETWORK, words, parities)[1] is None
