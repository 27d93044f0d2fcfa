"""Random flips: against the slow, obvious sampler, against statistics, and in stored words."""

from itertools import pairwise
from math import log1p, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chisquare, geom, kstest

from bitproof.core.bits import count_flips
from bitproof.core.errors import BitWidthError, SpecError
from bitproof.core.rng import derive_seed, draw_seed, make_generator
from bitproof.faults import random_flips
from bitproof.faults.random_flips import EDGES, Flips, RandomFlips, sparse_flips

RATES = [3e-6, 1e-5, 2.5e-4, 1e-3, 0.0075, 0.01, 0.03, 0.2, 0.45, 0.7]
WORDS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


def draw(ber: float, *, n_words: int = 64, bits: int = 8, seed: int = 0) -> Flips:
    return sparse_flips(n_words, bits=bits, ber=ber, generator=make_generator(seed))


def hit_positions(flips: Flips) -> list[int]:
    codes, bits = flips.pairs()
    return sorted((bits * flips.n_words + codes).tolist())


def slow_thresholds(n_positions: int, *, seed: int) -> np.ndarray:
    """Return every bit's threshold u, walking gap by gap through every band."""
    base = draw_seed(make_generator(seed))
    threshold = np.ones(n_positions)
    for band, (low, high) in enumerate(zip((0.0, *EDGES), EDGES, strict=False)):
        gaps, marks = (
            np.random.Generator(np.random.SFC64(derive_seed(base, use, band)))
            for use in ("gaps", "marks")
        )
        rate = (high - low) / (1 - low)
        scale = 1 / -log1p(-rate) if rate < 1 else 0.0
        position = int(gaps.standard_exponential() * scale)
        while position < n_positions:
            mark = low + (high - low) * marks.random()
            threshold[position] = min(threshold[position], mark)
            position += 1 + int(gaps.standard_exponential() * scale)
    return threshold


@pytest.mark.parametrize("chunk", [3, 1 << 14])
@pytest.mark.parametrize("ber", [0.0, *RATES, 1.0])
def test_flips_are_the_bits_whose_slow_threshold_is_below_ber(
    ber: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_flips, "CHUNK", chunk)
    expected = np.flatnonzero(slow_thresholds(500 * 8, seed=1) < ber)
    assert hit_positions(draw(ber, n_words=500, seed=1)) == expected.tolist()


def test_slow_thresholds_are_uniform() -> None:
    assert kstest(slow_thresholds(40_000, seed=2), "uniform").pvalue > 1e-6


@pytest.mark.parametrize("ber", RATES)
def test_rate_is_ber(ber: float) -> None:
    n_bits = 8 * 100_000
    flipped = len(draw(ber, n_words=100_000, seed=3).pairs()[0])
    assert abs(flipped - n_bits * ber) < 5 * sqrt(n_bits * ber * (1 - ber))


def test_rate_far_below_the_first_edge_is_exact_on_average() -> None:
    n_bits, ber = 8 * 10_000_000, 1e-7
    flipped = sum(len(draw(ber, n_words=n_bits // 8, seed=seed).pairs()[0]) for seed in range(100))
    assert abs(flipped - 100 * n_bits * ber) < 5 * sqrt(100 * n_bits * ber)


@pytest.mark.parametrize("ber", [0.01, 0.15])
def test_every_bit_position_flips_equally_often(ber: float) -> None:
    _, bits = draw(ber, n_words=200_000, seed=4).pairs()
    assert chisquare(np.bincount(bits.numpy(), minlength=8)).pvalue > 1e-6


@pytest.mark.parametrize("ber", [0.015, 0.15])
def test_flips_of_one_word_are_independent(ber: float) -> None:
    codes, _ = draw(ber, n_words=100_000, seed=5).pairs()
    per_word = np.bincount(codes.numpy(), minlength=100_000)
    counts = np.bincount(np.minimum(per_word, 2), minlength=3)
    expected = [binom.pmf(0, 8, ber), binom.pmf(1, 8, ber), binom.sf(1, 8, ber)]
    assert chisquare(counts, 100_000 * np.array(expected)).pvalue > 1e-6


@pytest.mark.parametrize("lag", [1, 2, 100_000, 100_001])
def test_flips_at_any_distance_are_uncorrelated(lag: int) -> None:
    flips, ber = draw(0.02, n_words=100_000, seed=6), 0.02
    hit = np.zeros(800_000, bool)
    hit[hit_positions(flips)] = True
    together, pairs = int((hit[lag:] & hit[:-lag]).sum()), 800_000 - lag
    assert abs(together - pairs * ber**2) < 5 * sqrt(pairs) * ber


@pytest.mark.parametrize("ber", [0.01, 0.03])
def test_gaps_between_flips_are_geometric(ber: float) -> None:
    gaps = np.diff(hit_positions(draw(ber, n_words=500_000, seed=7)))
    cuts = geom.ppf(np.linspace(0, 1, 11)[1:-1], ber)
    counts = np.bincount(np.searchsorted(cuts, gaps), minlength=10)
    expected = np.diff(np.concatenate([[0], geom.cdf(cuts, ber), [1]])) * len(gaps)
    assert chisquare(counts, expected).pvalue > 1e-6


@settings(max_examples=50, deadline=None)
@given(low=st.floats(0, 1), high=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_flips_nest_in_ber(low: float, high: float, seed: int) -> None:
    low, high = sorted((low, high))
    fewer, more = (set(hit_positions(draw(ber, seed=seed))) for ber in (low, high))
    assert fewer <= more


def test_flips_nest_just_above_and_below_every_edge() -> None:
    rates = [float(np.nextafter(edge, to)) for edge in EDGES[:-1] for to in (0.0, 1.0)]
    sets = [set(hit_positions(draw(ber, n_words=2000))) for ber in sorted([*rates, *EDGES])]
    assert all(fewer <= more for fewer, more in pairwise(sets))


def test_nothing_flips_at_ber_0_and_everything_at_ber_1() -> None:
    assert hit_positions(draw(0.0)) == []
    assert hit_positions(draw(1.0)) == list(range(64 * 8))


@pytest.mark.parametrize("ber", [0.0, 1e-6, 0.013, 1.0])
def test_generator_advances_by_one_draw_whatever_ber_is(ber: float) -> None:
    used, reference = make_generator(8), make_generator(8)
    sparse_flips(1000, bits=8, ber=ber, generator=used)
    draw_seed(reference)
    assert torch.equal(used.get_state(), reference.get_state())


def test_narrower_words_have_the_same_flips_in_the_bits_they_have() -> None:
    wide, narrow = hit_positions(draw(0.013, bits=8)), hit_positions(draw(0.013, bits=4))
    assert narrow == [position for position in wide if position < 4 * 64]


@pytest.mark.parametrize("dtype", WORDS)
@pytest.mark.parametrize("ber", [0.01, 0.15, 0.6])
def test_xor_flips_exactly_the_listed_bits_each_once(dtype: torch.dtype, ber: float) -> None:
    width = 8 * dtype.itemsize
    flips = draw(ber, n_words=300, bits=width, seed=9)
    clean = torch.randint(-100, 100, (300,), generator=make_generator(0)).to(dtype)
    faulty = clean.clone()
    flips.xor_(faulty)
    difference = faulty ^ clean
    listed = [((difference >> bit) & 1).nonzero().flatten().tolist() for bit in range(width)]
    codes, bits = flips.pairs()
    assert listed == [codes[bits == bit].tolist() for bit in range(width)]
    assert count_flips(clean, faulty, bits=width) == len(codes)


@pytest.mark.parametrize("dtype", WORDS)
def test_xor_twice_restores_the_words(dtype: torch.dtype) -> None:
    clean = torch.randint(-100, 100, (300,), generator=make_generator(0)).to(dtype)
    codes, flips = clean.clone(), draw(0.3, n_words=300, bits=8 * dtype.itemsize)
    flips.xor_(codes)
    assert not torch.equal(codes, clean)
    flips.xor_(codes)
    assert torch.equal(codes, clean)


def test_pairs_are_ordered_by_word_then_bit_and_list_words_hit_twice() -> None:
    codes, bits = draw(0.3, n_words=50).pairs()
    listed = list(zip(codes.tolist(), bits.tolist(), strict=True))
    assert listed == sorted(set(listed))
    assert len(set(codes.tolist())) < len(listed)


def test_positions_beyond_32_bits_are_reached() -> None:
    codes, bits = draw(1e-8, n_words=1 << 29, bits=32, seed=1).pairs()
    assert int(bits.max()) > 24
    assert 80 < len(codes) < 270


def test_more_members_than_room_was_made_for_are_all_kept() -> None:
    class Short(np.random.Generator):
        def standard_exponential(self, *, out: np.ndarray) -> np.ndarray:  # type: ignore[override]
            out[:] = 0.25
            return out

    source = Short(np.random.SFC64(0))
    members = random_flips._band(100_000, 0.1, source)
    assert np.array_equal(members, np.arange(int(0.25 / -log1p(-0.1)), 100_000, 3))


def test_flips_do_not_depend_on_the_number_of_threads() -> None:
    alone = draw(0.013, n_words=10_000)
    torch.set_num_threads(2)
    try:
        assert hit_positions(draw(0.013, n_words=10_000)) == hit_positions(alone)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("ber", [0.0, 0.013, 1.0])
def test_an_empty_array_has_no_flips(ber: float) -> None:
    flips = draw(ber, n_words=0)
    flips.xor_(torch.empty(0, dtype=torch.uint8))
    assert hit_positions(flips) == []


@pytest.mark.parametrize("ber", [-0.1, 1.1, float("nan")])
def test_a_ber_that_is_no_fraction_is_refused(ber: float) -> None:
    with pytest.raises(SpecError, match="ber: wanted a fraction"):
        draw(ber)


@pytest.mark.parametrize("n", [63, 65])
def test_another_number_of_words_is_refused(n: int) -> None:
    with pytest.raises(SpecError, match=f"wanted 64, got {n}"):
        draw(0.1).xor_(torch.zeros(n, dtype=torch.uint8))


def test_words_too_narrow_for_the_flips_are_refused() -> None:
    with pytest.raises(BitWidthError, match="bits"):
        draw(0.1, bits=16).xor_(torch.zeros(64, dtype=torch.uint8))


@pytest.mark.parametrize("ber", [1e-4, 0.0075, 0.05])
@pytest.mark.parametrize(("dtype", "bits"), [(torch.uint8, 4), (torch.uint8, 8), (torch.int32, 20)])
def test_rate_of_corrupted_words_of_any_width_is_ber(
    ber: float, dtype: torch.dtype, bits: int
) -> None:
    codes, n_bits = torch.zeros(300, 1000, dtype=dtype), 300_000 * bits
    faulty = RandomFlips(ber=ber).corrupt(codes, bits=bits, generator=make_generator(1))
    flipped = count_flips(codes, faulty, bits=bits)
    assert abs(flipped - n_bits * ber) < 5 * sqrt(n_bits * ber * (1 - ber))


@settings(max_examples=30, deadline=None)
@given(low=st.floats(0, 1), high=st.floats(0, 1), bits=st.integers(1, 8))
def test_corrupted_words_nest_in_ber(low: float, high: float, bits: int) -> None:
    low, high = sorted((low, high))
    codes = torch.arange(256, dtype=torch.uint8)
    fault = RandomFlips(ber=low)
    fewer, more = (
        fault.at(ber).corrupt(codes, bits=bits, generator=make_generator(2)) ^ codes
        for ber in (low, high)
    )
    assert torch.equal(fewer & more, fewer)


@pytest.mark.parametrize(("bits", "dtype"), [(8, torch.uint8), (4, torch.uint8), (8, torch.int8)])
def test_squared_error_of_weights_is_that_of_independent_bits(
    bits: int, dtype: torch.dtype
) -> None:
    """Expect ber * scale^2 * (4^bits - 1) / 3, exactly so for codes uniform over the words."""
    ber, scale, n = 0.01, 0.03, 1 << 20
    low = -(1 << bits - 1) if dtype.is_signed else 0
    codes = torch.arange(n).remainder(1 << bits).add(low).to(dtype)
    faulty = RandomFlips(ber=ber).corrupt(codes, bits=bits, generator=make_generator(3))
    squares = (scale * (faulty.double() - codes.double())) ** 2
    expected = ber * scale**2 * (4**bits - 1) / 3
    assert abs(float(squares.mean()) - expected) < 5 * float(squares.std()) / sqrt(n)


def test_four_bit_signed_codes_stay_in_range_and_move_by_powers_of_two() -> None:
    codes = torch.arange(-8, 8, dtype=torch.int8).repeat(200)
    faulty = RandomFlips(ber=0.05).corrupt(codes, bits=4, generator=make_generator(4))
    assert int(faulty.min()) == -8
    assert int(faulty.max()) == 7
    hits = torch.stack([(faulty ^ codes) >> bit & 1 for bit in range(4)])
    single = hits.sum(0) == 1
    moved = (faulty.int() - codes.int()).abs()[single]
    assert torch.equal(moved, 1 << hits[:, single].int().argmax(0))


def test_at_gives_the_same_model_at_another_valid_rate() -> None:
    assert RandomFlips(ber=0.01).at(0.02) == RandomFlips(ber=0.02)
    with pytest.raises(SpecError, match="less than or equal to 1"):
        RandomFlips(ber=0.01).at(1.5)
