"""Linear layers, and what all layers have: a bias, a ReLU inside."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, fx

from bitproof.exchange.torch_quantized.translator import Translator


def linear(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
    """Translate a linear layer."""
    inputs = [t.real(n.args[0]), t.weight(n, layer.weight()), *bias_of(t, n, layer.bias())]
    t.give_all(n, [("Gemm", inputs, {"transB": 1}), *with_relu(layer)], value)


def linear_function(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `linear`."""
    x, weight, bias = (t.argument(n, at, k) for at, k in enumerate(("input", "weight", "bias")))
    if value.ndim == 2:
        inputs = [t.real(x), t.real(weight), *([] if bias is None else [t.real(bias)])]
        t.give(n, "Gemm", inputs, value, transB=1)
        return
    t._append("Transpose", [t.real(weight)], f"{n.name}/rows", {"perm": [1, 0]})
    steps: list[tuple[str, Sequence[str], dict[str, Any]]] = [
        ("MatMul", [t.real(x), f"{n.name}/rows"], {})
    ]
    t.give_all(n, [*steps, *([] if bias is None else [("Add", [t.real(bias)], {})])], value)


def with_relu(layer: Any) -> list[tuple[str, Sequence[str], dict[str, Any]]]:
    """Return the ReLU that a fused layer has inside."""
    return (
        [("Relu", (), {})]
        if "ReLU" in type(layer).__name__ or "Relu" in type(layer).__name__
        else []
    )


def bias_of(t: Translator, n: fx.Node, bias: Tensor | None) -> list[str]:
    """Keep the bias of a layer, and return its name in a list."""
    if bias is None:
        return []
    return [t.constant(f"{n.name}/bias", bias.detach().numpy().astype(np.float32))]
