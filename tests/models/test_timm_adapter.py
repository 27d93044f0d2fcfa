"""Networks of timm by name, with a stand-in for the package."""

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from bitproof.core.errors import AdapterError, ModelError, SpecError
from bitproof.core.rng import make_generator
from bitproof.models import MODELS, Normalize, Timm
from bitproof.recipe.injection import InjectionRecipe
from bitproof.recipe.recipe import Recipe


@dataclass
class Config:
    fixed_input_size: bool


class Net(nn.Sequential):
    """What the stand-in builds; it remembers how it was asked for."""

    def __init__(self, in_chans: int, num_classes: int, asked: dict[str, Any]) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_chans, num_classes))
        self.asked = asked
        self.default_cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    timm: Any = ModuleType("timm")

    def create_model(name: str, *, pretrained: bool, **sizes: int) -> Net:
        assert not pretrained
        if name == "stubborn":
            raise TypeError("unexpected keyword")
        return Net(sizes["in_chans"], sizes["num_classes"], {"name": name, **sizes})

    timm.list_models = lambda: ["resnet18", "resnet34", "vit_tiny", "stubborn"]
    timm.get_pretrained_cfg = lambda name: Config(name == "vit_tiny")
    timm.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", timm)


def build(spec: Timm, in_channels: int = 3) -> nn.Module:
    model: nn.Module = spec.build(
        in_channels=in_channels, image_size=32, n_classes=7, generator=make_generator(0)
    )
    return model


def asked(name: str) -> dict[str, Any]:
    """Return what the package was asked for."""
    network = build(Timm(name=name)).get_submodule("1")
    assert isinstance(network, Net)
    return network.asked


@pytest.mark.usefixtures("package")
def test_the_package_is_asked_for_channels_and_classes() -> None:
    assert asked("resnet18") == {
        "name": "resnet18",
        "in_chans": 3,
        "num_classes": 7,
    }
    assert asked("resnet18.a1_in1k")["name"] == "resnet18.a1_in1k"


@pytest.mark.usefixtures("package")
def test_networks_for_one_size_of_image_are_made_for_this_one() -> None:
    assert asked("vit_tiny")["img_size"] == 32


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("spec", "channels", "mean"),
    [
        (Timm(name="resnet18"), 3, [0.1, 0.2, 0.3]),
        (Timm(name="resnet18", mean=(0.4,) * 3, std=(0.3,) * 3), 3, [0.4, 0.4, 0.4]),
        (Timm(name="resnet18"), 1, [0.5]),
    ],
    ids=["its own", "asked for", "other channels"],
)
def test_images_are_normalised_as_the_network_was_trained(
    spec: Timm, channels: int, mean: list[float]
) -> None:
    layer = build(spec, channels).get_submodule("0")
    assert isinstance(layer, Normalize)
    assert layer.mean.flatten().tolist() == pytest.approx(mean)


@pytest.mark.usefixtures("package")
def test_weights_come_from_the_generator() -> None:
    first, second = (build(Timm(name="resnet18"))(torch.ones(1, 3, 32, 32)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", r"timm: no model 'resnet19'. Did you mean 'resnet18' or 'resnet34'\?"),
        ("zzz", r"timm: no model 'zzz'. timm.list_models\(\) lists them."),
        ("stubborn", r"cannot build 'stubborn' for 3 x 32 x 32 images \(unexpected keyword\)"),
    ],
)
def test_a_network_that_cannot_be_had_is_told(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(Timm(name=name))


def test_a_missing_package_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(AdapterError, match="pip install timm") as told:
        build(Timm(name="resnet18"))
    assert "\n" not in str(told.value)


def test_recipes_name_the_network_in_a_string_or_a_table() -> None:
    table: dict[str, Any] = {"name": "r", "data": {"kind": "digits"}, "train": {"epochs": 1}}
    wanted = Timm(name="vit_tiny.augreg_in21k")
    texts = ("timm:vit_tiny.augreg_in21k", {"kind": "timm", "name": "vit_tiny.augreg_in21k"})
    for text in texts:
        assert Recipe.model_validate({**table, "model": text}).model == wanted
    told = {"data": {"kind": "digits"}, "model": texts[0]}
    assert InjectionRecipe.model_validate(told).model == wanted


@pytest.mark.parametrize("name", ["", "hf-hub:someone/net", "../net"])
def test_a_name_is_a_plain_name(name: str) -> None:
    with pytest.raises(SpecError, match="name"):
        MODELS.build({"kind": "timm", "name": name})
