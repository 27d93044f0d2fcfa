"""Published sizes and layer names."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bitproof.core.errors import ModelError
from bitproof.core.rng import make_generator
from bitproof.models import (
    DigitsCNN,
    LeNet5,
    ModelSpec,
    ResNet18,
    ResNet20,
    ResNet32,
    ResNet44,
    ResNet56,
)


def build(spec: ModelSpec, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    return spec.build(
        in_channels=in_channels,
        image_size=image_size,
        n_classes=10,
        generator=make_generator(0),
    )


def size(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(
    ("spec", "published"),
    [
        (ResNet20(), 269_722),
        (ResNet32(), 464_154),
        (ResNet44(), 658_586),
        (ResNet56(), 853_018),
        (ResNet18(), 11_173_962),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_residual_networks_have_the_published_number_of_parameters(
    spec: ModelSpec, published: int
) -> None:
    assert size(build(spec)) == published


def test_lenet5_has_the_published_number_of_parameters() -> None:
    assert size(build(LeNet5(), in_channels=1, image_size=28)) == 61_706
    assert size(build(LeNet5(padding=0), in_channels=1, image_size=32)) == 61_706


def test_lenet5_has_five_compute_layers_and_22_filters() -> None:
    layers = list(build(LeNet5()).modules())
    filters = [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)]
    assert filters == [6, 16]
    assert sum(isinstance(layer, nn.Linear) for layer in layers) == 3


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_lenet5_says_how_small_an_image_may_be(padding: int) -> None:
    least = 16 - 2 * padding
    model = build(LeNet5(padding=padding), in_channels=1, image_size=least)
    assert model(torch.zeros(1, 1, least, least)).shape == (1, 10)
    with pytest.raises(
        ModelError, match=f"wanted images of at least {least} pixels, got {least - 1}"
    ):
        build(LeNet5(padding=padding), in_channels=1, image_size=least - 1)


def test_digits_cnn_is_small_and_grows_with_its_width() -> None:
    assert size(build(DigitsCNN(), in_channels=1, image_size=8)) == 23_738
    assert size(build(DigitsCNN(width=24), in_channels=1, image_size=8)) == 52_882


@pytest.mark.parametrize("side", [7, 8, 28, 48])
def test_residual_networks_take_any_image_size(side: int) -> None:
    for spec in (DigitsCNN(), ResNet20()):
        model = build(spec, image_size=side)
        assert model(torch.zeros(2, 3, side, side)).shape == (2, 10)


def test_layers_are_named_as_in_the_published_weights() -> None:
    resnet20 = [name for name, _ in build(ResNet20()).named_parameters()]
    assert resnet20[:7] == [
        "conv1.weight",
        "bn1.weight",
        "bn1.bias",
        "layer1.0.conv1.weight",
        "layer1.0.bn1.weight",
        "layer1.0.bn1.bias",
        "layer1.0.conv2.weight",
    ]
    assert resnet20[-2:] == ["linear.weight", "linear.bias"]
    resnet18 = dict(build(ResNet18()).named_parameters())
    assert resnet18["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert resnet18["layer2.0.downsample.1.bias"].shape == (128,)
    assert resnet18["layer4.1.conv2.weight"].shape == (512, 512, 3, 3)
    assert "layer1.0.downsample.0.weight" not in resnet18
    assert resnet18["fc.weight"].shape == (10, 512)


def test_resnet18_for_large_images_has_torchvisions_names_and_shapes() -> None:
    golden = Path(__file__).parents[1] / "golden" / "torchvision_state_dicts.json"
    model = ResNet18().build(
        in_channels=3, image_size=224, n_classes=1000, generator=make_generator(0)
    )
    ours = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert [ours.pop(f"normalize.{buffer}") for buffer in ("mean", "std")] == [[3, 1, 1]] * 2
    assert ours == json.loads(golden.read_text())["resnet18"]
    assert size(model) == 11_689_512


def test_resnet18_quarters_large_images_before_its_blocks() -> None:
    model = build(ResNet18(), image_size=64).eval()
    names = ("conv1", "bn1", "maxpool", "layer1")
    stem = nn.Sequential(*[model.get_submodule(name) for name in names])
    assert stem(torch.zeros(1, 3, 64, 64)).shape == (1, 64, 16, 16)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 10)


def test_resnet18_keeps_32_by_32_pixels_through_the_stem() -> None:
    model = build(ResNet18()).eval()
    stem = nn.Sequential(*[model.get_submodule(name) for name in ("conv1", "bn1", "layer1")])
    assert stem(torch.zeros(1, 3, 32, 32)).shape == (1, 64, 32, 32)
