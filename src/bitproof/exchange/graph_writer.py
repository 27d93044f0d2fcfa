"""ONNX graphs, written node by node: tensors get names, equal constants are stored once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitproof.exchange.onnx_library import onnx_library

OPSET = 21
"""The first with words of 16 bits in QuantizeLinear."""
IR_VERSION = 10
TYPES = {
    **{"float32": 1, "uint8": 2, "int8": 3, "int16": 5},
    **{"int32": 6, "int64": 7, "bool": 9, "float64": 11},
}
"""Numbers of the types in ONNX files."""


@dataclass
class GraphWriter:
    """Collects nodes and constants; every name follows from the order of the calls alone."""

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    _known: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def add(self, op: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the output's name; `to` asks for one."""
        name = self.fresh(to or op)
        if "to_type" in attributes:  # `to` is the name of the output here
            attributes = {"to": attributes["to_type"]}
        node = onnx_library().helper.make_node(op, inputs, [name], name=name, **attributes)
        self.nodes.append(node)
        return name

    def constant(
        self, value: Any, dtype: str, hint: str = "constant", *, shared: bool = True
    ) -> str:
        """Return the name of a constant tensor; `shared`: of any that is equal."""
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype)).reshape(np.shape(value))
        key = array.dtype.str, array.shape, array.tobytes()
        if shared and key in self._known:
            return self._known[key]
        name = self.fresh(hint)
        self.constants[name] = array
        if shared:
            self._known[key] = name
        return name

    def name_output(self, x: str, name: str) -> None:
        """Give a tensor the name of the output, which was asked for with `fresh`."""
        self.nodes.append(onnx_library().helper.make_node("Identity", [x], [name], name=name))

    def cast(self, x: str, dtype: str) -> str:
        """Add a conversion, and return its output."""
        return self.add("Cast", x, to_type=TYPES[dtype])

    def fresh(self, hint: str) -> str:
        """Return a name that nothing has yet."""
        count = self._counts.get(hint, 0)
        self._counts[hint] = count + 1
        return self.fresh(f"{hint}.{count}") if count else hint

    def model(
        self,
        *,
        source: tuple[str, str, Sequence[int | str]],
        result: tuple[str, Sequence[int | str]],
        version: str,
        about: dict[str, str],
    ) -> Any:
        """Return the model; `source` is name, type and shape of the input, `result` that of floats.

        `about` are texts that go into the file.
        """
        library = onnx_library()
        helper = library.helper
        name, dtype, shape = source
        inputs = [helper.make_tensor_value_info(name, TYPES[dtype], list(shape))]
        outputs = [helper.make_tensor_value_info(result[0], TYPES["float32"], list(result[1]))]
        stored = [
            library.numpy_helper.from_array(array, name) for name, array in self.constants.items()
        ]
        graph = helper.make_graph(self.nodes, "network", inputs, outputs, stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        model.producer_name, model.producer_version = "bitproof", version
        helper.set_model_props(model, about)
        return model
