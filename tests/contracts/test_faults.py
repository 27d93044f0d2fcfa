"""What every fault model promises, whatever it does to the bits."""

from pathlib import Path

import pytest
import torch

from bitproof.core.rng import make_generator
from bitproof.faults import (
    FAULTS,
    FaultModel,
    Interleaved,
    MeasuredChip,
    RandomFlips,
    SimulatedSram,
)

ERROR_MAP = Path(__file__).with_name("error_map.csv")
SAMPLES: dict[str, FaultModel] = {
    "interleaved": Interleaved(fault=RandomFlips(ber=0.2), ways=5),
    "measured_chip": MeasuredChip(path=str(ERROR_MAP), rows=4, voltage=0.75),
    "random_flips": RandomFlips(ber=0.2),
    "simulated_sram": SimulatedSram(ber=0.2, column_share=0.5, persistence=0.7),
}
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


def level_of(model: FaultModel) -> float:
    value = getattr(model, model.level)
    return level_of(value) if isinstance(value, FaultModel) else float(value)


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
    faulty = SAMPLES[kind].corrupt(codes, bits=bits, generator=make_generator(1))
    assert (faulty.shape, faulty.dtype, faulty.device) == (codes.shape, dtype, codes.device)
    assert not torch.equal(faulty, codes)


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
    faulty = SAMPLES[kind].corrupt(codes, bits=bits, generator=make_generator(1))
    low = -(1 << bits - 1) if dtype.is_signed else 0
    assert low <= int(faulty.min())
    assert int(faulty.max()) < low + (1 << bits)


@every_kind
def test_bits_above_an_unsigned_word_keep_their_value(kind: str) -> None:
    codes = codes_of(torch.uint8, 8)
    faulty = SAMPLES[kind].corrupt(codes, bits=3, generator=make_generator(1))
    assert torch.equal(faulty >> 3, codes >> 3)


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
def test_named_tensors_are_corrupted_as_one_array(kind: str) -> None:
    codes, model = codes_of(torch.uint8, 8), SAMPLES[kind]
    parts = {"head": (codes[:2], 8), "tail": (codes[2:], 8)}
    faulty = model.corrupt_all(parts, generator=make_generator(1))
    whole = model.corrupt(codes, bits=8, generator=make_generator(1))
    assert torch.equal(torch.cat([faulty["head"], faulty["tail"]]), whole)


@every_kind
def test_level_is_a_field_that_at_sets(kind: str) -> None:
    model = SAMPLES[kind]
    assert model.level in type(model).model_fields
    level = level_of(model)
    assert model.at(level) == model
    other = model.at(level / 2)
    assert level_of(other) == level / 2
    assert other != model
    assert other.at(level) == model


@every_kind
def test_label_tells_people_what_it_is(kind: str) -> None:
    label = SAMPLES[kind].label
    assert label.family == "memory_fault"
    assert label.title
    assert label.symbol


@every_kind
@every_width
def test_draws_do_not_depend_on_content(kind: str, dtype: torch.dtype, bits: int) -> None:
    model, states = SAMPLES[kind], []
    codes = codes_of(dtype, bits)
    for content in (codes, torch.zeros_like(codes)):
        generator = make_generator(1)
        model.corrupt(content, bits=bits, generator=generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


@every_kind
@every_width
def test_one_mask_serves_any_content_where_the_model_says_so(
    kind: str, dtype: torch.dtype, bits: int
) -> None:
    model, codes = SAMPLES[kind], codes_of(dtype, bits)
    if not model.content_free:
        pytest.skip("what changes depends on what is stored")
    zeros = torch.zeros_like(codes)
    mask = model.corrupt(zeros, bits=bits, generator=make_generator(1))
    assert torch.equal(model.corrupt(codes, bits=bits, generator=make_generator(1)), codes ^ mask)


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
