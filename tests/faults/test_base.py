"""The promises that `corrupt` and `corrupt_all` keep for every model."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from bitproof.core.errors import BitWidthError
from bitproof.core.rng import make_generator
from bitproof.faults import FAULTS, FaultModel, Memory, RandomFlips


class FlipAll(FaultModel):
    """Flip every bit it is given."""

    kind: Literal["flip_all"] = "flip_all"

    def inject_(self, memory: Memory, *, generator: torch.Generator) -> None:  # noqa: ARG002
        codes, bits = memory.codes, memory.bits
        codes ^= -1 if bits == 8 * codes.element_size() and codes.is_signed() else (1 << bits) - 1


def randint(low: int, high: int, *shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.randint(low, high, shape, generator=make_generator(0)).to(dtype)


def test_a_table_and_a_call_build_equal_models() -> None:
    assert FAULTS.build({"kind": "random_flips", "ber": 1e-3}) == RandomFlips(ber=1e-3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_all_bits_of_a_full_word_can_flip(dtype: torch.dtype) -> None:
    codes = randint(0, 100, 4, 5, dtype=dtype)
    faulty = FlipAll().corrupt(codes, bits=8 * dtype.itemsize, generator=make_generator(0))
    assert torch.equal(faulty, ~codes)


def test_bits_above_an_unsigned_word_keep_their_value() -> None:
    codes = randint(0, 256, 100)
    faulty = FlipAll().corrupt(codes, bits=5, generator=make_generator(0))
    assert torch.equal(faulty, codes ^ 0b11111)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("bits", [2, 4, 7])
def test_a_signed_word_stays_sign_extended(dtype: torch.dtype, bits: int) -> None:
    codes = randint(-(1 << bits - 1), 1 << bits - 1, 50, dtype=dtype)
    faulty = FlipAll().corrupt(codes, bits=bits, generator=make_generator(0))
    assert torch.equal(faulty, -1 - codes)


def test_signed_codes_outside_their_width_are_refused() -> None:
    codes = torch.tensor([-8, 12], dtype=torch.int8)
    with pytest.raises(BitWidthError, match=r"4 bits in torch.int8 \(-8 to 7\), got -8 to 12"):
        FlipAll().corrupt(codes, bits=4, generator=make_generator(0))


@pytest.mark.parametrize("bits", [0, 9])
def test_a_width_that_does_not_fit_is_refused(bits: int) -> None:
    with pytest.raises(BitWidthError, match="wanted a width"):
        FlipAll().corrupt(randint(0, 9, 3), bits=bits, generator=make_generator(0))


def test_named_tensors_are_corrupted_as_one_array() -> None:
    flat, fault = randint(0, 256, 60), RandomFlips(ber=0.2)
    faulty = fault.corrupt_all(
        {"a": (flat[:12].view(3, 4), 8), "b": (flat[12:12], 8), "c": (flat[12:].view(2, 24), 8)},
        generator=make_generator(1),
    )
    whole = fault.corrupt(flat, bits=8, generator=make_generator(1))
    assert list(faulty) == ["a", "b", "c"]
    assert [part.shape for part in faulty.values()] == [(3, 4), (0,), (2, 24)]
    assert torch.equal(torch.cat([part.flatten() for part in faulty.values()]), whole)


def test_a_narrow_tensor_loses_its_high_flips_and_changes_no_others() -> None:
    fault, codes = RandomFlips(ber=0.3), randint(0, 16, 90)
    wide, narrow = (
        fault.corrupt_all(
            {"first": (codes[:30], 8), "second": (codes[30:60], bits), "third": (codes[60:], 8)},
            generator=make_generator(2),
        )
        for bits in (8, 4)
    )
    assert torch.equal(wide["first"], narrow["first"])
    assert torch.equal(wide["third"], narrow["third"])
    assert torch.equal(wide["second"] & 15, narrow["second"])
    assert not torch.equal(wide["second"], narrow["second"])


def test_tensors_of_several_dtypes_share_one_array() -> None:
    clean = {
        "weight": (randint(-8, 8, 40, dtype=torch.int8), 4),
        "bias": (randint(-(2**31), 2**31, 10, dtype=torch.int32), 32),
        "unsigned": (randint(0, 256, 20), 8),
        "long": (randint(-99, 99, 5, dtype=torch.int64), 32),
    }
    faulty = FlipAll().corrupt_all(clean, generator=make_generator(0))
    assert {name: codes.dtype for name, codes in faulty.items()} == {
        name: codes.dtype for name, (codes, _) in clean.items()
    }
    assert all(torch.equal(faulty[name], ~codes) for name, (codes, _) in clean.items())


def test_no_tensors_give_no_tensors() -> None:
    assert FlipAll().corrupt_all({}, generator=make_generator(0)) == {}


def test_results_never_share_memory_with_the_arguments() -> None:
    codes = randint(0, 256, 20)
    faulty = RandomFlips(ber=0.0).corrupt(codes, bits=8, generator=make_generator(0))
    faulty += 1
    assert torch.equal(codes, randint(0, 256, 20))
