"""What can be checked of the architectures: published sizes, and integers against floats."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from bitproof.core.progress import SILENT, Progress
from bitproof.core.rng import make_generator
from bitproof.data import DATA
from bitproof.data.layout import data_root
from bitproof.evaluation import FloatModel, IntegerModel, count
from bitproof.metrics import Tally
from bitproof.models import MODELS
from bitproof.models.published import SIZES, Size
from bitproof.quant import quantize
from bitproof.recipe.building import PRETRAINED, build, find_weights

TOLERANCE = 0.005
"""What int8 may cost in accuracy, as a fraction."""
CALIBRATION = 512
"""Training images that activation ranges are measured on."""


@dataclass(frozen=True)
class SizeCheck:
    """One architecture, built and run once."""

    size: Size
    parameters: int
    seconds: float
    """Time of a forward pass of two images."""
    finite: bool
    """Whether that pass gave one finite logit per class."""

    @property
    def passed(self) -> bool:
        """Whether the size is the published one and the pass went well."""
        return self.finite and self.size.agrees(self.parameters)


@dataclass(frozen=True)
class PretrainedCheck:
    """Published weights, in floats and in 8-bit integers, on the same images."""

    kind: str
    weights: Path
    floats: Tally
    integers: Tally

    @property
    def passed(self) -> bool:
        """Whether integers cost no more than they may."""
        return self.integers.acc >= self.floats.acc - TOLERANCE


def check_sizes(kinds: Collection[str], *, progress: Progress = SILENT) -> list[SizeCheck]:
    """Build every published size of `kinds`, count its parameters, and run it once."""
    wanted = [size for size in SIZES if size.spec.kind in kinds]
    tracked = progress.track(wanted, label="check sizes", total=len(wanted))
    return [_check_size(size) for size in tracked]


def check_pretrained(
    kinds: Collection[str], data_dir: Path | None, *, progress: Progress = SILENT
) -> list[PretrainedCheck]:
    """Compare integers with floats on the whole CIFAR-10 test set, for all weights that are there.

    Returns nothing where there are no pretrained weights in the data folder.

    Raises:
        DataError: weights are there, CIFAR-10 is not.
    """
    root = data_root(data_dir)
    found = [
        (kind, find_weights(PRETRAINED, root, kind=kind))
        for kind in MODELS.kinds()
        if root and kind in kinds and any(root.glob(f"weights/{kind}-*.npz"))
    ]
    tracked = progress.track(found, label="int8 against float", total=len(found))
    return [_check_pretrained(kind, weights, data_dir) for kind, weights in tracked]


def _check_size(size: Size) -> SizeCheck:
    model = size.spec.build(
        in_channels=size.in_channels,
        image_size=size.image_size,
        n_classes=size.n_classes,
        generator=make_generator(0),
    ).eval()
    images = torch.rand(
        (2, size.in_channels, size.image_size, size.image_size), generator=make_generator(1)
    )
    start = time.perf_counter()
    with torch.no_grad():
        logits = model(images)
    seconds = time.perf_counter() - start
    fits = logits.shape == (2, size.n_classes)
    counted = sum(weight.numel() for weight in model.parameters())
    return SizeCheck(size, counted, seconds, fits and bool(logits.isfinite().all()))


def _check_pretrained(kind: str, weights: Path, data_dir: Path | None) -> PretrainedCheck:
    splits = DATA.build({"kind": "cifar10", "validation_fraction": 0.0}).load(data_dir)
    model = build(MODELS.build(kind), splits.train, weights=weights).eval()
    network = quantize(model, splits.train.inputs(slice(0, CALIBRATION)))
    return PretrainedCheck(
        kind,
        weights,
        count(FloatModel(model).predict, splits.test),
        count(IntegerModel(network).predict, splits.test),
    )
