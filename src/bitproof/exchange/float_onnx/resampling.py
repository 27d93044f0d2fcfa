"""`Resize` and `Upsample`."""

from torch.nn import functional

from bitproof.exchange.float_onnx.graph import Building
from bitproof.exchange.float_onnx.operands import (
    Operands,
    array_at,
    refused,
    tensor_at,
)
from bitproof.exchange.onnx_arguments import resized
from bitproof.exchange.onnx_file import OnnxNode


def resize(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Resize` and `Upsample` as torch writes them."""
    x = tensor_at(node, operands)
    late = building.file.opset >= 11 and node.op == "Resize"
    scales = array_at(node, operands, 2 if late else 1)
    sizes = array_at(node, operands, 3) if late else None
    wanted, factors = resized(x.shape, node, scales, sizes)
    if wanted[1] != x.shape[1]:
        raise refused(node, "wanted other sizes of maps, got other numbers of channels")
    mode, how = (
        node.attrs.get("mode", "nearest"),
        node.attrs.get("coordinate_transformation_mode", "half_pixel" if late else "asymmetric"),
    )
    if int(node.attrs.get("antialias", 0)):
        raise refused(node, "no form for antialias")
    size, sources = wanted[2:], tuple(x.shape[2:])
    exact = all(new == old * by for new, old, by in zip(wanted, x.shape, factors, strict=True))
    if not (exact or (sizes is not None and sizes.size) or how == "align_corners"):
        raise refused(node, f"wanted factors that give whole sizes, got {factors}")
    if mode == "nearest":
        near = node.attrs.get("nearest_mode", "round_prefer_floor" if late else "floor")
        grows = all(new >= old for new, old in zip(size, sources, strict=True))
        whole = all(new % old == 0 for new, old in zip(size, sources, strict=True))
        plain = how == "asymmetric" and near == "floor" and (late or grows)
        if not (plain or (whole and "half_pixel" in how and near.startswith("round"))):
            raise refused(node, f"no form for {mode} places, {near}, with coordinates {how}")
        building.call(node, functional.interpolate, node.input(0), size=size, mode="nearest")
    elif mode == "linear" and how in {"half_pixel", "pytorch_half_pixel", "align_corners"}:
        name = {1: "linear", 2: "bilinear", 3: "trilinear"}[x.ndim - 2]
        corners = how == "align_corners"
        building.call(
            node,
            functional.interpolate,
            node.input(0),
            size=size,
            mode=name,
            align_corners=corners,
        )
    else:
        raise refused(node, f"no form for mode {mode} with coordinates {how}")
