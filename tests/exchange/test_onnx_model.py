"""Float ONNX models as modules: onnxruntime's answers, and everything that others can do."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from bitproof.cli.app import app
from bitproof.core.errors import ExchangeError, ModelError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.exchange import OnnxModel, model_from_onnx
from bitproof.models import MODELS
from bitproof.quant import Scheme, quantize
from bitproof.recipe.recipe import Recipe
from bitproof.recipe.verbs import train_model
from bitproof.train import Optimization
from tests.exchange.test_static_quantization import float_model
from tests.exchange.tiny_onnx import Tiny, images_of, run_onnx

IMAGES = images_of(8, 2, 6, 6)
DRAW = np.random.default_rng(0)
Build = Callable[[Tiny], str]


def one(kind: str, **attrs: Any) -> Build:
    return lambda t: str(t.op(kind, "x", **attrs))


def numbers(t: Tiny, *values: float) -> list[str]:
    return [t.array(value) for value in values]


def whole(t: Tiny, *values: Any) -> list[str]:
    return [t.array(value, np.int64) for value in values]


def conv(t: Tiny, **attrs: Any) -> str:
    weight, bias = t.array(DRAW.normal(0, 1, (4, 2, 3, 3))), t.array(DRAW.normal(0, 1, 4))
    return str(t.op("Conv", "x", weight, bias, **attrs))


def norm(t: Tiny) -> str:
    parts = [t.array(DRAW.uniform(0.5, 2, 4)) for _ in range(4)]
    return str(t.op("BatchNormalization", conv(t), *parts, epsilon=1e-3))


def product_and_sum(t: Tiny) -> str:
    rows = t.op("Reshape", "x", *whole(t, [-1, 12, 6]))
    return str(t.op("Add", t.array(DRAW.normal(0, 1, 5)),
                    t.op("MatMul", rows, t.array(DRAW.normal(0, 1, (6, 5))))))  # fmt: skip


def own_flatten(t: Tiny) -> str:
    n = t.op("Gather", t.op("Shape", "x"), *whole(t, 0))
    sizes = t.op("Concat", t.op("Unsqueeze", n, *whole(t, [0])), *whole(t, [-1]), axis=0)
    return str(t.op("Reshape", "x", sizes))


CASES: dict[str, Build] = {
    "conv": conv,
    "conv_uneven": lambda t: conv(t, pads=[0, 1, 1, 0], strides=[2, 1]),
    "conv_same": lambda t: conv(t, auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv_transposed": lambda t: t.op(
        "ConvTranspose", "x", t.array(DRAW.normal(0, 1, (2, 3, 3, 3))), strides=[2, 2],
        output_padding=[1, 1], pads=[1, 1, 1, 1],
    ),
    "norm": norm,
    "product_and_sum": product_and_sum,
    "gemm": lambda t: t.op("Gemm", t.op("Flatten", "x"), t.array(DRAW.normal(0, 1, (72, 3))),
                           t.array([1.0, 2.0, 3.0]), alpha=0.5, beta=2.0),
    "layer_norm": lambda t: t.op("LayerNormalization", "x", t.array(DRAW.normal(0, 1, 6)),
                                 t.array(DRAW.normal(0, 1, 6)), axis=-1),
    "instance_norm": lambda t: t.op("InstanceNormalization", "x", t.array([1.0, 2.0]),
                                    t.array([0.5, 0.0])),
    "max_pool": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "max_pool_uneven": one("MaxPool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
    "average_pool": one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "global": one("GlobalAveragePool"),
    "reduce": one("ReduceMean", axes=[1, 3], keepdims=0),
    "leaky": lambda t: t.op("LeakyRelu", conv(t), alpha=0.2),
    "hard_sigmoid": lambda t: t.op("HardSigmoid", conv(t)),
    "clip": lambda t: t.op("Clip", conv(t), *numbers(t, -1.0, 2.5)),
    "normalised": lambda t: t.op("Div", t.op("Sub", "x", t.array([[[0.4]], [[0.5]]])),
                                 t.array([[[0.2]], [[0.3]]])),
    "number_minus": lambda t: t.op("Sub", t.array(1.5), "x"),
    "power": lambda t: t.op("Pow", "x", t.array(3.0)),
    "largest": lambda t: t.op("Max", "x", t.array(0.4)),
    "gelu": lambda t: t.op("Mul", conv(t), t.op("Erf", conv(t))),
    "concat": lambda t: t.op("Concat", "x", t.op("Neg", "x"), axis=-1),
    "own_flatten": own_flatten,
    "transpose": one("Transpose", perm=[0, 2, 3, 1]),
    "slice": lambda t: t.op("Slice", "x", *whole(t, [1], [-1], [2])),
    "split": lambda t: t.op("Split", "x", axis=1, outputs=2)[1],
    "gather": lambda t: t.op("Gather", "x", *whole(t, 1), axis=1),
    "gather_several": lambda t: t.op("Gather", "x", *whole(t, [3, 0, 3]), axis=2),
    "squeeze": lambda t: t.op("Squeeze", t.op("ReduceMax", "x", axes=[2]), *whole(t, [2])),
    "pad": lambda t: t.op("Pad", "x", *whole(t, [0, 0, 1, 2, 0, 0, 0, 1]), t.array(0.5)),
    "reflect": lambda t: t.op("Pad", "x", *whole(t, [0, 0, 1, 2, 0, 0, 0, 1]), mode="reflect"),
    "softmax": one("Softmax", axis=1),
    "nearest": lambda t: t.op("Resize", "x", "", t.array([1, 1, 2, 2]), mode="nearest",
                              coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "linear": lambda t: t.op("Resize", "x", "", t.array([1, 1, 1.5, 2]), mode="linear"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_operators_give_what_onnxruntime_gives(name: str, tmp_path: Path) -> None:
    tiny = Tiny()
    path = tiny.save(CASES[name](tiny), tmp_path / "m.onnx")
    wanted = run_onnx(path, IMAGES)
    with torch.no_grad():
        got = model_from_onnx(path)(IMAGES)  # has compared two other images itself
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_model_is_quantized_and_trained_as_any_other(tmp_path: Path) -> None:
    model = model_from_onnx(float_model(tmp_path / "m.onnx"))
    images = images_of(64, 2, 8, 8)
    network = quantize(model, images, Scheme("accurate"))
    assert network.fidelity is not None
    assert network.fidelity.agreement > 0.9
    data = Dataset.from_arrays(images, torch.arange(64) % 5)
    before = copy.deepcopy(model.state_dict())
    train_model(model, data, Optimization(epochs=1, learning_rate=0.01))
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    weights = {name for name, _ in model.named_parameters()}
    assert changed == weights
    assert {type(layer) for layer in model.children()} >= {nn.Conv2d, nn.Linear, nn.ReLU}


def test_a_recipe_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    float_model(tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    table = {"name": "r", "data": {"kind": "digits"}, "model": "net.onnx"}
    recipe = Recipe.model_validate(table)
    assert (
        recipe.model
        == OnnxModel(file="net.onnx")
        == MODELS.build(recipe.model.model_dump(mode="json"))
    )
    sizes: dict[str, Any] = {"image_size": 8, "n_classes": 5, "generator": make_generator(0)}
    assert recipe.model.build(in_channels=2, **sizes)(IMAGES.new_zeros(3, 2, 8, 8)).shape == (3, 5)
    with pytest.raises(ModelError, match=r"wanted a model for 1 channels, 'net\.onnx' is for 2"):
        recipe.model.build(in_channels=1, **sizes)
    with pytest.raises(ModelError, match=r"no file 'gone\.onnx'"):
        OnnxModel(file="gone.onnx").build(in_channels=2, **sizes)


def test_a_normalisation_of_a_mean_or_a_deviation_alone(tmp_path: Path) -> None:
    tiny = Tiny()
    path = tiny.save(tiny.op("Neg", "x"), tmp_path / "m.onnx")
    assert torch.equal(model_from_onnx(path, std=(0.5, 0.25))(IMAGES)[:, 1], -IMAGES[:, 1] / 0.25)
    assert torch.equal(model_from_onnx(path, mean=(0.5, 0.1))(IMAGES)[:, 0], 0.5 - IMAGES[:, 0])
    for mean, std in (((0.5,), (0.5, 0.5)), ((), (1.0, 1.0, 1.0))):
        with pytest.raises(ExchangeError, match="mean, std: wanted one for each of 2 channels"):
            model_from_onnx(path, mean=mean, std=std)


REFUSED: dict[str, tuple[Build, str]] = {
    "operator": (one("Det"), "Det 'n0': no form in torch"),
    "quantized": (lambda t: t.qdq("x", 0.1), "wanted a float model, got a quantized one"),
    "order": (lambda t: t.op("Relu", "later"), "Relu 'n0': reads 'later'"),
    "batch": (lambda t: t.op("Slice", "x", *whole(t, [0], [1], [0])), "a part of the batch"),
    "misfit": (lambda t: t.op("Add", "x", t.array(np.ones(5))), "does not run"),
    "constant": (lambda t: t.op("Identity", t.array(1.0)), "does not depend on the images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_is_named(name: str, tmp_path: Path) -> None:
    build, reason = REFUSED[name]
    tiny = Tiny()
    path = tiny.save(build(tiny), tmp_path / "m.onnx")
    with pytest.raises(ExchangeError, match=reason) as caught:
        model_from_onnx(path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_command_line_takes_a_float_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Tiny()
    flat = tiny.op("Flatten", tiny.op("Relu", tiny.op("Conv", "x", tiny.array(
        DRAW.normal(0, 0.3, (4, 1, 3, 3))))))  # fmt: skip
    result = tiny.op("Gemm", flat, tiny.array(DRAW.normal(0, 0.1, (144, 10))))
    tiny.save(result, tmp_path / "net.onnx", ("n", 1, 8, 8))
    recipe = (
        'name = "onnx"\ndata = { kind = "digits" }\nmodel = "net.onnx"\n'
        "train = { epochs = 1, learning_rate = 0.1 }\n"
        'variants = ["float", "baseline", "s"]\n'
        '[stages.s]\nkind = "desensitize"\nepsilon = 0.1\nsteps = 2\n'
        "optimization = { epochs = 1, learning_rate = 0.05 }\n"
        '[[evaluation.threats]]\nkind = "clean"\n'
    )
    (tmp_path / "r.toml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    done = runner.invoke(app, ["run", "r.toml", "--out", "run"])
    assert done.exit_code == 0, done.output
    options = ["--trials", "20", "--set", "injection.images=16"]
    done = runner.invoke(app, ["inject", "--model", "net.onnx", *options, "--out", "campaign"])
    assert done.exit_code == 0, done.output
    assert "untrained" not in done.output
