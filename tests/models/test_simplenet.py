"""SimpleNet: sizes, layers, groups, initial weights, and which images it takes."""

import pytest
import torch
from torch import nn

from bitproof.core.errors import ModelError
from bitproof.core.rng import make_generator
from bitproof.models import ScaledBatchNorm2d, ScaledGroupNorm, SimpleNet


def build(spec: SimpleNet, in_channels: int, side: int, n_classes: int = 10) -> nn.Module:
    return spec.build(
        in_channels=in_channels,
        image_size=side,
        n_classes=n_classes,
        generator=make_generator(0),
    )


def widths(model: nn.Module) -> list[int]:
    return [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize(
    ("spec", "shape", "published"),
    [
        (SimpleNet(), (3, 32, 10), 5_498_378),
        (SimpleNet(), (3, 32, 100), 5_521_508),
        (SimpleNet(width=32), (1, 28, 10), 1_082_826),
        (SimpleNet(norm="batch"), (3, 32, 10), 5_498_378),
    ],
)
def test_sizes_are_the_published_ones(
    spec: SimpleNet, shape: tuple[int, int, int], published: int
) -> None:
    model = build(spec, *shape)
    assert sum(weight.numel() for weight in model.parameters()) == published


def test_small_images_drop_two_convolutions_and_a_halving() -> None:
    large, small = build(SimpleNet(width=4), 3, 32), build(SimpleNet(width=4), 1, 28)
    assert widths(large) == [4, 8, 8, 8, 8, 8, 16, 16, 16, 32, 128, 16, 16]
    assert widths(small) == [4, 8, 8, 8, 8, 8, 16, 32, 128, 16, 16]
    n_pools = [
        sum(isinstance(layer, nn.MaxPool2d) for layer in model.modules())
        for model in (large, small)
    ]
    assert n_pools == [5, 4]


@pytest.mark.parametrize("side", [16, 28, 31, 32, 33, 64])
def test_any_size_from_16_pixels_on_works(side: int) -> None:
    assert build(SimpleNet(width=4), 2, side)(torch.zeros(2, 2, side, side)).shape == (2, 10)


def test_images_below_16_pixels_are_refused() -> None:
    with pytest.raises(ModelError, match=r"simplenet: wanted images of at least 16 pixels.* 15"):
        build(SimpleNet(), 1, 15)


@pytest.mark.parametrize(
    ("width", "groups"),
    [(64, [32] * 13), (32, [16] + [32] * 12), (8, [4, 8, 8, 8, 8, 8, 16, 16, 16, 32, 32, 16, 8])],
)
def test_groups_are_at_most_half_the_channels(width: int, groups: list[int]) -> None:
    layers = build(SimpleNet(width=width), 3, 32).modules()
    norms = [layer.num_groups for layer in layers if isinstance(layer, ScaledGroupNorm)]
    assert norms == groups


@pytest.mark.parametrize(("width", "shape"), [(8, (3, 32)), (16, (3, 32)), (8, (1, 28))])
def test_gradients_of_narrow_networks_are_alike_for_all_images(
    width: int, shape: tuple[int, int]
) -> None:
    model = build(SimpleNet(width=width), *shape)
    images = torch.rand(32, shape[0], shape[1], shape[1], generator=make_generator(1))
    leaf = images.requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)
    steepness = gradient.flatten(1).norm(dim=1)
    # Groups of two values give 1e5 here: nothing passes, but where the two are almost equal.
    assert float(steepness.max() / steepness.min()) < 20


def test_width_without_groups_is_refused() -> None:
    for width in (1, 5, 66):
        with pytest.raises(ModelError, match=rf"width whose {width} channels .* norm = 'batch'"):
            build(SimpleNet(width=width), 3, 32)
        build(SimpleNet(width=width, norm="batch"), 3, 32)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_weights_are_kaimings_and_all_else_starts_at_zero(norm: str) -> None:
    model = build(SimpleNet.model_validate({"width": 16, "norm": norm}), 3, 32)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            wanted = (2 / weight[0].numel()) ** 0.5
            assert float(weight.detach().std()) == pytest.approx(wanted, rel=0.15), name
        else:
            assert not weight.any(), name


def test_batch_norms_are_scaled_ones() -> None:
    model = build(SimpleNet(width=8, norm="batch"), 3, 32)
    assert sum(isinstance(layer, ScaledBatchNorm2d) for layer in model.modules()) == 13
