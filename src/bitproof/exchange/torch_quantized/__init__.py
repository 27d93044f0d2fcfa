"""A model quantized by torch as a graph of QuantizeLinear, DequantizeLinear and what lies between.

Model:  modules of `torch.ao.nn.quantized` and the functions of `torch.ops.quantized` compute words
        from words; each is the operator on reals between a DequantizeLinear of what it reads and a
        QuantizeLinear of what it gives, on the grid that its result has in an example run. Graphs
        of pt2e (`torch.ops.quantized_decomposed`) have these nodes already. To support another
        module or function, add a rule here.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.ao.nn import quantized as nnq

from bitproof.core.errors import ExchangeError
from bitproof.exchange.onnx_file import OnnxFile, OnnxInput
from bitproof.exchange.torch_quantized import (
    elementwise,
    linear,
    movements,
    windows,
    words,
)
from bitproof.exchange.torch_quantized.translator import Function, Layer, Translator

__all__ = ["FUNCTIONS", "LAYERS", "graph_of"]

LAYERS: list[tuple[Any, Layer]] = [
    (nnq.Quantize, elementwise.quantize_stub),
    (nnq.DeQuantize, elementwise.same_layer),
    ((nnq.Conv1d, nnq.Conv2d, nnq.Conv3d), windows.convolution),
    ((nnq.ConvTranspose1d, nnq.ConvTranspose2d, nnq.ConvTranspose3d), windows.convolution),
    (nnq.Linear, linear.linear),
    (nnq.ReLU6, elementwise.relu6_layer),
    (nn.ReLU6, elementwise.relu6_layer),
    (nn.Hardtanh, elementwise.hardtanh_layer),
    (nnq.Hardswish, elementwise.unary("HardSwish")),
    (nnq.LeakyReLU, elementwise.unary("LeakyRelu", lambda one: {"alpha": one.negative_slope})),
    (nnq.ELU, elementwise.unary("Elu", lambda one: {"alpha": one.alpha})),
    (nnq.Sigmoid, elementwise.unary("Sigmoid")),
    (nn.ReLU, elementwise.unary("Relu")),
    (nn.Sigmoid, elementwise.unary("Sigmoid")),
    (nn.Tanh, elementwise.unary("Tanh")),
    (nn.Hardswish, elementwise.unary("HardSwish")),
    (nn.Hardsigmoid, elementwise.unary("HardSigmoid", lambda _: {"alpha": 1 / 6, "beta": 0.5})),
    (nn.LeakyReLU, elementwise.unary("LeakyRelu", lambda one: {"alpha": one.negative_slope})),
    (nn.Softmax, elementwise.unary("Softmax", lambda one: {"axis": one.dim})),
    ((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), windows.max_pool_layer),
    ((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), windows.avg_pool_layer),
    (
        (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        lambda t, n, layer, value: windows.give_adaptive(t, n, layer.output_size, value),
    ),
    ((nn.Flatten, nn.Unflatten), lambda t, n, _, value: movements.give_reshaped(t, n, value)),
    ((nn.Dropout, nn.Dropout2d, nn.Identity, nnq.Dropout), elementwise.same_layer),
]
"""Modules, by kind; the first that fits counts, those with a ReLU inside are of the same kinds."""
FUNCTIONS: dict[str, Function] = {
    "quantize_per_tensor": words.quantized,
    "dequantize_per_tensor": words.dequantized,
    "dequantize_per_channel": words.dequantized,
    "dequantize": elementwise.same,
    **dict.fromkeys(("add", "iadd", "add_"), elementwise.elementwise("Add")),
    **dict.fromkeys(("mul", "imul", "mul_"), elementwise.elementwise("Mul")),
    "sub": elementwise.elementwise("Sub"),
    **dict.fromkeys(("div", "truediv"), elementwise.elementwise("Div")),
    "add_relu": elementwise.elementwise("Add", relu=True),
    "mul_relu": elementwise.elementwise("Mul", relu=True),
    "add_scalar": elementwise.elementwise("Add"),
    "mul_scalar": elementwise.elementwise("Mul"),
    "matmul": elementwise.elementwise("MatMul"),
    **dict.fromkeys(("cat", "concat"), movements.concatenated),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), windows.conv_function),
    "linear": linear.linear_function,
    **dict.fromkeys(("relu", "relu_"), elementwise.of_one("Relu")),
    **dict.fromkeys(("clamp", "clamp_"), elementwise.clamp),
    **dict.fromkeys(("hardtanh", "hardtanh_"), elementwise.hardtanh),
    **dict.fromkeys(("relu6", "relu6_"), elementwise.relu6),
    **dict.fromkeys(("hardswish", "hardswish_"), elementwise.of_one("HardSwish")),
    **dict.fromkeys(("silu", "silu_"), elementwise.of_one("Swish")),
    **dict.fromkeys(
        ("hardsigmoid", "hardsigmoid_"), elementwise.of_one("HardSigmoid", alpha=1 / 6, beta=0.5)
    ),
    "sigmoid": elementwise.of_one("Sigmoid"),
    "tanh": elementwise.of_one("Tanh"),
    "max_pool2d": windows.max_pool_function,
    "avg_pool2d": windows.avg_pool_function,
    **dict.fromkeys(
        ("adaptive_avg_pool1d", "adaptive_avg_pool2d"),
        lambda t, n, value: windows.give_adaptive(t, n, t.argument(n, 1, "output_size"), value),
    ),
    "mean": movements.mean,
    **dict.fromkeys(
        ("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten", "_unsafe_view"),
        movements.give_reshaped,
    ),
    **dict.fromkeys(("permute", "transpose", "t"), movements.permuted),
    "slice": movements.slice_function,
    "getitem": movements.get_item,
    **dict.fromkeys(("pad", "constant_pad_nd"), movements.padded),
    "softmax": elementwise.softmax,
    **dict.fromkeys(
        ("dropout", "contiguous", "clone", "detach", "to", "alias", "identity"), elementwise.same
    ),
}
"""Functions and methods, by name; those of `aten`, `quantized` and torch have the same ones."""


def graph_of(module: fx.GraphModule, images: Tensor) -> OnnxFile:
    """Return the graph of a quantized model, for a batch as large as that of `images`.

    Raises:
        ExchangeError: a call has no form, or the model does not run.
    """
    translator = Translator(module, LAYERS, FUNCTIONS)
    try:
        with torch.no_grad():
            translator.run(images)
    except ExchangeError:
        raise
    except (RuntimeError, ValueError, TypeError, NotImplementedError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ExchangeError(f"the model does not run on its example ({reason})") from None
    shape: tuple[int | None, ...] = (None, *images.shape[1:])
    source = OnnxInput(translator.source, "FLOAT", shape)
    name = type(module).__name__
    path, outputs = Path(name), (translator.output_name,)
    return OnnxFile(path, tuple(translator.nodes), translator.arrays, (source,), outputs, 17)
