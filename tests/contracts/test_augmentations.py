"""What every augmentation promises, checked for every registered kind."""

import json

import pytest
import torch
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.data import AUGMENT, Augmentation
from bitproof.data.augment import Cutout, Flip, PadCrop
from bitproof.data.auto_augment import AutoAugment

SAMPLES: dict[str, Augmentation] = {
    "auto_augment": AutoAugment(fill=(0.2, 0.4, 0.6)),
    "cutout": Cutout(size=3, fill=(0.2, 0.4, 0.6)),
    "flip": Flip(probability=0.4),
    "pad_crop": PadCrop(padding=2, fill=(0.2, 0.4, 0.6)),
}
DTYPES = [torch.uint8, torch.float32]


@pytest.fixture(params=AUGMENT.kinds())
def step(request: pytest.FixtureRequest) -> Augmentation:
    return SAMPLES[request.param]


def make(dtype: torch.dtype = torch.uint8) -> Tensor:
    pixels = torch.randint(0, 256, (32, 3, 8, 9), generator=make_generator(0)).to(torch.uint8)
    return pixels if dtype == torch.uint8 else pixels.to(dtype) / 255


def test_every_kind_has_a_sample() -> None:
    assert sorted(SAMPLES) == AUGMENT.kinds()


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_it_survives_a_round_trip_through_json(kind: str) -> None:
    sample = SAMPLES[kind]
    again = AUGMENT.build(json.loads(sample.model_dump_json()))
    assert again == sample
    assert again.digest() == sample.digest()


@pytest.mark.parametrize("dtype", DTYPES)
def test_shape_dtype_device_and_range_are_kept(step: Augmentation, dtype: torch.dtype) -> None:
    images = make(dtype)
    changed = step.apply(images, generator=make_generator(0))
    assert (changed.shape, changed.dtype, changed.device) == (images.shape, dtype, images.device)
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= (255 if dtype == torch.uint8 else 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_argument_is_untouched_and_not_part_of_the_answer(
    step: Augmentation, dtype: torch.dtype
) -> None:
    images = make(dtype)
    before = images.clone()
    changed = step.apply(images, generator=make_generator(0))
    assert torch.equal(images, before)
    assert not torch.equal(changed, before)
    changed.zero_()
    assert torch.equal(images, before)


def test_the_generator_alone_decides(step: Augmentation) -> None:
    first, again, other = (step.apply(make(), generator=make_generator(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_pixels_and_floats_change_alike(step: Augmentation) -> None:
    changed = step.apply(make(), generator=make_generator(0)).float() / 255
    assert torch.equal(changed, step.apply(make(torch.float32), generator=make_generator(0)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_empty_batch_stays_empty(step: Augmentation, dtype: torch.dtype) -> None:
    images = make(dtype)[:0]
    assert step.apply(images, generator=make_generator(0)).shape == images.shape


def test_a_batch_may_lie_in_memory_in_any_order(step: Augmentation) -> None:
    images = make().contiguous(memory_format=torch.channels_last)
    changed = step.apply(images, generator=make_generator(0))
    assert torch.equal(changed, step.apply(make(), generator=make_generator(0)))


@pytest.mark.slow  # the first meta tensor loads the reference kernels
def test_the_host_never_waits_for_pixels(step: Augmentation) -> None:
    changed = step.apply(make().to("meta"), generator=make_generator(0))  # has no pixels to read
    assert (changed.shape, changed.device.type) == (make().shape, "meta")


@pytest.mark.gpu
def test_the_host_never_waits_for_the_device(step: Augmentation) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images = make().cuda()
    step.apply(images, generator=make_generator(0))  # loads the kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        step.apply(images, generator=make_generator(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_the_device_does_not_change_the_answer(step: Augmentation) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    there = step.apply(make().cuda(), generator=make_generator(0))
    assert there.is_cuda
    assert torch.equal(there.cpu(), step.apply(make(), generator=make_generator(0)))
