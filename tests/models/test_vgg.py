"""VGG-11 and VGG-16: sizes, names, and which images they take."""

import json
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import ModelError
from bitproof.core.rng import make_generator
from bitproof.models import VGG11, VGG16, ModelSpec, load_weights
from bitproof.models.vgg import make_features

GOLDEN = Path(__file__).parents[1] / "golden" / "torchvision_state_dicts.json"


def sketch(spec: ModelSpec, *, image_size: int, n_classes: int = 10) -> nn.Module:
    """Return the network without memory for its weights."""
    # Drawn without memory, normal numbers import a second's worth of compiler.
    with torch.device("meta"), patch.object(Tensor, "normal_", lambda drawn, *_, **__: drawn):
        return spec.assemble(in_channels=3, image_size=image_size, n_classes=n_classes)


def build(spec: ModelSpec, *, image_size: int, in_channels: int = 3) -> nn.Module:
    return spec.build(
        in_channels=in_channels, image_size=image_size, n_classes=10, generator=make_generator(0)
    )


@pytest.mark.parametrize(
    ("spec", "image_size", "published"),
    [
        (VGG11(), 32, 9_231_114),
        (VGG16(), 32, 14_728_266),
        (VGG11(), 224, 128_812_810),
        (VGG16(), 224, 134_309_962),
    ],
)
def test_sizes_are_those_of_a_published_table(
    spec: ModelSpec, image_size: int, published: int
) -> None:
    model = sketch(spec, image_size=image_size)
    assert sum(weight.numel() for weight in model.parameters()) == published


@pytest.mark.parametrize(
    ("spec", "name"), [(VGG11(), "vgg11_bn"), (VGG16(), "vgg16_bn")], ids=["vgg11", "vgg16"]
)
def test_names_and_shapes_for_large_images_are_torchvisions(spec: ModelSpec, name: str) -> None:
    wanted = json.loads(GOLDEN.read_text())[name]
    model = sketch(spec, image_size=224, n_classes=1000)
    ours = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert [ours.pop(f"normalize.{buffer}") for buffer in ("mean", "std")] == [[3, 1, 1]] * 2
    assert ours == wanted
    assert list(ours) == list(wanted)


def test_weights_for_small_images_load_without_buffers_of_ours(tmp_path: Path) -> None:
    model = build(VGG11(), image_size=32)
    theirs = {
        name: torch.full_like(value, 0.25)
        for name, value in model.state_dict().items()
        if not name.startswith("normalize.")
    }
    torch.save({f"module.{name}": value for name, value in theirs.items()}, tmp_path / "net.pth")
    loaded = load_weights(model, tmp_path / "net.pth").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in theirs.items())


@pytest.mark.parametrize("side", [32, 48, 63])
def test_small_images_end_in_one_pixel(side: int) -> None:
    model = build(VGG11(), image_size=side, in_channels=1).eval()
    assert model(torch.zeros(1, 1, side, side)).shape == (1, 10)


@pytest.mark.parametrize("side", [64, 100, 224])
def test_large_images_may_be_of_any_size(side: int) -> None:
    features = make_features(1, ((1, 2), (1, 2), (1, 2), (1, 2), (1, 2)))
    avgpool = sketch(VGG16(), image_size=side).get_submodule("avgpool")
    assert avgpool(features(torch.zeros(1, 1, side, side))).shape == (1, 2, 7, 7)


@pytest.mark.parametrize("side", [16, 28, 31])
def test_images_below_32_pixels_are_refused(side: int) -> None:
    with pytest.raises(ModelError, match=f"vgg16: wanted images of at least 32 pixels.* {side}"):
        build(VGG16(), image_size=side)


def test_biases_start_at_zero_and_convolutions_keep_the_spread_of_their_input() -> None:
    model = build(VGG11(), image_size=32)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            wanted = (2 / layer.weight[0].numel()) ** 0.5
            assert float(layer.weight.detach().std()) == pytest.approx(wanted, rel=0.1)
