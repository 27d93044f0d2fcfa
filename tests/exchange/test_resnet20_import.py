"""ResNet-20, quantized by onnxruntime, on CIFAR-10's test images: both execute one network."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.core.rng import make_generator
from bitproof.data.layout import data_root
from bitproof.exchange import import_onnx
from bitproof.exchange.runtime_agreement import runtime_agreement
from bitproof.injection import Injection
from bitproof.models import ResNet20, load_weights
from bitproof.recipe import inject
from bitproof.recipe.verbs import load_data

quantization = pytest.importorskip("onnxruntime.quantization", reason="needs onnxruntime")
N = 2000
"""Of the test images; `benchmarks/onnx_import.py` takes all of them."""


class Images:
    """What calibration reads."""

    def __init__(self, images: Tensor) -> None:
        self.blocks = iter(torch.split(images, 64))

    def get_next(self) -> dict[str, Any] | None:
        block = next(self.blocks, None)
        return None if block is None else {"input": block.numpy()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_accuracy_is_that_of_onnxruntime_and_a_campaign_runs(tmp_path: Path) -> None:
    root = data_root(None)
    weights = sorted((root / "weights").glob("resnet20-*.npz")) if root else []
    try:
        splits = load_data("cifar10", validation_fraction=0.0)
    except DataError as error:
        pytest.skip(f"needs CIFAR-10 ({error})")
    if not weights:
        pytest.skip("needs the pretrained weights of resnet20 in BITPROOF_DATA")
    build = ResNet20().build
    model = build(in_channels=3, image_size=32, n_classes=10, generator=make_generator(0))
    model = load_weights(model, weights[0]).eval()
    source, path = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    images = splits.train.inputs(slice(0, 512))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (images[:1],),
            str(source),
            dynamo=False,
            opset_version=17,
            input_names=["input"],
            dynamic_axes={"input": {0: "n"}},
        )
    quantization.quantize_static(
        str(source),
        str(path),
        Images(images),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    network = import_onnx(path)
    test = splits.test.first(N)
    found, outputs = runtime_agreement(network, path, test.inputs())
    assert found.same_top1 >= 0.999 * N
    assert found.identical >= 0.95 * N
    right = (outputs.argmax(1) == test.labels).sum()
    ours = torch.cat([network(block).argmax(1) for block in torch.split(test.inputs(), 250)])
    assert abs(int(right) - int((ours == test.labels).sum())) <= 0.0005 * N
    summary = inject(network, test, Injection(images=32, trials=40))
    assert summary["totals"][0]["trials"] == 40
