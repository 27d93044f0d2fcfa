"""`Pad`, and the padding of windows that is not the same on both sides."""

from typing import Any

from torch.nn import functional

from bitproof.exchange.float_onnx.graph import Building
from bitproof.exchange.float_onnx.operands import Operands, array_at, refused, tensor_at
from bitproof.exchange.onnx_arguments import edges_of, padding_of
from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.onnx_windows import Windows


def pad(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Pad`."""
    x = tensor_at(node, operands)
    pads, given, axes = (array_at(node, operands, place) for place in (1, 2, 3))
    padding = padding_of(edges_of(node, pads, axes, x.ndim), x.ndim)
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(
        node.attrs.get("mode", "constant")
    )
    if mode is None:
        raise refused(node, f"no form for padding of mode {node.attrs['mode']}")
    value = float(node.attrs.get("value", 0.0) if given is None else given.reshape(-1)[0])
    plain: dict[str, Any] = {"value": value} if mode == "constant" else {}
    building.call(node, functional.pad, node.input(0), pad=padding, mode=mode, **plain)


def padded(building: Building, node: OnnxNode, move: Windows, value: float) -> str:
    """Append the padding of windows, and return the name of what is padded."""
    name, pad = f"{node.outputs[0]}/padded", move.as_pad()["padding"]
    building.call(node, functional.pad, node.input(0), gives=name, pad=pad, value=value)
    return name
