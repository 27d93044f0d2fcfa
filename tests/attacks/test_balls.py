import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitproof.attacks.balls import draw_l2, draw_linf, project_l2, project_linf
from bitproof.core.rng import make_generator

seeds = st.integers(0, 2**20)
radii = st.floats(0, 1.5)
shapes = st.sampled_from([(1, 1), (3, 7), (2, 3, 5, 4)])


def points_and_centres(seed: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = make_generator(seed)
    centres = torch.rand(shape, generator=generator)
    # Grey levels, with many exact zeros and ones, are what images are made of.
    centres = (centres * 1.2 - 0.1).mul(255).round().div(255).clamp(0, 1)
    return centres + 2 * torch.randn(shape, generator=generator), centres


def distance(points: Tensor, centres: Tensor) -> Tensor:
    shift = (points.double() - centres.double()).flatten(1)
    return (shift**2).sum(dim=1).sqrt()


@settings(max_examples=60, deadline=None)
@given(seeds, shapes, radii)
def test_linf_projection_lies_in_the_ball_without_any_rounding_excess(
    seed: int, shape: tuple[int, ...], epsilon: float
) -> None:
    points, centres = points_and_centres(seed, shape)
    found = project_linf(points, centres, epsilon)
    assert (found.double() - centres.double()).abs().max() <= epsilon
    assert found.min() >= 0
    assert found.max() <= 1


@settings(max_examples=40, deadline=None)
@given(seeds, shapes, radii)
def test_linf_projection_is_idempotent_bit_for_bit(
    seed: int, shape: tuple[int, ...], epsilon: float
) -> None:
    points, centres = points_and_centres(seed, shape)
    once = project_linf(points, centres, epsilon)
    assert torch.equal(project_linf(once, centres, epsilon), once)


@settings(max_examples=40, deadline=None)
@given(seeds, shapes, radii)
def test_linf_projection_is_the_nearest_point_pixel_by_pixel(
    seed: int, shape: tuple[int, ...], epsilon: float
) -> None:
    points, centres = points_and_centres(seed, shape)
    pairs = zip(points.flatten().tolist(), centres.flatten().tolist(), strict=True)
    wanted = [min(max(p, c - epsilon, 0.0), c + epsilon, 1.0) for p, c in pairs]
    found = project_linf(points, centres, epsilon).flatten().tolist()
    # One rounding to float32 below 1: half a unit in the last place, at most one whole.
    assert found == pytest.approx(wanted, abs=1.2e-7)


@settings(max_examples=60, deadline=None)
@given(seeds, shapes, radii)
def test_l2_projection_lies_in_the_ball_up_to_rounding(
    seed: int, shape: tuple[int, ...], epsilon: float
) -> None:
    points, centres = points_and_centres(seed, shape)
    found = project_l2(points, centres, epsilon)
    assert distance(found, centres).max() <= epsilon + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1


@settings(max_examples=40, deadline=None)
@given(seeds, shapes, radii)
def test_l2_projection_is_idempotent_up_to_rounding(
    seed: int, shape: tuple[int, ...], epsilon: float
) -> None:
    points, centres = points_and_centres(seed, shape)
    once = project_l2(points, centres, epsilon)
    torch.testing.assert_close(project_l2(once, centres, epsilon), once, rtol=0, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seeds, radii)
def test_l2_projection_treats_images_independently(seed: int, epsilon: float) -> None:
    points, centres = points_and_centres(seed, (4, 3, 2, 2))
    alone = [project_l2(points[[i]], centres[[i]], epsilon) for i in range(4)]
    assert torch.equal(project_l2(points, centres, epsilon), torch.cat(alone))


def test_l2_projection_leaves_points_inside_where_they_are() -> None:
    centres = torch.full((2, 3, 4, 4), 0.5)
    points = centres + 0.01 * torch.randn(centres.shape, generator=make_generator(0))
    assert torch.equal(project_l2(points, centres, 1.0), points)


@pytest.mark.parametrize("project", [project_linf, project_l2])
def test_radius_zero_gives_back_the_centres(project: object) -> None:
    points, centres = points_and_centres(3, (3, 3, 4, 4))
    assert callable(project)
    assert torch.equal(project(points, centres, 0.0), centres)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_linf_projection_keeps_other_dtypes_inside_too(dtype: torch.dtype) -> None:
    points, centres = (tensor.to(dtype) for tensor in points_and_centres(5, (2, 50)))
    found = project_linf(points, centres, 8 / 255)
    assert found.dtype == dtype
    assert (found.double() - centres.double()).abs().max() <= 8 / 255 + 1e-16


def test_linf_draws_are_uniform() -> None:
    centres = torch.full((200, 100), 0.5)
    shift = (draw_linf(centres, 0.3, generator=make_generator(0)) - centres).double() / 0.3
    # Uniform on [-1, 1]: mean 0 with variance 1/3, mean square 1/3 with variance 4/45.
    assert abs(float(shift.mean())) < 5 * (1 / 3 / shift.numel()) ** 0.5
    assert abs(float((shift**2).mean()) - 1 / 3) < 5 * (4 / 45 / shift.numel()) ** 0.5


def test_l2_draws_are_uniform_in_volume_and_direction() -> None:
    centres = torch.full((20_000, 3), 0.5)
    shift = (draw_l2(centres, 0.3, generator=make_generator(0)) - centres).double() / 0.3
    # In 3 dimensions the share of the volume inside radius r is r cubed, uniform on [0, 1].
    volume = shift.norm(dim=1) ** 3
    assert abs(float(volume.mean()) - 1 / 2) < 5 * (1 / 12 / len(volume)) ** 0.5
    assert abs(float((volume**2).mean()) - 1 / 3) < 5 * (4 / 45 / len(volume)) ** 0.5
    # E[x^2] of one coordinate in the unit ball is 1/5.
    assert float(shift.mean(dim=0).abs().max()) < 5 * (1 / 5 / len(volume)) ** 0.5
