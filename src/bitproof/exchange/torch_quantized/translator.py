"""One run of a quantized torch model, in which each call becomes nodes of a graph."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from bitproof.core.errors import ExchangeError
from bitproof.exchange.onnx_file import Array, OnnxNode

WORDS: dict[torch.dtype, Any] = {torch.quint8: np.uint8, torch.qint8: np.int8}


class Translator(fx.Interpreter):
    """One run, in which each call becomes nodes."""

    def __init__(
        self,
        module: fx.GraphModule,
        layers: Sequence[tuple[Any, "Layer"]],
        functions: Mapping[str, "Function"],
    ) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.layers, self.functions = layers, functions
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
            rule = next((rule for kind, rule in self.layers if isinstance(layer, kind)), None)
            if rule is None:
                name = type(layer).__name__
                raise ExchangeError(f"{n.target}: no form as integers for a {name}")
            rule(self, n, layer, value)
            return
        called = name_of(n)
        function = self.functions.get(called)
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


def _path(n: fx.Node) -> str:
    return str(n.target) if n.op == "call_module" else n.name


def name_of(n: fx.Node) -> str:
    """Return the plain name of a function or a method: `conv2d`, `add_relu`."""
    if isinstance(n.target, str):
        return n.target
    packet = getattr(n.target, "overloadpacket", n.target)
    name = str(getattr(packet, "__name__", getattr(packet, "_qualified_op_name", packet)))
    return name.rpartition(".")[2].rpartition("::")[2]


Layer = Callable[[Translator, fx.Node, Any, Tensor], None]
Function = Callable[[Translator, fx.Node, Tensor], None]
