"""Models made by onnxruntime's static quantization, imported: the same words, in both formats."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitproof.exchange import import_onnx
from tests.exchange.tiny_onnx import Tiny, images_of, run_onnx

quantization = pytest.importorskip("onnxruntime.quantization", reason="needs onnxruntime")
IMAGES = images_of(64, 2, 8, 8)


class Images:
    """What calibration reads."""

    def __init__(self) -> None:
        self.blocks = iter(torch.split(IMAGES, 16))

    def get_next(self) -> dict[str, Any] | None:
        block = next(self.blocks, None)
        return None if block is None else {"x": block.numpy()}

    def set_range(self, *_: int) -> None:
        """Do nothing: onnxruntime calls it."""


def float_model(path: Path) -> Path:
    """A small residual network with most operators of larger ones."""
    draw = np.random.default_rng(0)

    def conv(x: str, outputs: int, inputs: int, **attrs: Any) -> str:
        weight = tiny.array(draw.normal(0, 0.4, (outputs, inputs // attrs.get("group", 1), 3, 3)))
        bias = tiny.array(draw.normal(0, 0.2, outputs))
        return str(tiny.op("Conv", x, weight, bias, pads=[1, 1, 1, 1], **attrs))

    tiny = Tiny(opset=13)
    x = tiny.op("Relu", conv("x", 8, 2))
    y = tiny.op("Clip", conv(x, 8, 8, group=8), tiny.array(0.0), tiny.array(6.0))
    x = tiny.op("Relu", tiny.op("Add", conv(y, 8, 8), x))
    x = tiny.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    gate = tiny.op("Sigmoid", tiny.op("GlobalAveragePool", x))
    x = tiny.op("Concat", tiny.op("Mul", x, gate), x, axis=1)
    # No AveragePool: a quarter of its sums are ties, which onnxruntime decides now so, now so.
    x = tiny.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = tiny.op("LeakyRelu", tiny.op("Flatten", x), alpha=0.1)
    x = tiny.op("MatMul", x, tiny.array(draw.normal(0, 0.2, (64, 12))))
    x = tiny.op("Add", x, tiny.array(draw.normal(0, 0.2, 12)))
    x = tiny.op("Gemm", tiny.op("Relu", x), tiny.array(draw.normal(0, 0.5, (12, 5))),
                tiny.array(draw.normal(0, 0.2, 5)))  # fmt: skip
    return tiny.save(x, path, ("n", 2, 8, 8))


KINDS: dict[str, dict[str, Any]] = {
    "u8s8": {},
    "u8s8_by_channel": {"per_channel": True},
    "s8s8": {"activation": "QInt8", "symmetric": True, "per_channel": True},
    "u8u8": {"weight": "QUInt8"},
    "operators": {"quant_format": "QOperator", "per_channel": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_answers_as_onnxruntime_does(kind: str, tmp_path: Path) -> None:
    options = dict(KINDS[kind])
    types, formats = quantization.QuantType, quantization.QuantFormat
    symmetric = {"ActivationSymmetric": bool(options.pop("symmetric", False))}
    path = tmp_path / "int8.onnx"
    quantization.quantize_static(
        str(float_model(tmp_path / "float.onnx")),
        str(path),
        Images(),
        quant_format=getattr(formats, options.pop("quant_format", "QDQ")),
        activation_type=getattr(types, options.pop("activation", "QUInt8")),
        weight_type=getattr(types, options.pop("weight", "QInt8")),
        extra_options=symmetric,
        **options,
    )
    network = import_onnx(path)
    wanted, got = run_onnx(path, IMAGES), network(IMAGES)
    scale = float(network.grids[network.nodes[-1].name].scale)
    steps = ((wanted - got) / scale).round().abs()
    assert (steps != 0).float().mean() < 0.05  # ties of 2,000 words before that
    assert float(steps.max()) <= 3
    assert torch.equal(wanted.argmax(1), got.argmax(1))
    first = next(node.name for node in network.nodes if node.op == "conv")
    by_channel = network.tensors[f"{first}.weight"].grid.axis == 0
    assert by_channel == bool(options.get("per_channel"))
