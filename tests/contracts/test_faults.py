"""What every fault model promises, whatever it does to the bits."""

import pytest
import torch

from bitproof.core.rng import make_generator
from bitproof.faults import FAULTS, FaultModel, RandomFlips

SAMPLES: dict[str, FaultModel] = {"random_flips": RandomFlips(ber=0.2)}
"""One model of each kind that surely changes some of a few hundred words."""

WIDTHS = [
    (torch.uint8, 8),
    (torch.uint8, 4),
    (torch.int8, 8),
    (torch.int8, 4),
    (torch.int16, 16),
    (torch.int32, 32),
]

every_kind = pytest.mark.parametrize("kind", FAULTS.kinds())
every_width = pytest.mark.parametrize(("dtype", "bits"), WIDTHS)


def codes_of(dtype: torch.dtype, bits: int) -> torch.Tensor:
    low = -(1 << bits - 1) if dtype.is_signed else 0
    shape, generator = (7, 3, 15), make_generator(0)
    return torch.randint(low, low + (1 << bits), shape, generator=generator).to(dtype)


def test_every_kind_has_a_sample() -> None:
    assert sorted(SAMPLES) == FAULTS.kinds()


@every_kind
def test_model_survives_a_json_round_trip(kind: str) -> None:
    model = SAMPLES[kind]
    assert FAULTS.find(kind).model_validate_json(model.model_dump_json()) == model
    assert FAULTS.build(model.model_dump(mode="json")).digest() == model.digest()


@every_kind
@every_width
def test_shape_dtype_and_device_are_kept(kind: str, dtype: torch.dtype, bits: int) -> None:
    codes = codes_of(dtype, bits)
    struck = SAMPLES[kind].corrupt(codes, bits=bits, generator=make_generator(1))
    assert (struck.shape, struck.dtype, struck.device) == (codes.shape, dtype, codes.device)
    assert not torch.equal(struck, codes)


@every_kind
@every_width
def test_argument_is_untouched(kind: str, dtype: torch.dtype, bits: int) -> None:
    codes = codes_of(dtype, bits)
    SAMPLES[kind].corrupt(codes, bits=bits, generator=make_generator(1)).zero_()
    assert torch.equal(codes, codes_of(dtype, bits))


@every_kind
@every_width
def test_words_stay_words_of_their_width(kind: str, dtype: torch.dtype, bits: int) -> None:
    codes = codes_of(dtype, bits)
    struck = SAMPLES[kind].corrupt(codes, bits=bits, generator=make_generator(1))
    low = -(1 << bits - 1) if dtype.is_signed else 0
    assert low <= int(struck.min())
    assert int(struck.max()) < low + (1 << bits)


@every_kind
def test_bits_above_an_unsigned_word_keep_their_value(kind: str) -> None:
    codes = codes_of(torch.uint8, 8)
    struck = SAMPLES[kind].corrupt(codes, bits=3, generator=make_generator(1))
    assert torch.equal(struck >> 3, codes >> 3)


@every_kind
def test_same_generator_gives_the_same_result(kind: str) -> None:
    codes = codes_of(torch.uint8, 8)
    first, again, other = (
        SAMPLES[kind].corrupt(codes, bits=8, generator=make_generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_kind
def test_memory_layout_does_not_matter(kind: str) -> None:
    codes = codes_of(torch.uint8, 8)
    turned = codes.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    first, second = (
        SAMPLES[kind].corrupt(layout, bits=8, generator=make_generator(1))
        for layout in (codes, turned)
    )
    assert torch.equal(first, second)


@every_kind
def test_named_tensors_are_struck_as_one_array(kind: str) -> None:
    codes, model = codes_of(torch.uint8, 8), SAMPLES[kind]
    parts = {"head": (codes[:2], 8), "tail": (codes[2:], 8)}
    struck = model.corrupt_all(parts, generator=make_generator(1))
    whole = model.corrupt(codes, bits=8, generator=make_generator(1))
    assert torch.equal(torch.cat([struck["head"], struck["tail"]]), whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_kind
@every_width
def test_device_does_not_matter(kind: str, dtype: torch.dtype, bits: int) -> None:
    codes, model = codes_of(dtype, bits), SAMPLES[kind]
    here = model.corrupt(codes, bits=bits, generator=make_generator(1))
    there = model.corrupt(codes.cuda(), bits=bits, generator=make_generator(1))
    assert there.is_cuda
    assert torch.equal(there.cpu(), here)
