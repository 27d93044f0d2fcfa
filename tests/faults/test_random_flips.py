"""Random flips as users of quantized weights meet them."""

from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.bits import count_flips
from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.faults import RandomFlips


@pytest.mark.parametrize("ber", [1e-4, 0.0075, 0.05])
@pytest.mark.parametrize(("dtype", "bits"), [(torch.uint8, 4), (torch.uint8, 8), (torch.int32, 20)])
def test_rate_is_ber_in_words_of_any_width(ber: float, dtype: torch.dtype, bits: int) -> None:
    codes, n_bits = torch.zeros(300, 1000, dtype=dtype), 300_000 * bits
    faulty = RandomFlips(ber=ber).corrupt(codes, bits=bits, generator=make_generator(1))
    flipped = count_flips(codes, faulty, bits=bits)
    assert abs(flipped - n_bits * ber) < 5 * sqrt(n_bits * ber * (1 - ber))


@settings(max_examples=30, deadline=None)
@given(low=st.floats(0, 1), high=st.floats(0, 1), bits=st.integers(1, 8))
def test_flips_nest_in_ber(low: float, high: float, bits: int) -> None:
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
