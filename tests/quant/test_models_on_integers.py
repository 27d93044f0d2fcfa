"""Architectures on integers: both executions agree in every word, and gradients reach the image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.rng import make_generator
from bitproof.models import (
    VGG11,
    VGG16,
    AlexNet,
    EfficientNetB0,
    EfficientNetLite0,
    ModelSpec,
    ResNet18,
    SimpleNet,
    SwinTiny,
)
from bitproof.quant import (
    Grid,
    IntegerNetwork,
    Node,
    load_network,
    quantize,
    run_differentiable,
    run_integers,
    save_network,
)

Case = tuple[ModelSpec, int, int]
"""An architecture, the channels of an image, and its height."""

SMALL: list[Case] = [
    (AlexNet(), 3, 32),
    (AlexNet(), 1, 29),
    (SimpleNet(width=8), 3, 32),
    (SimpleNet(width=8), 1, 28),
    (SimpleNet(width=8, norm="batch"), 3, 32),
    (VGG11(), 3, 32),
]
BIG: list[Case] = [
    (ResNet18(), 3, 64),
    (SimpleNet(), 3, 32),
    (SimpleNet(norm="batch"), 3, 32),
    (SimpleNet(width=32), 1, 28),
    (VGG16(), 3, 32),
    (ResNet18(), 3, 224),
    (AlexNet(), 3, 64),
    (AlexNet(), 3, 224),
]


def network_of(case: Case) -> tuple[nn.Module, IntegerNetwork, Tensor]:
    """Return the float network, the integer network, and two images."""
    spec, channels, side = case
    generator = make_generator(0)
    model = spec.build(
        in_channels=channels, image_size=side, n_classes=10, generator=generator
    ).eval()
    images = torch.rand(2, channels, side, side, generator=generator)
    return model, quantize(model, images), images


def check(case: Case) -> None:
    model, network, images = network_of(case)
    one = images[:1]
    seen: dict[str, Tensor] = {}
    differing: list[str] = []

    def keep(node: Node, codes: Tensor, grid: Grid) -> Tensor:
        seen[node.name] = codes.float() - grid.zero_point
        return codes

    def compare(node: Node, centered: Tensor) -> None:
        if node.name in seen and not torch.equal(centered, seen[node.name]):
            differing.append(node.name)

    logits = run_integers(network, one, corrupt=keep)
    assert torch.equal(run_differentiable(network, one, observe=compare), logits)
    assert differing == []
    assert len(seen) >= sum(isinstance(layer, nn.Conv2d) for layer in model.modules())
    leaf = one.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network.differentiable(leaf)[:, 0].sum(), leaf)
    assert gradient.isfinite().all()
    assert float((gradient != 0).float().mean()) > 0.2
    with torch.no_grad():
        wanted = model(images)
    off = float((network(images) - wanted).norm() / wanted.norm())
    assert off < 0.4  # untrained, and calibrated on two images


def name_of(case: Any) -> str:
    spec, channels, side = case
    return f"{spec.kind}{getattr(spec, 'width', '')}{getattr(spec, 'norm', '')}-{channels}x{side}"


@pytest.mark.parametrize("case", SMALL, ids=name_of)
def test_integers_and_differentiable_integers_agree(case: Case) -> None:
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", BIG, ids=name_of)
def test_big_integers_and_differentiable_integers_agree(case: Case) -> None:
    check(case)


STORED: list[Case] = [
    *((SwinTiny(width=24), 3, 32), (SimpleNet(width=8), 1, 28)),
]
MORE_STORED: list[Case] = [
    (EfficientNetB0(), 3, 32),
    *((EfficientNetLite0(), 3, 32), (VGG11(), 3, 32), (AlexNet(), 3, 32), (ResNet18(), 3, 32)),
]


def check_file(case: Case, folder: Path) -> None:
    _, network, images = network_of(case)
    save_network(network, folder / "network")
    assert torch.equal(load_network(folder / "network")(images), network(images))


@pytest.mark.parametrize("case", STORED, ids=name_of)
def test_networks_come_back_from_their_files(case: Case, tmp_path: Path) -> None:
    check_file(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", MORE_STORED, ids=name_of)
def test_more_networks_come_back_from_their_files(case: Case, tmp_path: Path) -> None:
    check_file(case, tmp_path)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_simplenet_agrees_with_the_slow_execution(
    norm: str, reference: Callable[[IntegerNetwork, Tensor], dict[str, Any]]
) -> None:
    spec = SimpleNet.model_validate({"width": 2, "norm": norm})
    _, network, images = network_of((spec, 1, 16))
    wanted = reference(network, images[:1])
    differing: list[str] = []

    def compare(node: Node, codes: Tensor, _: Grid) -> Tensor:
        if codes.tolist() != wanted[node.name].tolist():
            differing.append(node.name)
        return codes

    logits = run_integers(network, images[:1], corrupt=compare)
    assert differing == []
    assert logits.flatten().tolist() == pytest.approx(
        wanted[network.nodes[-1].name].flatten().tolist()
    )
