"""Accuracy of 8-bit networks on the 10,000 test images of CIFAR-10, preset `accurate`.

rival: torchao's pt2e quantization for x86 (`X86InductorQuantizer`, weights per channel, activations
       per tensor), calibrated on the same 1024 training images, run without a compiler.
ours:  `quantize(model, images, Scheme("accurate"))`, run on integers.
limit: the float network.
Accuracy in per cent; `ratio` is near 1 by nature, so differences are printed too. The pretrained
ResNets may lose 0.3 points against floats, the trained networks 1 point, or the exit code is 1.

Wants CIFAR-10 and the pretrained weights (`BITPROOF_DATA`), and `pip install --no-deps torchao` for
the rival; without it, the column says nan. MobileNetV2 and EfficientNet-B0 are trained once, a few
epochs on parts of the training set as `TRAINED` says, and kept in `runs/fidelity`.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from table import Row, json_path, save, show
from torch import Tensor, nn
from torch_int8 import quantize_by_torch

from bitproof.core.rng import make_generator
from bitproof.data import AUGMENT, Splits
from bitproof.data.layout import data_root
from bitproof.models import (
    EfficientNetB0,
    ImageModelSpec,
    MobileNetV2,
    ResNet20,
    ResNet32,
    ResNet44,
    ResNet56,
    load_weights,
    save_weights,
)
from bitproof.quant import Scheme, quantize
from bitproof.recipe.verbs import load_data, train_model
from bitproof.train import Optimization

CALIBRATION, BATCH = 1024, 250
FOLDER = Path("runs/fidelity")
PRETRAINED = (ResNet20(), ResNet32(), ResNet44(), ResNet56())
TRAINED = {
    "mobilenet_v2": (MobileNetV2(width=0.5, dropout=0.0), 8, 25_000, 0.1),
    "efficientnet_b0": (EfficientNetB0(stochastic_depth=0.0, dropout=0.0), 5, 25_000, 0.02),
}
"""Architecture, epochs, images drawn for each of them, and peak learning rate."""
AUGMENTATION = ({"kind": "pad_crop", "padding": 4}, {"kind": "flip"})
Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A float network, and how many points its integers may lose."""

    name: str
    model: nn.Module
    allowed: float


def build(spec: ImageModelSpec) -> nn.Module:
    return spec.build(in_channels=3, image_size=32, n_classes=10, generator=make_generator(0))


def cases(splits: Splits) -> Iterator[Case]:
    """Yield the networks, trained where no weights are there yet."""
    root = data_root(None)
    for spec in PRETRAINED:
        found = sorted((root / "weights").glob(f"{spec.kind}-*.npz")) if root else []
        if found:
            yield Case(spec.kind, load_weights(build(spec), found[0]).eval(), 0.3)
    for name, (spec, epochs, images, rate) in TRAINED.items():
        path = FOLDER / f"{name}.safetensors"
        if not path.exists():
            model = build(spec)
            optimization = Optimization(
                epochs=epochs,
                images_per_epoch=images,
                learning_rate=rate,
                schedule="one_cycle",
                nesterov=True,
                weight_decay=1e-4,
            )
            augmentation = [AUGMENT.build(table) for table in AUGMENTATION]
            train_model(model, splits.train, optimization, augmentation=augmentation)
            FOLDER.mkdir(parents=True, exist_ok=True)
            save_weights(model, path)
        yield Case(name, load_weights(build(spec), path).eval(), 1.0)


def by_torch(model: nn.Module, images: Tensor) -> Predict | None:
    """Return the network as torchao quantizes it, None where that is not installed."""
    try:
        return quantize_by_torch(model, images, batch=BATCH, any_batch=True)
    except ImportError:
        return None


def accuracy(predict: Predict | None, splits: Splits) -> float:
    """Return the share of test images that are classified right, in per cent."""
    if predict is None:
        return float("nan")
    right = 0
    for block in splits.test.blocks(BATCH):
        right += int((predict(block.inputs()).argmax(1) == block.labels).sum())
    return 100 * right / len(splits.test)


@torch.no_grad()
def main() -> None:
    path = json_path("Accuracy of 8-bit networks against floats and torchao.")
    warnings.simplefilter("ignore")  # torchao's
    splits = load_data("cifar10", validation_fraction=0.0)
    images = splits.train.inputs(slice(0, CALIBRATION))
    rows, failed = [], []
    with torch.enable_grad():
        known = list(cases(splits))
    for case in known:
        network = quantize(case.model, images, Scheme("accurate"))
        assert network.fidelity is not None
        predicts = by_torch(case.model, images), network, case.model
        rows.append(Row(case.name, *(accuracy(one, splits) for one in predicts), unit="%"))
        lost = rows[-1].limit - rows[-1].ours
        print(
            f"{case.name}: {lost:+.2f} points lost to floats; {network.fidelity.line}", flush=True
        )
        failed += [case.name] if lost > case.allowed else []
    show("Test accuracy in per cent: torchao, bitproof, floats", rows)
    if path:
        save(path, rows)
    sys.exit(f"more lost than allowed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
