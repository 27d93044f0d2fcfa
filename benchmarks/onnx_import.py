"""A ResNet-20 quantized by onnxruntime, imported here: the 10,000 test images of CIFAR-10.

rival: onnxruntime on one thread, its static quantization (`quantize_static`, QDQ or operators),
       calibrated on 512 training images.
ours:  the same file through `import_onnx`, on integers, on one thread.
limit: the float network.
Accuracy in per cent, then milliseconds an image. Printed with them: the share of images whose
logits are equal in every bit, and that of equal answers. Where accuracies are more than 0.05 points
apart, the exit code is 1.

Wants CIFAR-10 and the pretrained weights (`BITPROOF_DATA`), and `pip install 'bitproof[onnx]'`.
"""

import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from table import Row, json_path, save, show
from torch import Tensor, nn

from bitproof.core.rng import make_generator
from bitproof.data import Splits
from bitproof.data.layout import data_root
from bitproof.exchange import import_onnx
from bitproof.exchange.runtime_agreement import runtime_agreement
from bitproof.models import ResNet20, load_weights
from bitproof.quant import IntegerNetwork
from bitproof.recipe.verbs import load_data

CALIBRATION, BATCH, TIMED = 512, 250, 1000
ALLOWED = 0.05
"""Points by which accuracies may differ."""
KINDS: Mapping[str, Mapping[str, Any]] = {
    "U8S8": {},
    "U8S8, by channel": {"per_channel": True},
    "S8S8 symmetric, by channel": {
        "per_channel": True,
        "activation_type": "QInt8",
        "extra_options": {"ActivationSymmetric": True},
    },
    "operators, by channel": {"per_channel": True, "quant_format": "QOperator"},
}
"""Options of `quantize_static`."""


class CalibrationImages:
    """What onnxruntime reads."""

    def __init__(self, images: Tensor) -> None:
        self.blocks = iter(images.split(64))

    def get_next(self) -> dict[str, Any] | None:
        """Return a batch, None behind the last one."""
        block = next(self.blocks, None)
        return None if block is None else {"input": block.numpy()}


def export(model: nn.Module, example: Tensor, path: Path) -> Path:
    """Write a float model by torch's exporter that needs no further package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        torch.onnx.export(
            model,
            (example,),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "n"}, "logits": {0: "n"}},
        )
    return path


def quantized(path: Path, out: Path, images: Tensor, **options: Any) -> Path:
    """Quantize a float model by onnxruntime."""
    from onnxruntime import quantization  # noqa: PLC0415 - an optional package

    types, formats = quantization.QuantType, quantization.QuantFormat
    quantization.quantize_static(
        str(path),
        str(out),
        CalibrationImages(images),
        quant_format=getattr(formats, options.pop("quant_format", "QDQ")),
        activation_type=getattr(types, options.pop("activation_type", "QUInt8")),
        weight_type=types.QInt8,
        **options,
    )
    return out


def pretrained() -> nn.Module:
    """Return ResNet-20 with its published weights."""
    root = data_root(None)
    found = sorted((root / "weights").glob("resnet20-*.npz")) if root else []
    if not found:
        raise SystemExit("wanted the pretrained weights of resnet20 in BITPROOF_DATA")
    build = ResNet20().build
    model = build(in_channels=3, image_size=32, n_classes=10, generator=make_generator(0))
    return load_weights(model, found[0]).eval()


def accuracy(outputs: Tensor, splits: Splits) -> float:
    """Return the share of test images that are classified right, in per cent."""
    return 100 * float((outputs.argmax(1) == splits.test.labels).float().mean())


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def by_blocks(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return outputs for all images, a block at a time."""
    return torch.cat([network(block) for block in images.split(BATCH)])


def measured(
    name: str, network: IntegerNetwork, path: Path, splits: Splits, floats: float
) -> Iterator[Row]:
    """Yield accuracy and time of one model in both."""
    images = splits.test.inputs()
    found, theirs = runtime_agreement(network, path, images)
    print(f"{name}: {found.line}; largest distance {found.largest:.3g}", flush=True)
    ours = by_blocks(network, images)
    yield Row(name, accuracy(theirs, splits), accuracy(ours, splits), floats, unit="%")
    few = images[:TIMED]
    mine = seconds(lambda: by_blocks(network, few))
    both = seconds(lambda: runtime_agreement(network, path, few))
    each = 1e3 / TIMED
    yield Row(f"{name}, time", each * max(both - mine, 0.0), each * mine, np.nan, unit="ms/image")


@torch.no_grad()
def main() -> None:
    path = json_path("A network quantized by onnxruntime, in onnxruntime and here.")
    logging.disable(logging.WARNING)  # onnxruntime's advice on each model
    torch.set_num_threads(1)
    splits, model = load_data("cifar10", validation_fraction=0.0), pretrained()
    images = splits.train.inputs(slice(0, CALIBRATION))
    floats = accuracy(by_blocks(model, splits.test.inputs()), splits)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        source = export(model, images[:1], Path(scratch) / "float.onnx")
        for number, (name, options) in enumerate(KINDS.items()):
            file = quantized(source, Path(scratch) / f"{number}.onnx", images, **options)
            rows += measured(name, import_onnx(file), file, splits, floats)
    show("Accuracy in per cent, milliseconds an image: onnxruntime, bitproof, floats", rows)
    if path:
        save(path, rows)
    apart = [row.name for row in rows if row.unit == "%" and abs(row.ours - row.rival) > ALLOWED]
    sys.exit(f"accuracies differ by more than {ALLOWED}: {', '.join(apart)}" if apart else 0)


if __name__ == "__main__":
    main()
