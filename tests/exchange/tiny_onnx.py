"""Small ONNX graphs by hand, and what onnxruntime makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

onnx = pytest.importorskip("onnx", reason="needs the package onnx")
ort = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")


@dataclass
class Tiny:
    """A graph that grows node by node; methods return names of values."""

    opset: int = 17
    nodes: list[Any] = field(default_factory=list)
    arrays: dict[str, Any] = field(default_factory=dict)

    def array(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.arrays)}"
        self.arrays[name] = onnx.numpy_helper.from_array(np.asarray(values, dtype), name)
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attrs: Any) -> Any:
        names = [f"v{len(self.nodes)}_{at}" for at in range(outputs)]
        name = f"n{len(self.nodes)}"
        self.nodes.append(
            onnx.helper.make_node(kind, list(inputs), names, name=name, domain=domain, **attrs)
        )
        return names[0] if outputs == 1 else names

    def q(self, x: str, scale: Any, zero: Any = 0, dtype: Any = np.uint8, **attrs: Any) -> str:
        found = self.op("QuantizeLinear", x, self.array(scale), self.array(zero, dtype), **attrs)
        return str(found)

    def dq(self, x: str, scale: Any, zero: Any = 0, dtype: Any = np.uint8, **attrs: Any) -> str:
        found = self.op("DequantizeLinear", x, self.array(scale), self.array(zero, dtype), **attrs)
        return str(found)

    def qdq(self, x: str, scale: float, zero: int = 0, dtype: Any = np.uint8) -> str:
        return self.dq(self.q(x, scale, zero, dtype), scale, zero, dtype)

    def words(self, shape: Sequence[int], scale: Any, seed: int = 0, **options: Any) -> str:
        """Add random 8-bit weights behind a DequantizeLinear."""
        codes = np.random.default_rng(seed).integers(-127, 128, shape)
        zero = np.zeros(np.shape(scale), np.int8)
        return self.dq(self.array(codes, np.int8), scale, zero, np.int8, **options)

    def model(
        self,
        output: str | Sequence[str],
        shape: Sequence[Any] = ("n", 2, 6, 6),
        input_type: int = 1,
    ) -> Any:
        outputs = [output] if isinstance(output, str) else list(output)
        graph = onnx.helper.make_graph(
            self.nodes,
            "tiny",
            [onnx.helper.make_tensor_value_info("x", input_type, list(shape))],
            [onnx.helper.make_tensor_value_info(name, 1, None) for name in outputs],
            list(self.arrays.values()),
        )
        domains = [onnx.helper.make_opsetid("", self.opset)]
        domains.append(onnx.helper.make_opsetid("com.microsoft", 1))
        return onnx.helper.make_model(graph, opset_imports=domains, ir_version=9)

    def save(self, output: str | Sequence[str], path: Path, *args: Any, **options: Any) -> Path:
        path.write_bytes(self.model(output, *args, **options).SerializeToString())
        return path


def run_onnx(path: Path, images: Tensor, *, optimize: bool = True) -> Tensor:
    """Return the first output of onnxruntime, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return torch.from_numpy(np.asarray(session.run(None, {name: images.numpy()})[0]))


def images_of(*shape: int, seed: int = 0) -> Tensor:
    """Return random images in [0, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))
