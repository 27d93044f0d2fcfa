import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.data.augment import AUGMENT, Augmentation, Cutout, Flip, PadCrop, augment

sizes = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))


def make(size: tuple[int, int, int, int], dtype: torch.dtype = torch.uint8) -> Tensor:
    pixels = torch.randint(1, 256, size, generator=make_generator(0)).to(torch.uint8)
    return pixels if dtype == torch.uint8 else pixels.to(dtype) / 255


@settings(max_examples=40, deadline=None)
@given(size=sizes, padding=st.integers(1, 5), fill=st.sampled_from([0.0, 0.5, 1.0]))
def test_pad_crop_equals_a_loop_over_images(
    size: tuple[int, int, int, int], padding: int, fill: float
) -> None:
    images = make(size)
    n, channels, height, width = size
    shifts = torch.randint(0, 2 * padding + 1, (2, n), generator=make_generator(1))
    wanted = torch.zeros_like(images)
    for image in range(n):
        top, left = int(shifts[0, image]) - padding, int(shifts[1, image]) - padding
        for y in range(height):
            for x in range(width):
                inside = 0 <= y + top < height and 0 <= x + left < width
                for channel in range(channels):
                    wanted[image, channel, y, x] = (
                        images[image, channel, y + top, x + left] if inside else round(fill * 255)
                    )
    step = PadCrop(padding=padding, fill=fill)
    assert torch.equal(step.apply(images, generator=make_generator(1)), wanted)


@settings(max_examples=40, deadline=None)
@given(size=sizes, probability=st.sampled_from([0.0, 0.3, 1.0]))
def test_flip_equals_a_loop_over_images(
    size: tuple[int, int, int, int], probability: float
) -> None:
    images = make(size)
    draws = torch.rand(size[0], generator=make_generator(2)).tolist()
    wanted = images.clone()
    for image, draw in enumerate(draws):
        if draw < probability:
            for x in range(size[3]):
                wanted[image, :, :, x] = images[image, :, :, size[3] - 1 - x]
    step = Flip(probability=probability)
    assert torch.equal(step.apply(images, generator=make_generator(2)), wanted)


@settings(max_examples=40, deadline=None)
@given(size=sizes, side=st.integers(1, 9))
def test_cutout_equals_a_loop_over_images(size: tuple[int, int, int, int], side: int) -> None:
    images = make(size)
    n, _, height, width = size
    generator = make_generator(3)
    rows = torch.randint(0, height, (n,), generator=generator).tolist()
    columns = torch.randint(0, width, (n,), generator=generator).tolist()
    wanted = images.clone()
    for image in range(n):
        for y in range(rows[image] - side // 2, rows[image] - side // 2 + side):
            for x in range(columns[image] - side // 2, columns[image] - side // 2 + side):
                if 0 <= y < height and 0 <= x < width:
                    wanted[image, :, y, x] = 0
    assert torch.equal(Cutout(size=side).apply(images, generator=make_generator(3)), wanted)


@pytest.mark.parametrize("kind", AUGMENT.kinds())
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_augmentation_keeps_its_promises(kind: str, dtype: torch.dtype) -> None:
    step = AUGMENT.build(kind)
    images = make((16, 3, 8, 9), dtype)
    before = images.clone()
    first, again, other = (step.apply(images, generator=make_generator(s)) for s in (0, 0, 1))
    assert torch.equal(images, before)
    assert (first.shape, first.dtype, first.device) == (images.shape, dtype, images.device)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.max()) <= float(images.max())
    assert len(step.apply(images[:0], generator=make_generator(0))) == 0


@pytest.mark.parametrize("kind", AUGMENT.kinds())
def test_pixels_and_floats_change_alike(kind: str) -> None:
    step, pixels = AUGMENT.build(kind), make((16, 3, 8, 9))
    changed = step.apply(pixels, generator=make_generator(0)).float() / 255
    assert torch.equal(changed, step.apply(pixels.float() / 255, generator=make_generator(0)))


def test_half_the_images_are_mirrored() -> None:
    images = torch.tensor([0, 1], dtype=torch.uint8).expand(10_000, 1, 1, 2)
    mirrored = int(Flip().apply(images, generator=make_generator(0))[:, 0, 0, 0].sum())
    assert abs(mirrored - 5_000) < 5 * 50  # five sigma


def test_every_window_is_equally_likely() -> None:
    images = torch.arange(9, dtype=torch.uint8).reshape(1, 1, 3, 3).expand(9_000, 1, 3, 3)
    centres = PadCrop(padding=1).apply(images, generator=make_generator(0))[:, 0, 1, 1]
    counts = centres.to(torch.int64).bincount(minlength=9)
    assert bool(((counts - 1_000).abs() < 5 * 30).all())  # five sigma


def test_steps_run_in_order_on_one_generator() -> None:
    images = make((4, 3, 8, 8))
    steps: list[Augmentation] = [PadCrop(), Flip(), Cutout(size=3)]
    generator = make_generator(5)
    wanted = images
    for step in steps:
        wanted = step.apply(wanted, generator=generator)
    assert torch.equal(augment(images, steps, generator=make_generator(5)), wanted)
    assert augment(images, [], generator=make_generator(5)) is images


@pytest.mark.gpu
@pytest.mark.parametrize("kind", AUGMENT.kinds())
def test_the_device_does_not_change_the_draw(kind: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    step, images = AUGMENT.build(kind), make((64, 3, 32, 32))
    there = step.apply(images.cuda(), generator=make_generator(0))
    assert there.is_cuda
    assert torch.equal(there.cpu(), step.apply(images, generator=make_generator(0)))
