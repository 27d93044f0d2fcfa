import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitproof.core.errors import DataError, SpecError
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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_each_channel_is_filled_with_its_own_value(dtype: torch.dtype) -> None:
    images = make((64, 3, 6, 6), torch.uint8).clamp(min=200)
    images = images if dtype == torch.uint8 else images.to(dtype) / 255
    fill = (0.2, 0.4, 0.6)
    wanted = images.new_tensor([51, 102, 153] if dtype == torch.uint8 else fill)
    for step in (PadCrop(padding=3, fill=fill), Cutout(size=4, fill=fill)):
        changed = step.apply(images, generator=make_generator(0))
        added = (changed == wanted[:, None, None]).all(1)
        kept = (changed >= images.min()).all(1)
        assert bool(added.any())
        assert bool((added ^ kept).all())


@pytest.mark.parametrize("kind", ["pad_crop", "cutout"])
def test_a_fill_for_other_channels_is_refused(kind: str) -> None:
    step = AUGMENT.build({"kind": kind, "fill": [0.1, 0.2, 0.3]})
    with pytest.raises(DataError, match="fill: wanted one value or 1, one per channel; got 3"):
        step.apply(make((2, 1, 4, 4)), generator=make_generator(0))


@pytest.mark.parametrize(
    ("fill", "problem"),
    [
        (1.5, "fill.number: should be less than or equal to 1, got 1.5"),
        ("grey", "fill.number: should be a valid number, got 'grey'"),
        ([0.1, -1.0], "fill.list.1: should be greater than or equal to 0, got -1.0"),
        ([], "fill.list: tuple should have at least 1 item"),
    ],
)
def test_a_wrong_fill_is_told_once(fill: object, problem: str) -> None:
    with pytest.raises(SpecError) as told:
        AUGMENT.build({"kind": "cutout", "fill": fill})
    assert str(told.value).startswith(f"cutout.{problem}")
    assert ";" not in str(told.value)


def test_digests_of_crops_and_flips_stay() -> None:
    assert PadCrop(padding=4).digest().startswith("ecc1cf54")
    assert Flip().digest().startswith("bd4b0923")


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
