"""Exported networks in ONNX Runtime: whose logits are equal in every bit, and how fast they are.

Rows of agreement, in per cent of the images, by form (`qdq`, `integer`, `portable`):
rival: images whose logits ONNX Runtime gives to the bit.
ours:  images whose first class it gives.
limit: 100.
The forms qdq and integer promise 100; if one misses it, the exit code is 1.

Rows of speed, in images a second, one batch of 64, as many threads as the title says:
rival: ONNX Runtime on the exported file; `int8` with weights of that type instead of uint8.
ours:  the network itself, `quantize(model, images, Scheme("accurate"))`.
limit: ONNX Runtime on the file that its own static quantization makes of the same model (QDQ, per
       channel, calibrated on the same images), which has other words.
The fastest of all rounds; all ways take turns.

ResNet-20 has its pretrained weights and all 10,000 test images of CIFAR-10 (`BITPROOF_DATA`); the
others have drawn weights, with batch norms that have seen 512 images, and 1000 test images. Without
the data, ResNet-20 has drawn weights, too, and images are noise.
"""

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from integers import by_onnxruntime, models
from table import Row, interleave, save, show
from torch import Tensor, nn

from bitproof.core.rng import make_generator
from bitproof.data.layout import data_root
from bitproof.exchange import check_onnx, export_onnx
from bitproof.exchange.agreement import open_session
from bitproof.models import load_weights
from bitproof.quant import Scheme, quantize
from bitproof.recipe.verbs import load_data

CALIBRATION, BATCH, ROUNDS, REST = 512, 64, 12, 0.1
FEW = 1000
"""Test images of networks that have drawn weights."""
EXACT = ("qdq", "integer")


@dataclass(frozen=True)
class Case:
    """A network with images to calibrate and to compare on."""

    name: str
    model: nn.Module
    calibration: Tensor
    test: Tensor


def cases() -> Iterator[Case]:
    """Yield the networks."""
    root = data_root(None)
    weights = sorted((root / "weights").glob("resnet20-*.npz")) if root else []
    if root and (root / "cifar10").is_dir():
        splits = load_data("cifar10")
        calibration, test = (
            splits.train.inputs(slice(0, CALIBRATION)),
            splits.test.inputs(slice(None)),
        )
    else:
        print("no CIFAR-10: images are noise")
        calibration = torch.rand(CALIBRATION, 3, 32, 32, generator=make_generator(0, "train"))
        test = torch.rand(FEW, 3, 32, 32, generator=make_generator(0, "test"))
    for name, model in models():
        if name == "ResNet-20" and weights:
            yield Case(name, load_weights(model, weights[0]).eval(), calibration, test)
        else:
            yield Case(name, settled(model, calibration), calibration, test[:FEW])


def settled(model: nn.Module, images: Tensor) -> nn.Module:
    """Return a model whose batch norms know their inputs, so that drawn weights pass signals on."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    with torch.no_grad():
        for part in torch.split(images, BATCH):
            model(part)
    return model.eval()


def measure(
    case: Case, folder: Path, threads: int, images: int
) -> tuple[list[Row], list[Row], bool]:
    """Return rows of agreement and of speed, and whether all that is promised holds."""
    torch.set_num_threads(threads)
    network = quantize(case.model, case.calibration, Scheme("accurate"))
    files = {"qdq": ("qdq", "uint8"), "qdq int8": ("qdq", "int8")}
    files |= {form: (form, "uint8") for form in ("integer", "portable")}
    agreement, holds = [], True
    batch = case.test[:BATCH].contiguous()
    ways: dict[str, Callable[[], object]] = {"ours": partial(network, batch)}
    for name, (form, weights) in files.items():
        path = folder / f"{name}.onnx"
        export_onnx(network, path, form=form, weights=weights)
        found = check_onnx(network, path, case.test[:images], threads=threads)
        shares = (100 * n / found.images for n in (found.identical, found.same_top1))
        agreement.append(Row(f"{case.name}, {name}", *shares, 100, "%"))
        print(f"{case.name}, {name}: {found}", flush=True)
        holds = holds and (found.exact or form not in EXACT)
        session = open_session(path, threads=threads)
        ways[name] = partial(session.run, None, {"input": batch.numpy()})
    theirs = by_onnxruntime(case.model, case.calibration[:BATCH], threads)
    if "onnxruntime int8" in theirs:
        ways["theirs"] = partial(theirs["onnxruntime int8"], batch)
    times = interleave(ways, rounds=ROUNDS, rest=REST)
    rates = {name: 1e3 * BATCH / taken[0] for name, taken in times.items()}
    limit, title = rates.get("theirs", float("nan")), f"{case.name}, {threads} thread"
    speed = [
        Row(f"{title}, {name}", rates[name], rates["ours"], limit, "images/s") for name in files
    ]
    return agreement, speed, holds


def main() -> None:
    parser = argparse.ArgumentParser(description="Exported networks in ONNX Runtime.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--only", default="", metavar="NAME", help="networks whose name holds it")
    parser.add_argument("--images", type=int, default=10_000, help="most images to compare on")
    parser.add_argument("--threads", type=int, default=1, help="of both")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    agreement, speed, holds = [], [], True
    for case in cases():
        if options.only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            shares, rates, fits = measure(case, Path(scratch), options.threads, options.images)
        agreement, speed, holds = agreement + shares, speed + rates, holds and fits
    show("Images with equal logits, images with the same first class", agreement)
    show("ONNX Runtime on the exported file, ours, ONNX Runtime's own int8 file", speed)
    if options.json:
        save(options.json, agreement + speed)
    if not holds:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
