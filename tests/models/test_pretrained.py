"""The pretrained CIFAR ResNets: an independent check of architecture, names and normalisation.

Weights: github.com/akamaster/pytorch_resnet_cifar10, see PROVENANCE.md of the data folder.
"""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bitproof.core.rng import make_generator
from bitproof.models import ModelSpec, ResNet20, ResNet32, ResNet44, ResNet56, load_weights

FILES: list[tuple[ModelSpec, str]] = [
    (ResNet20(), "resnet20-12fca82f.npz"),
    (ResNet32(), "resnet32-d509ac18.npz"),
    (ResNet44(), "resnet44-014dd654.npz"),
    (ResNet56(), "resnet56-4bfd9763.npz"),
]


def pretrained(spec: ModelSpec, path: Path) -> nn.Module:
    blank = spec.build(in_channels=3, image_size=32, n_classes=10, generator=make_generator(0))
    return load_weights(blank, path).eval()


def first_strip(data_dir: Path) -> tuple[Tensor, Tensor]:
    """Return the first 500 test images, in [0, 1], and their labels."""
    with np.load(data_dir / "cifar10" / "test.npz", allow_pickle=False) as file:
        start, end = file["x_off"][:2]
        strip = Image.open(io.BytesIO(file["x_webp"][start:end].tobytes())).convert("RGB")
        labels = torch.from_numpy(file["y"][:500].astype(np.int64))
    pixels = torch.from_numpy(np.array(strip).reshape(-1, 32, 32, 3)).permute(0, 3, 1, 2)
    return pixels.float() / 255, labels


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        hits: Tensor = model(images).argmax(1) == labels
    return hits.double().mean().item()


@pytest.mark.parametrize(("spec", "name"), FILES, ids=[name for _, name in FILES])
def test_every_array_of_the_file_lands_in_the_model(
    spec: ModelSpec, name: str, data_dir: Path
) -> None:
    state = pretrained(spec, data_dir / "weights" / name).state_dict()
    with np.load(data_dir / "weights" / name, allow_pickle=False) as file:
        assert set(file.files) == {
            key
            for key in state
            if not key.endswith("num_batches_tracked") and "normalize" not in key
        }
        assert all(np.array_equal(state[key].numpy(), file[key]) for key in file.files)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "name"), FILES, ids=[name for _, name in FILES])
def test_pretrained_networks_classify_cifar10(spec: ModelSpec, name: str, data_dir: Path) -> None:
    images, labels = first_strip(data_dir)
    assert accuracy(pretrained(spec, data_dir / "weights" / name), images, labels) > 0.88


def test_resnet20_classifies_the_first_hundred_images(data_dir: Path) -> None:
    images, labels = first_strip(data_dir)
    spec, name = FILES[0]
    model = pretrained(spec, data_dir / "weights" / name)
    assert accuracy(model, images[:100], labels[:100]) > 0.88
