"""What every architecture promises, whatever its kind."""

import copy
import pickle
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.models import (
    MODELS,
    VGG11,
    VGG16,
    AlexNet,
    DigitsCNN,
    EfficientNetB0,
    EfficientNetLite0,
    Factory,
    LeNet5,
    MobileNetV2,
    ModelSpec,
    ResNet18,
    ResNet20,
    ResNet32,
    ResNet44,
    ResNet56,
    SimpleNet,
    SwinTiny,
    Timm,
    load_weights,
    penultimate,
    save_weights,
    with_features,
)

SAMPLES: list[ModelSpec] = [
    AlexNet(),
    DigitsCNN(width=4, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3)),
    EfficientNetB0(),
    EfficientNetLite0(),
    Factory(factory="contract_factory:Tiny"),
    LeNet5(),
    MobileNetV2(width=0.35),
    ResNet18(),
    ResNet20(),
    ResNet32(),
    ResNet44(),
    ResNet56(),
    SimpleNet(width=4),
    SwinTiny(width=24),
    Timm(name="contract_net"),
    VGG11(),
    VGG16(),
]
USER_CODE = """
from torch import nn

class Tiny(nn.Sequential):
    def __init__(self, in_channels, n_classes):
        super().__init__(
            nn.Conv2d(in_channels, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, n_classes),
        )
"""
TIMM: Any = ModuleType("timm")
"""Stands for the optional package; it knows one network."""
TIMM.list_models = lambda: ["contract_net"]
TIMM.get_pretrained_cfg = lambda _name: None
TIMM.create_model = lambda _name, in_chans, num_classes, **_: nn.Sequential(
    nn.Conv2d(in_chans, 4, 8, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(64, num_classes)
)
every_kind = pytest.mark.parametrize("spec", SAMPLES, ids=lambda spec: spec.kind)


@pytest.fixture(scope="session")
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all tests: a module of another folder would be another module."""
    folder = tmp_path_factory.mktemp("user_code")
    (folder / "contract_factory.py").write_text(USER_CODE)
    return folder


@pytest.fixture(autouse=True)
def user_code(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(user_folder)
    monkeypatch.setitem(sys.modules, "timm", TIMM)


@cache
def shared(spec: ModelSpec) -> nn.Module:
    """Return one network per spec, built once; tests must leave it as it is."""
    return build(spec).eval()


def build(spec: ModelSpec, seed: int = 0) -> nn.Module:
    return spec.build(in_channels=3, image_size=32, n_classes=7, generator=make_generator(seed))


def images(n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, 32, 32, generator=make_generator(1))


def test_every_kind_has_a_sample() -> None:
    others = {"in_memory", "onnx"}  # the user's own, which are neither made nor drawn here
    assert [spec.kind for spec in SAMPLES] == [k for k in MODELS.kinds() if k not in others]


@every_kind
def test_a_table_builds_an_equal_spec(spec: ModelSpec) -> None:
    again = MODELS.build(spec.model_dump(mode="json"))
    assert again == spec
    assert again.digest() == spec.digest()


@every_kind
def test_logits_are_finite_and_inputs_untouched(spec: ModelSpec) -> None:
    x = images(3)
    before = x.clone()
    logits = shared(spec)(x)
    assert logits.shape == (3, 7)
    assert logits.isfinite().all()
    assert torch.equal(x, before)


@every_kind
def test_one_image_has_the_logits_that_it_has_in_a_batch(spec: ModelSpec) -> None:
    x = images(3)
    torch.testing.assert_close(shared(spec)(x[:1]), shared(spec)(x)[:1], rtol=1e-4, atol=1e-4)


@every_kind
def test_weights_come_from_the_generator_alone(spec: ModelSpec) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = build(spec).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    mine = shared(spec).state_dict()
    assert list(mine) == list(again)
    assert all(torch.equal(mine[name], again[name]) for name in mine)
    other = build(spec, seed=1).state_dict()
    assert any(not torch.equal(mine[name], other[name]) for name in mine)


@every_kind
def test_a_new_network_is_trainable(spec: ModelSpec) -> None:
    model = build(spec)
    assert all(layer.training for layer in model.modules())
    model(images()).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


@every_kind
def test_a_plain_symbolic_trace_computes_the_same(spec: ModelSpec) -> None:
    model = copy.deepcopy(shared(spec))
    attributes = {path: set(vars(layer)) for path, layer in model.named_modules()}
    graph = torch.fx.symbolic_trace(model)
    assert torch.equal(graph(images()), model(images()))
    constants = [node.target for node in graph.graph.nodes if node.op == "get_attr"]
    assert not any("_tensor_constant" in str(target) for target in constants)
    assert {path: set(vars(layer)) for path, layer in model.named_modules()} == attributes


@every_kind
def test_models_and_their_traces_travel_between_processes(spec: ModelSpec) -> None:
    model = shared(spec)
    for network in (model, torch.fx.symbolic_trace(copy.deepcopy(model))):
        arrived = pickle.loads(pickle.dumps(network))
        assert torch.equal(arrived(images()), model(images()))


@every_kind
def test_features_enter_the_head(spec: ModelSpec) -> None:
    model = shared(spec)
    head = penultimate(model, images())
    logits, features = with_features(model, images(), head)
    assert torch.equal(logits, model(images()))
    assert torch.equal(model.get_submodule(head)(features), logits)


@every_kind
def test_a_checkpoint_returns_every_bit(spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    saved = shared(spec)
    save_weights(saved, path)
    loaded = load_weights(build(spec, seed=1), path).state_dict()
    assert list(loaded) == list(saved.state_dict())
    for name, value in saved.state_dict().items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)
