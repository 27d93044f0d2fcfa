"""A model quantized by torch as a graph of QuantizeLinear, DequantizeLinear and what lies between.

Model:  modules of `torch.ao.nn.quantized` and the functions of `torch.ops.quantized` compute words
        from words; each is the operator on reals between a DequantizeLinear of what it reads and a
        QuantizeLinear of what it gives, on the grid that its result has in an example run. Graphs
        of pt2e (`torch.ops.quantized_decomposed`) have these nodes already.
"""

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.ao.nn import quantized as nnq
from torch.ao.nn.intrinsic import quantized as nniq

from bitproof.core.errors import ExchangeError
from bitproof.exchange.onnx_file import Array, OnnxFile, OnnxInput, OnnxNode

WORDS: dict[torch.dtype, Any] = {torch.quint8: np.uint8, torch.qint8: np.int8}
PLAIN_WORDS: dict[torch.dtype, Any] = {
    **{torch.uint8: np.uint8, torch.int8: np.int8, torch.int16: np.int16},
    **{torch.int32: np.int32, torch.uint16: np.uint16},
}


def graph_of(module: fx.GraphModule, images: Tensor) -> OnnxFile:
    """Return the graph of a quantized model, for a batch as large as that of `images`.

    Raises:
        ExchangeError: a call has no form, or the model does not run.
    """
    translator = Translator(module)
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


class Translator(fx.Interpreter):
    """One run, in which each call becomes nodes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.nodes: list[OnnxNode] = []
        self.arrays: dict[str, Array] = {}
        self.source = self.output_name = ""
        self.extra_traceback = False  # messages stay as they are
        self._real: dict[str, str] = {}
        """Names of the reals behind words."""

    def run_node(self, n: fx.Node) -> Any:
        """Return the value of a call, and append what it is."""
        value = super().run_node(n)
        if n.op == "placeholder":
            if self.source:
                raise ExchangeError("wanted a model with one input, got several")
            self.source = n.name
        elif n.op == "get_attr":
            if isinstance(value, Tensor) and not value.is_quantized:
                self.arrays[n.name] = value.detach().cpu().numpy()
        elif n.op == "output":
            (result,) = n.args[:1]
            if isinstance(result, tuple | list) and len(result) == 1:
                result = result[0]
            if not isinstance(result, fx.Node):
                raise ExchangeError("output: wanted one tensor")
            self.output_name = self.real(result)
        elif isinstance(value, Tensor):
            self._translate(n, value)
        return value

    def _translate(self, n: fx.Node, value: Tensor) -> None:
        if n.op == "call_module":
            layer = self.fetch_attr(str(n.target))
            rule = next((rule for kind, rule in LAYERS if isinstance(layer, kind)), None)
            if rule is None:
                name = type(layer).__name__
                raise ExchangeError(f"{n.target}: no form as integers for a {name}")
            rule(self, n, layer, value)
            return
        called = _name_of(n)
        function = FUNCTIONS.get(called)
        if function is None:
            raise ExchangeError(f"{n.name}: no form as integers for the operation '{called}'")
        function(self, n, value)

    # What rules call.

    def value(self, argument: Any) -> Any:
        """Return an argument as it is in this run."""
        return fx.node.map_arg(argument, lambda node: self.env[node])

    def argument(self, n: fx.Node, place: int, name: str, default: Any = None) -> Any:
        """Return an argument of a call, with nodes in it."""
        return n.args[place] if 0 <= place < len(n.args) else n.kwargs.get(name, default)

    def real(self, node: Any) -> str:
        """Return the name of the real numbers that a node gives."""
        if not isinstance(node, fx.Node):
            return self.constant(f"number{len(self.arrays)}", np.asarray(node, np.float32))
        value = self.env[node]
        if not (isinstance(value, Tensor) and value.is_quantized):
            return self._real.get(node.name, node.name)
        if node.name not in self._real:
            self._real[node.name] = f"{node.name}/real"
            grid = self._grid(f"{node.name}/grid", value)
            self._append("DequantizeLinear", (node.name, *grid), f"{node.name}/real")
        return self._real[node.name]

    def constant(self, name: str, array: Array) -> str:
        """Keep an array under a name, and return it."""
        self.arrays[name] = array
        return name

    def give(self, n: fx.Node, op: str, inputs: Sequence[str], value: Tensor, **attrs: Any) -> None:
        """Append an operator on reals; behind it, a QuantizeLinear where words come out."""
        self.give_all(n, [(op, inputs, attrs)], value)

    def give_all(
        self, n: fx.Node, steps: Sequence[tuple[str, Sequence[str], dict[str, Any]]], value: Tensor
    ) -> None:
        """Append operators that follow one another; later ones read what the one before gives."""
        before = ""
        for place, (op, inputs, attrs) in enumerate(steps):
            last = place == len(steps) - 1 and not value.is_quantized
            name = n.name if last else f"{n.name}/{op}{place}"
            read = [before, *inputs] if place else list(inputs)
            self._append(op, read, name, attrs, path=_path(n))
            before = name
        if value.is_quantized:
            self._append("QuantizeLinear", (before, *self._grid(f"{n.name}/out", value)), n.name)

    def _grid(self, name: str, value: Tensor) -> tuple[str, str]:
        """Keep the grid of a quantized activation."""
        if value.qscheme() != torch.per_tensor_affine or value.dtype not in WORDS:
            raise ExchangeError(f"{name}: wanted 8-bit words with one scale, got {value.dtype}")
        scale = self.constant(f"{name}/scale", np.asarray(value.q_scale(), np.float32))
        point = np.asarray(value.q_zero_point(), WORDS[value.dtype])
        return scale, self.constant(f"{name}/point", point)

    def weight(self, n: fx.Node, weight: Tensor) -> str:
        """Append the words of a weight, and return the name of the real numbers."""
        codes = self.constant(f"{n.name}/codes", weight.int_repr().numpy())
        if weight.qscheme() in {torch.per_channel_affine, torch.per_channel_symmetric}:
            scale, point = weight.q_per_channel_scales(), weight.q_per_channel_zero_points()
            axis = int(weight.q_per_channel_axis())
        else:
            scale, point = torch.tensor(weight.q_scale()), torch.tensor(weight.q_zero_point())
            axis = 0
        points = point.numpy().astype(WORDS[weight.dtype])
        grid = (
            self.constant(f"{n.name}/scales", scale.numpy().astype(np.float32)),
            self.constant(f"{n.name}/points", points),
        )
        self._append("DequantizeLinear", (codes, *grid), f"{n.name}/weight", {"axis": axis})
        return f"{n.name}/weight"

    def _append(
        self,
        op: str,
        inputs: Sequence[str],
        output: str,
        attrs: dict[str, Any] | None = None,
        path: str = "",
    ) -> None:
        self.nodes.append(OnnxNode(path or output, op, tuple(inputs), (output,), attrs or {}))

    def alias(self, n: fx.Node, source: Any, value: Tensor) -> None:
        """Let a call that changes nothing give what it reads."""
        if value.is_quantized:
            self._append("Identity", (source.name,), n.name)
        else:
            self._append("Identity", (self.real(source),), n.name)


def _any(arguments: Any) -> Any:
    return arguments


def _path(n: fx.Node) -> str:
    return str(n.target) if n.op == "call_module" else n.name


def _name_of(n: fx.Node) -> str:
    """Return the plain name of a function or a method: `conv2d`, `add_relu`."""
    if isinstance(n.target, str):
        return n.target
    packet = getattr(n.target, "overloadpacket", n.target)
    name = str(getattr(packet, "__name__", getattr(packet, "_qualified_op_name", packet)))
    return name.rpartition(".")[2].rpartition("::")[2]


Layer = Callable[[Translator, fx.Node, Any, Tensor], None]
Function = Callable[[Translator, fx.Node, Tensor], None]


def _quantize_stub(t: Translator, n: fx.Node, _: Any, value: Tensor) -> None:
    t.give(n, "Identity", [t.real(n.args[0])], value)


def _same_layer(t: Translator, n: fx.Node, _: Any, value: Tensor) -> None:
    t.alias(n, n.args[0], value)


def _pads(padding: Any, rank: int) -> list[int]:
    sizes = [padding] * rank if isinstance(padding, int) else list(padding)
    sizes = sizes * rank if len(sizes) == 1 else sizes
    return [*sizes, *sizes]


def _each(value: Any, rank: int) -> list[int]:
    return (
        [int(value)] * rank
        if isinstance(value, int)
        else [int(one) for one in value] * (rank if len(value) == 1 else 1)
    )


def _with_relu(layer: Any) -> list[tuple[str, Sequence[str], dict[str, Any]]]:
    return (
        [("Relu", (), {})]
        if "ReLU" in type(layer).__name__ or "Relu" in type(layer).__name__
        else []
    )


def _bias(t: Translator, n: fx.Node, bias: Tensor | None) -> list[str]:
    if bias is None:
        return []
    return [t.constant(f"{n.name}/bias", bias.detach().numpy().astype(np.float32))]


def _convolution(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
    if layer.padding_mode != "zeros":
        raise ExchangeError(f"{n.target}: no form for padding of mode {layer.padding_mode}")
    transposed = isinstance(layer, nnq.ConvTranspose1d | nnq.ConvTranspose2d | nnq.ConvTranspose3d)
    rank = len(layer.kernel_size)
    attrs = {
        "strides": _each(layer.stride, rank),
        "dilations": _each(layer.dilation, rank),
        "pads": _pads(layer.padding, rank),
        "group": layer.groups,
    }
    if transposed:
        attrs["output_padding"] = _each(layer.output_padding, rank)
    inputs = [t.real(n.args[0]), t.weight(n, layer.weight()), *_bias(t, n, layer.bias())]
    op = "ConvTranspose" if transposed else "Conv"
    t.give_all(n, [(op, inputs, attrs), *_with_relu(layer)], value)


def _linear(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
    inputs = [t.real(n.args[0]), t.weight(n, layer.weight()), *_bias(t, n, layer.bias())]
    t.give_all(n, [("Gemm", inputs, {"transB": 1}), *_with_relu(layer)], value)


def _unary(op: str, attrs: Callable[[Any], dict[str, Any]] | None = None) -> Layer:
    def rule(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
        t.give(n, op, [t.real(n.args[0])], value, **(attrs(layer) if attrs else {}))

    return rule


def _clamp(t: Translator, n: fx.Node, source: Any, ends: Sequence[float], value: Tensor) -> None:
    bounds = [t.constant(f"{n.name}/{k}", np.asarray(e, np.float32)) for k, e in enumerate(ends)]
    t.give(n, "Clip", [t.real(source), *bounds], value)


def _hardtanh_layer(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
    _clamp(t, n, n.args[0], (float(layer.min_val), float(layer.max_val)), value)


def _relu6_layer(t: Translator, n: fx.Node, _: Any, value: Tensor) -> None:
    _clamp(t, n, n.args[0], (0.0, 6.0), value)


def _pool(
    t: Translator,
    n: fx.Node,
    value: Tensor,
    *,
    op: str,
    sizes: Sequence[Any],
    **attrs: Any,
) -> None:
    kernel, stride, padding, dilation = sizes
    rank = len(t.value(n.args[0]).shape) - 2
    found = {
        "kernel_shape": _each(kernel, rank),
        "strides": _each(kernel if stride in (None, [], ()) else stride, rank),
        "pads": _pads(padding, rank),
        **({} if op == "AveragePool" else {"dilations": _each(dilation, rank)}),
        **attrs,
    }
    t.give(n, op, [t.real(n.args[0])], value, **found)


def _max_pool_layer(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    _pool(t, n, value, op="MaxPool", sizes=sizes, ceil_mode=int(layer.ceil_mode))


def _avg_pool_layer(t: Translator, n: fx.Node, layer: Any, value: Tensor) -> None:
    if getattr(layer, "divisor_override", None) is not None:
        raise ExchangeError(f"{n.target}: no form for divisor_override")
    sizes = layer.kernel_size, layer.stride, layer.padding, 1
    counts = {"count_include_pad": int(layer.count_include_pad)}
    _pool(t, n, value, op="AveragePool", sizes=sizes, ceil_mode=int(layer.ceil_mode), **counts)


def _adaptive(t: Translator, n: fx.Node, size: Any, value: Tensor) -> None:
    x = t.value(n.args[0])
    wanted = _each(size, x.ndim - 2)
    if all(one == 1 for one in wanted):
        t.give(n, "GlobalAveragePool", [t.real(n.args[0])], value)
        return
    if any(old % new for old, new in zip(x.shape[2:], wanted, strict=True)):
        raise ExchangeError(f"{n.name}: no form for windows of several sizes")
    kernel = [old // new for old, new in zip(x.shape[2:], wanted, strict=True)]
    t.give(n, "AveragePool", [t.real(n.args[0])], value, kernel_shape=kernel, strides=kernel)


def _reshaped(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate whatever gives the same numbers in other sizes."""
    sizes = t.constant(f"{n.name}/sizes", np.asarray(value.shape, np.int64))
    t.give(n, "Reshape", [t.real(n.args[0]), sizes], value)


LAYERS: list[tuple[Any, Layer]] = [
    (nnq.Quantize, _quantize_stub),
    (nnq.DeQuantize, _same_layer),
    ((nnq.Conv1d, nnq.Conv2d, nnq.Conv3d), _convolution),
    ((nnq.ConvTranspose1d, nnq.ConvTranspose2d, nnq.ConvTranspose3d), _convolution),
    (nnq.Linear, _linear),
    (nnq.ReLU6, _relu6_layer),
    (nn.ReLU6, _relu6_layer),
    (nn.Hardtanh, _hardtanh_layer),
    (nnq.Hardswish, _unary("HardSwish")),
    (nnq.LeakyReLU, _unary("LeakyRelu", lambda one: {"alpha": one.negative_slope})),
    (nnq.ELU, _unary("Elu", lambda one: {"alpha": one.alpha})),
    (nnq.Sigmoid, _unary("Sigmoid")),
    (nn.ReLU, _unary("Relu")),
    (nn.Sigmoid, _unary("Sigmoid")),
    (nn.Tanh, _unary("Tanh")),
    (nn.Hardswish, _unary("HardSwish")),
    (nn.Hardsigmoid, _unary("HardSigmoid", lambda _: {"alpha": 1 / 6, "beta": 0.5})),
    (nn.LeakyReLU, _unary("LeakyRelu", lambda one: {"alpha": one.negative_slope})),
    (nn.Softmax, _unary("Softmax", lambda one: {"axis": one.dim})),
    ((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), _max_pool_layer),
    ((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _avg_pool_layer),
    (
        (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        lambda t, n, layer, value: _adaptive(t, n, layer.output_size, value),
    ),
    ((nn.Flatten, nn.Unflatten), lambda t, n, _, value: _reshaped(t, n, value)),
    ((nn.Dropout, nn.Dropout2d, nn.Identity, nnq.Dropout), _same_layer),
]
"""Modules, by kind; the first that fits counts, those with a ReLU inside are of the same kinds."""
assert issubclass(nniq.ConvReLU2d, nnq.Conv2d)
assert issubclass(nniq.LinearReLU, nnq.Linear)


def _elementwise(op: str, *, relu: bool = False) -> Function:
    def rule(t: Translator, n: fx.Node, value: Tensor) -> None:
        inputs = [t.real(t.argument(n, 0, "input")), t.real(t.argument(n, 1, "other"))]
        if float(t.argument(n, -1, "alpha", 1)) != 1:
            raise ExchangeError(f"{n.name}: no form for alpha")
        t.give_all(n, [(op, inputs, {}), *([("Relu", (), {})] if relu else [])], value)

    return rule


def _of_one(op: str, **attrs: Any) -> Function:
    return lambda t, n, value: t.give(n, op, [t.real(n.args[0])], value, **attrs)


def _concatenated(t: Translator, n: fx.Node, value: Tensor) -> None:
    parts, dim = t.argument(n, 0, "tensors"), t.value(t.argument(n, 1, "dim", 0))
    t.give(n, "Concat", [t.real(part) for part in parts], value, axis=int(dim) % value.ndim)


def _quantized(t: Translator, n: fx.Node, value: Tensor) -> None:
    """Translate `torch.quantize_per_tensor`, and that of pt2e, whose words are plain integers."""
    source = t.argument(n, 0, "input")
    if value.is_quantized:
        t.give(n, "Identity", [t.real(source)], value)
        return
    scale, point, least, most, dtype = (t.value(one) for one in n.args[1:6])
    grid = _plain_grid(t, n, scale, point, dtype)
    whole = torch.iinfo(dtype)
    name = n.name if (least, most) == (whole.min, whole.max) else f"{n.name}/whole"
    t._append("QuantizeLinear", (t.real(source), *grid), name)
    if name != n.name:
        words = PLAIN_WORDS[dtype]
        ends = [t.constant(f"{n.name}/end{k}", np.asarray(e, words)) for k, e in
                enumerate((least, most))]  # fmt: skip
        t._append("Clip", (name, *ends), n.name)


def _plain_grid(
    t: Translator, n: fx.Node, scale: Any, point: Any, dtype: torch.dtype
) -> tuple[str, str]:
    if dtype not in PLAIN_WORDS:
        raise ExchangeError(f"{n.name}: no integer form for words of type {dtype}")
    scales = torch.as_tensor(scale, dtype=torch.float32).numpy()
    points = torch.as_tensor(point).numpy().astype(PLAIN_WORDS[dtype])
    return t.constant(f"{n.name}/scale", scales), t.constant(f"{n.name}/point", points)


def _dequantized(t: Translator, n: fx.Node, _: Tensor) -> None:
    """Translate `dequantize_per_tensor` and `dequantize_per_channel` of pt2e."""
    arguments: Any = n.args
    axis = 0
    if "channel" in _name_of(n):
        words, scale, point, axis, *rest = arguments
    else:
        words, scale, point, *rest = arguments
    least, most, dtype = (t.value(one) for one in rest[:3])
    codes = words.name
    if words.op == "get_attr":
        whole = torch.iinfo(dtype)
        if (least, most) != (whole.min, whole.max):
            plain = PLAIN_WORDS[dtype]
            ends = [t.constant(f"{n.name}/end{k}", np.asarray(e, plain)) for k, e in
                    enumerate((least, most))]  # fmt: skip
            t._append("Clip", (codes, *ends), f"{n.name}/clipped")
            codes = f"{n.name}/clipped"
    grid = _plain_grid(t, n, t.value(scale), t.value(point), dtype)
    t._append("DequantizeLinear", (codes, *grid), n.name, {"axis": int(axis)})


CONVOLUTION = (
    *(("input", None), ("weight", None), ("bias", None)),
    *(("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)),
)
"""Arguments with their defaults."""


def _conv_function(t: Translator, n: fx.Node, value: Tensor) -> None:
    x, weight, bias, stride, padding, dilation, groups = (
        t.argument(n, place, name, default) for place, (name, default) in enumerate(CONVOLUTION)
    )
    rank = value.ndim - 2
    if isinstance(padding, str):
        raise ExchangeError(f"{n.name}: no form for padding {padding!r}")
    attrs = {
        "strides": _each(stride, rank),
        "pads": _pads(padding, rank),
        "dilations": _each(dilation, rank),
        "group": groups,
    }
    inputs = [t.real(x), t.real(weight), *([] if bias is None else [t.real(bias)])]
    t.give(n, "Conv", inputs, value, **attrs)


def _linear_function(t: Translator, n: fx.Node, value: Tensor) -> None:
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


def _clamp_function(low: float, high: float) -> Function:
    def rule(t: Translator, n: fx.Node, value: Tensor) -> None:
        ends = t.argument(n, 1, "min_val", low), t.argument(n, 2, "max_val", high)
        _clamp(t, n, n.args[0], [float(t.value(end)) for end in ends], value)

    return rule


def _max_pool_function(t: Translator, n: fx.Node, value: Tensor) -> None:
    names = ("kernel_size", None), ("stride", None), ("padding", 0), ("dilation", 1)
    sizes = [t.argument(n, at, *pair) for at, pair in enumerate(names, 1)]
    _pool(t, n, value, op="MaxPool", sizes=sizes, ceil_mode=int(t.argument(n, 5, "ceil_mode", 0)))


def _avg_pool_function(t: Translator, n: fx.Node, value: Tensor) -> None:
    names = ("kernel_size", None), ("stride", None), ("padding", 0)
    sizes = [t.argument(n, at, *pair) for at, pair in enumerate(names, 1)]
    attrs = {
        "ceil_mode": int(t.argument(n, 4, "ceil_mode", 0)),
        "count_include_pad": int(t.argument(n, 5, "count_include_pad", 1)),
    }
    _pool(t, n, value, op="AveragePool", sizes=[*sizes, 1], **attrs)


def _mean(t: Translator, n: fx.Node, value: Tensor) -> None:
    dims = t.argument(n, 1, "dim")
    rank = t.value(n.args[0]).ndim
    axes = [int(one) % rank for one in ([dims] if isinstance(dims, int) else dims)]
    keeps = int(t.argument(n, 2, "keepdim", 0))
    t.give(n, "ReduceMean", [t.real(n.args[0])], value, axes=axes, keepdims=keeps)


def _permuted(t: Translator, n: fx.Node, value: Tensor) -> None:
    x = t.value(n.args[0])
    rank, arguments = x.ndim, _any(n.args)
    if _name_of(n) in {"transpose", "t"}:
        a, b = (0, 1) if _name_of(n) == "t" else (int(one) % rank for one in arguments[1:3])
        dims = list(range(rank))
        dims[a], dims[b] = b, a
    else:
        given = arguments[1] if isinstance(arguments[1], tuple | list) else arguments[1:]
        dims = [int(one) % rank for one in given]
    t.give(n, "Transpose", [t.real(n.args[0])], value, perm=dims)


def _sliced(t: Translator, n: fx.Node, parts: dict[int, slice], value: Tensor) -> None:
    """Translate what keeps a part of some axes."""
    x = t.value(n.args[0])
    ends = {axis: part.indices(x.shape[axis]) for axis, part in parts.items()}
    lists = {
        "start": [first for first, _, _ in ends.values()],
        "end": [last for _, last, _ in ends.values()],
        "axis": list(ends),
        "step": [step for _, _, step in ends.values()],
    }
    names = [t.constant(f"{n.name}/{k}", np.asarray(v, np.int64)) for k, v in lists.items()]
    t.give(n, "Slice", [t.real(n.args[0]), *names], value)


def _slice_function(t: Translator, n: fx.Node, value: Tensor) -> None:
    x, axis, start, end, step = (
        t.value(t.argument(n, at, k, d))
        for at, (k, d) in enumerate(
            (("input", None), ("dim", 0), ("start", None), ("end", None), ("step", 1))
        )
    )
    _sliced(t, n, {int(axis) % x.ndim: slice(start, end, step)}, value)


def _get_item(t: Translator, n: fx.Node, value: Tensor) -> None:
    source, index = t.value(n.args[0]), t.value(n.args[1])
    if not isinstance(source, Tensor):
        raise ExchangeError(f"{n.name}: no form for one of several results")
    parts = list(index) if isinstance(index, tuple) else [index]
    cut = {at: one for at, one in enumerate(parts) if one != slice(None)}
    if not all(isinstance(one, slice) for one in cut.values()):
        raise ExchangeError(f"{n.name}: no form for this index")
    if cut:
        _sliced(t, n, cut, value)
    else:
        t.alias(n, n.args[0], value)


def _padded(t: Translator, n: fx.Node, value: Tensor) -> None:
    edges, mode = t.value(t.argument(n, 1, "pad")), t.argument(n, 2, "mode", "constant")
    number = t.argument(n, 3, "value") or 0.0
    names = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    if mode not in names:
        raise ExchangeError(f"{n.name}: no form for padding of mode {mode}")
    before = [0] * (value.ndim - len(edges) // 2) + list(edges[::2])[::-1]
    behind = [0] * (value.ndim - len(edges) // 2) + list(edges[1::2])[::-1]
    pads = t.constant(f"{n.name}/pads", np.asarray([*before, *behind], np.int64))
    inputs = [t.real(n.args[0]), pads]
    if mode == "constant":
        inputs.append(t.constant(f"{n.name}/value", np.asarray(number, np.float32)))
    t.give(n, "Pad", inputs, value, mode=names[mode])


def _softmax(t: Translator, n: fx.Node, value: Tensor) -> None:
    axis = int(t.argument(n, 1, "dim")) % value.ndim
    t.give(n, "Softmax", [t.real(n.args[0])], value, axis=axis)


def _same(t: Translator, n: fx.Node, value: Tensor) -> None:
    t.alias(n, n.args[0], value)


FUNCTIONS: dict[str, Function] = {
    "quantize_per_tensor": _quantized,
    "dequantize_per_tensor": _dequantized,
    "dequantize_per_channel": _dequantized,
    "dequantize": _same,
    **dict.fromkeys(("add", "iadd", "add_"), _elementwise("Add")),
    **dict.fromkeys(("mul", "imul", "mul_"), _elementwise("Mul")),
    "sub": _elementwise("Sub"),
    **dict.fromkeys(("div", "truediv"), _elementwise("Div")),
    "add_relu": _elementwise("Add", relu=True),
    "mul_relu": _elementwise("Mul", relu=True),
    "add_scalar": _elementwise("Add"),
    "mul_scalar": _elementwise("Mul"),
    "matmul": _elementwise("MatMul"),
    **dict.fromkeys(("cat", "concat"), _concatenated),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _conv_function),
    "linear": _linear_function,
    **dict.fromkeys(("relu", "relu_"), _of_one("Relu")),
    **dict.fromkeys(("hardtanh", "hardtanh_", "clamp", "clamp_"), _clamp_function(-1.0, 1.0)),
    **dict.fromkeys(("relu6", "relu6_"), _clamp_function(0.0, 6.0)),
    **dict.fromkeys(("hardswish", "hardswish_"), _of_one("HardSwish")),
    **dict.fromkeys(("silu", "silu_"), _of_one("Swish")),
    **dict.fromkeys(("hardsigmoid", "hardsigmoid_"), _of_one("HardSigmoid", alpha=1 / 6, beta=0.5)),
    "sigmoid": _of_one("Sigmoid"),
    "tanh": _of_one("Tanh"),
    "max_pool2d": _max_pool_function,
    "avg_pool2d": _avg_pool_function,
    **dict.fromkeys(
        ("adaptive_avg_pool1d", "adaptive_avg_pool2d"),
        lambda t, n, value: _adaptive(t, n, t.argument(n, 1, "output_size"), value),
    ),
    "mean": _mean,
    **dict.fromkeys(
        ("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten", "_unsafe_view"),
        _reshaped,
    ),
    **dict.fromkeys(("permute", "transpose", "t"), _permuted),
    "slice": _slice_function,
    "getitem": _get_item,
    **dict.fromkeys(("pad", "constant_pad_nd"), _padded),
    "softmax": _softmax,
    **dict.fromkeys(("dropout", "contiguous", "clone", "detach", "to", "alias", "identity"), _same),
}
"""Functions and methods, by name; those of `aten`, `quantized` and torch have the same ones."""
assert operator.getitem.__name__ in FUNCTIONS
