"""Logits against the networks of other people, with weights that anybody can compute.

The numbers come from torchvision 0.29.2 (`efficientnet_b0`; `SwinTransformer` with patch 2, width
24 and windows of 4) and timm 1.0.31 (`efficientnet_lite0`): 5 classes, evaluation mode, torch
2.13.0+cpu, 2026-11-21. The modules of the unpacked wheels were imported without their packages'
`__init__`, given the weights of `computed_weights`, and run on `2 * images() - 1`.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.rng import make_generator
from bitproof.models import EfficientNetB0, EfficientNetLite0, ModelSpec, SwinTiny

LOGITS = {
    "efficientnet_b0": [
        [-15.037, 3.8349, -4.9241, -11.444, -3.4304],
        [-17.486, 3.371, -4.6888, -11.594, -1.9758],
    ],
    "efficientnet_lite0": [
        [5.9682, 1.2136, 2.2578, 4.0944, 7.6014],
        [7.2288, 0.14834, 3.691, 4.1315, 8.4156],
    ],
    "swin_tiny": [
        [0.40562, 1.1094, -1.2796, 1.1148, -0.46972],
        [1.0193, 1.5684, -0.66885, 1.6701, -0.47252],
    ],
}
SAMPLES = [EfficientNetB0(), EfficientNetLite0(), SwinTiny(patch=2, window=4, width=24)]


def computed_weights(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Return floating-point entries of a state dict, as waves whose phase is their name's rank."""
    weights = {}
    for rank, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        steps = torch.arange(shape.numel(), dtype=torch.float64).reshape(shape)
        wave = torch.sin(0.7 * steps + 0.01 * steps**2 + rank)
        if name.endswith("running_var"):
            wave = 1 + 0.5 * wave
        elif len(shape) > 1:
            wave = wave * math.sqrt(4 / shape[1:].numel())
        elif name.endswith("weight"):
            wave = 1 + 0.3 * wave
        else:
            wave = 0.3 * wave
        weights[name] = wave.float()
    return weights


def images() -> Tensor:
    steps = torch.arange(2 * 3 * 64 * 64, dtype=torch.float64).reshape(2, 3, 64, 64)
    return (0.5 + 0.5 * torch.sin(0.011 * steps + 1e-7 * steps**2)).float()


def filled(spec: ModelSpec) -> nn.Module:
    model = spec.build(in_channels=3, image_size=64, n_classes=5, generator=make_generator(0))
    shapes = {
        name: value.shape
        for name, value in model.state_dict().items()
        if value.is_floating_point() and not name.startswith("normalize")
    }
    model.load_state_dict(computed_weights(shapes), strict=False)
    return model.eval()


@pytest.mark.parametrize("spec", SAMPLES, ids=lambda spec: spec.kind)
def test_logits_are_those_of_another_implementation(spec: ModelSpec) -> None:
    with torch.no_grad():
        logits = filled(spec)(images())
    wanted = torch.tensor(LOGITS[spec.kind])
    torch.testing.assert_close(logits, wanted, rtol=1e-3, atol=1e-3 * float(wanted.std()))
