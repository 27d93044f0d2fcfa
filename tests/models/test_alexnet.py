"""AlexNet: sizes, names, and which images it takes."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bitproof.core.errors import ModelError
from bitproof.core.rng import make_generator
from bitproof.models import AlexNet
from bitproof.models.alexnet import large_side

GOLDEN = Path(__file__).parents[1] / "golden" / "torchvision_state_dicts.json"


def sketch(*, image_size: int, n_classes: int = 10) -> nn.Module:
    """Return the network without memory for its weights."""
    with torch.device("meta"):
        return AlexNet().assemble(in_channels=3, image_size=image_size, n_classes=n_classes)


def test_names_and_shapes_for_large_images_are_torchvisions() -> None:
    wanted = json.loads(GOLDEN.read_text())["alexnet"]
    model = sketch(image_size=224, n_classes=1000)
    ours = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert [ours.pop(f"normalize.{buffer}") for buffer in ("mean", "std")] == [[3, 1, 1]] * 2
    assert ours == wanted
    assert sum(weight.numel() for weight in model.parameters()) == 61_100_840


def test_small_form_has_the_size_that_its_authors_round_to_millions() -> None:
    size = sum(weight.numel() for weight in sketch(image_size=32).parameters())
    assert size == 2_472_266
    assert f"{size / 1e6:.2f}" == "2.47"  # README of github.com/bearpaw/pytorch-classification


@pytest.mark.parametrize("side", [64, 65, 100, 127, 224, 300])
def test_pooling_knows_the_maps_that_it_gets(side: int) -> None:
    features = sketch(image_size=side).get_submodule("features")
    maps = features(torch.zeros(1, 3, side, side, device="meta"))
    assert maps.shape[-1] == large_side(side)


def test_maps_of_large_images_are_those_of_the_original() -> None:
    features = sketch(image_size=224).get_submodule("features")
    assert features(torch.zeros(1, 3, 224, 224, device="meta")).shape == (1, 256, 6, 6)


@pytest.mark.parametrize("side", [29, 32, 60, 61, 64, 100])
def test_any_size_from_29_pixels_on_works(side: int) -> None:
    model = sketch(image_size=side)
    assert model(torch.zeros(2, 3, side, side, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("side", [1, 8, 28])
def test_images_below_29_pixels_are_refused(side: int) -> None:
    with pytest.raises(ModelError, match=f"alexnet: wanted images of at least 29 pixels.* {side}"):
        AlexNet().build(in_channels=1, image_size=side, n_classes=10, generator=make_generator(0))
