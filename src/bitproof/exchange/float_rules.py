"""What each operator of a float ONNX graph is in torch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitproof.core.errors import ExchangeError
from bitproof.exchange.constant_folding import (
    axes_of,
    clip_bounds,
    reshaped,
    slices_of,
    whole_numbers,
)
from bitproof.exchange.float_graph import Building, Operand, Rule
from bitproof.exchange.onnx_file import Array, OnnxNode

Operands = Sequence[Operand]
CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
MAX_POOLS: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE_POOLS: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def _refuse(node: OnnxNode, problem: str) -> ExchangeError:
    return ExchangeError(f"{node.label}: {problem}")


def _tensor(node: OnnxNode, operands: Operands, place: int = 0) -> Tensor:
    value = operands[place] if place < len(operands) else None
    if not isinstance(value, Tensor):
        raise _refuse(node, f"wanted input {place} to depend on the images")
    return value


def _array(node: OnnxNode, operands: Operands, place: int) -> Array | None:
    value = operands[place] if place < len(operands) else None
    if isinstance(value, Tensor):
        raise _refuse(node, f"no form for input {place} that depends on the images")
    return value


def _arrays(node: OnnxNode, operands: Operands) -> list[Array | None]:
    return [None, *(_array(node, operands, place) for place in range(1, len(operands)))]


def _real(node: OnnxNode, operands: Operands, place: int) -> Tensor | None:
    """Return a weight, None where it is left out."""
    array = _array(node, operands, place)
    if array is None:
        return None
    found = torch.from_numpy(np.asarray(array, np.float32).copy())
    if not bool(found.isfinite().all()):
        raise _refuse(node, "wanted finite weights")
    return found


def _needed(node: OnnxNode, operands: Operands, place: int) -> Tensor:
    found = _real(node, operands, place)
    if found is None:
        raise _refuse(node, f"wanted input {place} to be a constant")
    return found


def _filled(layer: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """Return a layer with these parameters and buffers."""
    for name, tensor in tensors.items():
        if tensor is not None:
            target = getattr(layer, name)
            target.data = tensor.reshape(target.shape).clone()
    return layer


def _windows(
    node: OnnxNode, shape: Sequence[int], kernel: Sequence[int]
) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """Return strides, dilations and padding before and behind each axis."""
    rank = len(kernel)
    stride = [int(one) for one in node.attrs.get("strides", [1] * rank)]
    dilation = [int(one) for one in node.attrs.get("dilations", [1] * rank)]
    pads = [int(one) for one in node.attrs.get("pads", [0] * 2 * rank)]
    if len(shape) != rank + 2 or not len(stride) == len(dilation) == len(pads) // 2 == rank:
        raise _refuse(node, f"wanted maps and windows of {rank} axes, got {tuple(shape)}")
    pairs = list(zip(pads[:rank], pads[rank:], strict=True))
    auto = node.attrs.get("auto_pad", "NOTSET")
    if auto in {"SAME_UPPER", "SAME_LOWER"}:
        pairs = []
        for size, taps, step, gap in zip(shape[2:], kernel, stride, dilation, strict=True):
            total = max((-(-size // step) - 1) * step + gap * (taps - 1) + 1 - size, 0)
            less, more = total // 2, total - total // 2
            pairs.append((less, more) if auto == "SAME_UPPER" else (more, less))
    elif auto == "VALID":
        pairs = [(0, 0)] * rank
    return stride, dilation, pairs


def _padded(
    building: Building, node: OnnxNode, pairs: Sequence[tuple[int, int]], value: float
) -> str:
    """Append padding, and return the name of what is padded."""
    name = f"{node.outputs[0]}/padded"
    pad = [edge for pair in reversed(pairs) for edge in pair]
    building.call(node, functional.pad, node.input(0), gives=name, pad=pad, value=value)
    return name


def convolution(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Conv`."""
    x, weight, bias = _tensor(node, operands), _needed(node, operands, 1), _real(node, operands, 2)
    kernel, groups = list(weight.shape[2:]), int(node.attrs.get("group", 1))
    if (
        len(kernel) not in CONVOLUTIONS
        or x.ndim != weight.ndim
        or (x.shape[1] != weight.shape[1] * groups)
    ):
        raise _refuse(node, f"wanted maps for a weight of {tuple(weight.shape)}, got {x.shape}")
    stride, dilation, pairs = _windows(node, x.shape, kernel)
    source, padding = node.input(0), [before for before, _ in pairs]
    if any(before != after for before, after in pairs):
        source, padding = _padded(building, node, pairs, 0.0), [0] * len(kernel)
    layer = CONVOLUTIONS[len(kernel)](
        x.shape[1],
        len(weight),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bias=bias is not None,
    )
    building.layer(node, _filled(layer, weight=weight, bias=bias), source)


def transposed_convolution(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `ConvTranspose`."""
    x, weight, bias = _tensor(node, operands), _needed(node, operands, 1), _real(node, operands, 2)
    kernel, groups = list(weight.shape[2:]), int(node.attrs.get("group", 1))
    stride, dilation, pairs = _windows(node, x.shape, kernel)
    if any(before != after for before, after in pairs) or "output_shape" in node.attrs:
        raise _refuse(node, "no form for uneven padding or output_shape")
    extra = node.attrs.get("output_padding", [0] * len(kernel))
    layer = TRANSPOSED[len(kernel)](
        x.shape[1],
        weight.shape[1] * groups,
        kernel,
        stride,
        [before for before, _ in pairs],
        extra,
        groups,
        bias is not None,
        dilation,
    )
    building.layer(node, _filled(layer, weight=weight, bias=bias), node.input(0))


def gemm(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Gemm`."""
    _tensor(node, operands)
    weight, bias = _needed(node, operands, 1), _real(node, operands, 2)
    if int(node.attrs.get("transA", 0)):
        raise _refuse(node, "no form for a transposed first operand")
    rows = weight if int(node.attrs.get("transB", 0)) else weight.t()
    rows = rows * float(node.attrs.get("alpha", 1.0))
    if bias is not None:
        bias = (bias * float(node.attrs.get("beta", 1.0))).reshape(-1).expand(len(rows))
    layer = nn.Linear(rows.shape[1], rows.shape[0], bias=bias is not None)
    building.layer(node, _filled(layer, weight=rows, bias=bias), node.input(0))


def matmul(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `MatMul`; with a constant matrix, a linear layer."""
    right = operands[1]
    if isinstance(right, Tensor) or right is None or right.ndim != 2:
        names = building.operand(node, 0), building.operand(node, 1)
        building.call(node, torch.matmul, *names)
        return
    weight = _needed(node, operands, 1).t()
    bias = _bias_behind(building, node, len(weight))
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    building.layer(node, _filled(layer, weight=weight, bias=bias), node.input(0))


def _bias_behind(building: Building, node: OnnxNode, size: int) -> Tensor | None:
    """Return the vector that the one reader of a product adds, which then adds zeros no more."""
    readers = [one for one in building.file.nodes if node.outputs[0] in one.inputs]
    if len(readers) != 1 or readers[0].op != "Add" or node.outputs[0] in building.file.outputs:
        return None
    other = next((name for name in readers[0].inputs if name != node.outputs[0]), "")
    value = building.values.get(other)
    if not isinstance(value, np.ndarray) or value.shape not in {(size,), (1, size)}:
        return None
    building.added.add(readers[0].outputs[0])
    return torch.from_numpy(value.astype(np.float32).reshape(-1).copy())


def batch_norm(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `BatchNormalization`."""
    x = _tensor(node, operands)
    scale, shift, mean, var = (_needed(node, operands, place) for place in range(1, 5))
    rank = max(x.ndim - 2, 1)
    if rank not in NORMS:
        raise _refuse(node, f"no form for {x.ndim} axes")
    layer = NORMS[rank](
        x.shape[1],
        eps=float(node.attrs.get("epsilon", 1e-5)),
        momentum=1 - float(node.attrs.get("momentum", 0.9)),
    )
    tensors = {"weight": scale, "bias": shift, "running_mean": mean, "running_var": var}
    building.layer(node, _filled(layer, **tensors), node.input(0))


def instance_norm(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `InstanceNormalization`: a group norm with one channel in a group."""
    x, weight, bias = _tensor(node, operands), _needed(node, operands, 1), _real(node, operands, 2)
    layer = nn.GroupNorm(x.shape[1], x.shape[1], float(node.attrs.get("epsilon", 1e-5)))
    building.layer(node, _filled(layer, weight=weight, bias=bias), node.input(0))


def layer_norm(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `LayerNormalization`."""
    x = _tensor(node, operands)
    axis = int(node.attrs.get("axis", -1)) % x.ndim
    weight, bias = _needed(node, operands, 1), _real(node, operands, 2)
    eps = float(node.attrs.get("epsilon", 1e-5))
    layer = nn.LayerNorm(list(x.shape[axis:]), eps=eps, bias=bias is not None)
    building.layer(node, _filled(layer, weight=weight, bias=bias), node.input(0))


def max_pool(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `MaxPool`."""
    x, kernel = _tensor(node, operands), [int(one) for one in node.attrs["kernel_shape"]]
    stride, dilation, pairs = _windows(node, x.shape, kernel)
    ceil = bool(node.attrs.get("ceil_mode", 0))
    source, padding = node.input(0), [before for before, _ in pairs]
    if any(before != after for before, after in pairs):
        source, padding = _padded(building, node, pairs, -math.inf), [0] * len(kernel)
    layer = MAX_POOLS[len(kernel)](kernel, stride, padding, dilation, ceil_mode=ceil)
    building.layer(node, layer, source)


def average_pool(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `AveragePool`."""
    x, kernel = _tensor(node, operands), [int(one) for one in node.attrs["kernel_shape"]]
    stride, dilation, pairs = _windows(node, x.shape, kernel)
    counts = bool(node.attrs.get("count_include_pad", 0))
    if any(gap != 1 for gap in dilation):
        raise _refuse(node, "no form for dilations")
    source, padding = node.input(0), [before for before, _ in pairs]
    if any(before != after for before, after in pairs):
        if not counts:
            raise _refuse(node, "no form for uneven padding that does not count")
        source, padding = _padded(building, node, pairs, 0.0), [0] * len(kernel)
    ceil = bool(node.attrs.get("ceil_mode", 0))
    layer = AVERAGE_POOLS[len(kernel)](kernel, stride, padding, ceil, counts)
    building.layer(node, layer, source)


def reduction(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read means, sums, maxima and minima over axes."""
    x = _tensor(node, operands)
    if node.op.startswith("Global"):
        dims, keeps = list(range(2, x.ndim)), True
    else:
        given = axes_of(node, _arrays(node, operands), x.ndim)
        dims, keeps = given or list(range(x.ndim)), bool(node.attrs.get("keepdims", 1))
    functions: dict[str, Callable[..., Any]] = {
        "GlobalAveragePool": torch.mean,
        "GlobalMaxPool": torch.amax,
        "ReduceMean": torch.mean,
        "ReduceSum": torch.sum,
        "ReduceMax": torch.amax,
        "ReduceMin": torch.amin,
    }
    building.call(node, functions[node.op], node.input(0), dim=dims, keepdim=keeps)


def activation(make: Callable[[OnnxNode], nn.Module]) -> Rule:
    """Return the rule of a layer without weights."""

    def rule(building: Building, node: OnnxNode, operands: Operands) -> None:
        _tensor(node, operands)
        building.layer(node, make(node), node.input(0))

    return rule


def function(called: Callable[..., Any]) -> Rule:
    """Return the rule of a function of one operand."""

    def rule(building: Building, node: OnnxNode, operands: Operands) -> None:
        _tensor(node, operands)
        building.call(node, called, node.input(0))

    return rule


def hard_sigmoid(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `HardSigmoid`, whose slope may be another than torch's."""
    _tensor(node, operands)
    slope, middle = float(node.attrs.get("alpha", 0.2)), float(node.attrs.get("beta", 0.5))
    if math.isclose(slope, 1 / 6, rel_tol=1e-5) and middle == 0.5:
        building.layer(node, nn.Hardsigmoid(), node.input(0))
        return
    scaled, moved = (f"{node.outputs[0]}/{part}" for part in ("scaled", "moved"))
    building.call(node, torch.mul, node.input(0), gives=scaled, other=slope)
    building.call(node, torch.add, scaled, gives=moved, other=middle)
    building.call(node, torch.clamp, moved, min=0.0, max=1.0)


def clip(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Clip`."""
    _tensor(node, operands)
    low, high = clip_bounds(node, _arrays(node, operands))
    if (low, high) == (0.0, 6.0):
        building.layer(node, nn.ReLU6(), node.input(0))
    elif (low, high) == (0.0, None):
        building.layer(node, nn.ReLU(), node.input(0))
    elif (low, high) == (None, None):
        building.call(node, torch.clone, node.input(0))
    else:
        building.call(node, torch.clamp, node.input(0), min=low, max=high)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Pow": torch.pow,
}


def binary(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read an elementwise operator of two inputs."""
    if len(operands) != 2:
        raise _refuse(node, f"wanted two inputs, got {len(operands)}")
    if node.op == "Add" and node.outputs[0] in building.added:
        source = next(n for n, one in zip(node.inputs, operands, strict=True) if _varies(one))
        building.call(node, _as_it_is, source)
        return
    for place, other in ((0, 1), (1, 0)):
        value = operands[other]
        if value is not None and not isinstance(value, Tensor) and value.size == 1:
            number = float(value.reshape(-1)[0])
            keywords = _with_number(node.op, number, second=other == 1)
            if keywords is not None:
                called = torch.clamp if node.op in {"Max", "Min"} else FUNCTIONS[node.op]
                building.call(node, called, node.input(place), **keywords)
                return
    names = building.operand(node, 0), building.operand(node, 1)
    building.call(node, FUNCTIONS[node.op], *names)


def _with_number(op: str, number: float, *, second: bool) -> dict[str, Any] | None:
    """Return what an operator with a number takes; None where it takes two tensors."""
    if op in {"Max", "Min"}:
        return {"min" if op == "Max" else "max": number}
    if op == "Pow":
        return {"exponent": number} if second else None
    return {"other": number} if second or op in {"Add", "Mul"} else None


def _varies(one: Operand) -> bool:
    return isinstance(one, Tensor)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def concat(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Concat`."""
    rank = next(one.ndim for one in operands if one is not None)
    names = [building.operand(node, place) for place in range(len(operands))]
    building.call(node, _concatenated, *names, dim=int(node.attrs["axis"]) % rank)


def _concatenated(*parts: Tensor, dim: int) -> Tensor:
    return torch.cat(parts, dim)


def _reshaped(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape(shape)


def _permuted(x: Tensor, dims: list[int]) -> Tensor:
    return x.permute(dims)


def _indexed(x: Tensor, index: tuple[Any, ...]) -> Tensor:
    return x[index]


def _taken(x: Tensor, dim: int, index: Tensor) -> Tensor:
    return torch.index_select(x, dim, index)


def _expanded(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.expand(shape)


def _to_shape(building: Building, node: OnnxNode, sizes: Sequence[int]) -> None:
    building.call(node, _reshaped, node.input(0), shape=[int(size) for size in sizes])


def reshape(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Reshape`."""
    x = _tensor(node, operands)
    wanted = whole_numbers(_array(node, operands, 1), node)
    keeps = not node.attrs.get("allowzero")
    wanted = [x.shape[at] if one == 0 and keeps else one for at, one in enumerate(wanted)]
    fixed = building.file.inputs[0].shape[0]
    if fixed and wanted and wanted[0] == fixed and math.prod(wanted) != x.numel():
        wanted[0] = len(x)  # a file for some number of images
    _to_shape(building, node, reshaped(tuple(x.shape), node, wanted))


def flatten(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Flatten`."""
    x = _tensor(node, operands)
    axis = int(node.attrs.get("axis", 1)) % (x.ndim + 1)
    if axis == 1:
        building.layer(node, nn.Flatten(), node.input(0))
        return
    _to_shape(building, node, [math.prod(x.shape[:axis]), math.prod(x.shape[axis:])])


def squeeze(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Squeeze`."""
    x = _tensor(node, operands)
    axes = axes_of(node, _arrays(node, operands), x.ndim)
    axes = [at for at, size in enumerate(x.shape) if size == 1] if axes is None else axes
    _to_shape(building, node, [size for at, size in enumerate(x.shape) if at not in axes])


def unsqueeze(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Unsqueeze`."""
    x, arrays, shape = _tensor(node, operands), _arrays(node, operands), []
    given = node.attrs.get("axes", [] if len(arrays) < 2 or arrays[1] is None else arrays[1])
    shape = list(x.shape)
    for axis in sorted(axes_of(node, arrays, x.ndim + len(given)) or []):
        shape.insert(axis, 1)
    _to_shape(building, node, shape)


def transpose(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Transpose`."""
    x = _tensor(node, operands)
    dims = [int(one) for one in node.attrs.get("perm", range(x.ndim)[::-1])]
    building.call(node, _permuted, node.input(0), dims=dims)


def slices(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Slice`."""
    x = _tensor(node, operands)
    found = slices_of(node, _arrays(node, operands), x.ndim)
    parts: list[Any] = []
    for axis, size in enumerate(x.shape):
        part = found.get(axis, slice(None))
        places = range(*part.indices(size))
        if axis == 0 and len(places) != size:
            raise _refuse(node, "wanted a part of each image, got a part of the batch")
        if places.step < 0:
            raise _refuse(node, "no form for steps backwards")
        whole = axis == 0 or places == range(size)
        parts.append(slice(None) if whole else slice(places.start, places.stop, places.step))
    building.call(node, _indexed, node.input(0), index=tuple(parts))


def split(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Split`."""
    x = _tensor(node, operands)
    axis = int(node.attrs.get("axis", 0)) % x.ndim
    sizes = node.attrs.get("split")
    if sizes is None and len(operands) > 1:
        sizes = whole_numbers(_array(node, operands, 1), node)
    if sizes is None:
        each = -(-x.shape[axis] // len(node.outputs))
        sizes = [min(each, x.shape[axis] - at * each) for at in range(len(node.outputs))]
    if sum(sizes) != x.shape[axis] or axis == 0:
        raise _refuse(node, f"wanted parts of axis {axis} of {tuple(x.shape)}, got {sizes}")
    start = 0
    for name, size in zip(node.outputs, sizes, strict=True):
        index = (*[slice(None)] * axis, slice(start, start + int(size)))
        building.call(node, _indexed, node.input(0), gives=name, index=index)
        start += int(size)


def gather(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read a `Gather` of constant places."""
    x, places = _tensor(node, operands), _array(node, operands, 1)
    axis = int(node.attrs.get("axis", 0)) % x.ndim
    index = [place % x.shape[axis] for place in whole_numbers(places, node)]
    assert places is not None
    if axis == 0:
        raise _refuse(node, "wanted a choice within each image, got one of images")
    if places.ndim == 0:
        building.call(node, _indexed, node.input(0), index=(*[slice(None)] * axis, index[0]))
    elif places.ndim == 1:
        building.call(node, _taken, node.input(0), dim=axis, index=torch.tensor(index))
    else:
        raise _refuse(node, "wanted places along one axis")


def expand(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Expand`."""
    x = _tensor(node, operands)
    wanted = whole_numbers(_array(node, operands, 1), node)
    sizes = np.broadcast_shapes(tuple(x.shape), tuple(wanted))
    building.call(node, _expanded, node.input(0), shape=[int(one) for one in sizes])


def pad(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Pad`."""
    x = _tensor(node, operands)
    edges = node.attrs.get("pads")
    if edges is None:
        edges = whole_numbers(_array(node, operands, 1), node)
    axes = list(range(x.ndim))
    if len(operands) > 3 and operands[3] is not None:
        axes = [one % x.ndim for one in whole_numbers(_array(node, operands, 3), node)]
    if len(edges) != 2 * len(axes):
        raise _refuse(node, f"wanted two numbers for each of {len(axes)} axes, got {len(edges)}")
    pairs = dict(zip(axes, zip(edges[: len(axes)], edges[len(axes) :], strict=True), strict=True))
    padding = [int(edge) for axis in range(x.ndim)[::-1] for edge in pairs.get(axis, (0, 0))]
    while padding and not any(padding[-2:]):
        padding = padding[:-2]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(
        node.attrs.get("mode", "constant")
    )
    if mode is None:
        raise _refuse(node, f"no form for padding of mode {node.attrs['mode']}")
    given = _array(node, operands, 2)
    value = float(node.attrs.get("value", 0.0) if given is None else given.reshape(-1)[0])
    plain: dict[str, Any] = {"value": value} if mode == "constant" else {}
    building.call(node, functional.pad, node.input(0), pad=padding, mode=mode, **plain)


def softmax(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Softmax` and `LogSoftmax`."""
    x = _tensor(node, operands)
    late = building.file.opset >= 13
    axis = int(node.attrs.get("axis", -1 if late else 1)) % x.ndim
    if not late and axis != x.ndim - 1:
        raise _refuse(node, "no form for a softmax over several axes")
    kind = nn.Softmax if node.op == "Softmax" else nn.LogSoftmax
    building.layer(node, kind(axis), node.input(0))


def resize(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read `Resize` and `Upsample` as torch writes them."""
    x = _tensor(node, operands)
    late = building.file.opset >= 11 and node.op == "Resize"
    scales = _array(node, operands, 2 if late else 1)
    sizes = _array(node, operands, 3) if late else None
    if sizes is not None and sizes.size:
        wanted = whole_numbers(sizes, node)
    elif scales is not None and scales.size == x.ndim:
        factors = [float(one) for one in scales.reshape(-1)]
        wanted = [math.floor(n * f) for n, f in zip(x.shape, factors, strict=True)]
    else:
        raise _refuse(node, "wanted a size or a factor for each axis")
    if wanted[1] != x.shape[1]:
        raise _refuse(node, "wanted other sizes of maps, got other numbers of channels")
    mode, how = (
        node.attrs.get("mode", "nearest"),
        node.attrs.get("coordinate_transformation_mode", "half_pixel" if late else "asymmetric"),
    )
    size = wanted[2:]
    if mode == "nearest":
        simple = how == "asymmetric" and node.attrs.get("nearest_mode", "floor") == "floor"
        whole = all(new % old == 0 for new, old in zip(size, x.shape[2:], strict=True))
        if not (simple or whole):
            raise _refuse(node, f"no form for {mode} places with coordinates {how}")
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
        raise _refuse(node, f"no form for mode {mode} with coordinates {how}")


def cast(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read a `Cast` between floats."""
    _tensor(node, operands)
    if int(node.attrs.get("to", 1)) not in {1, 10, 11}:
        raise _refuse(node, "no form for a cast to integers")
    building.call(node, _as_it_is, node.input(0))


def same(building: Building, node: OnnxNode, operands: Operands) -> None:
    """Read what hands on its input."""
    _tensor(node, operands)
    building.call(node, _as_it_is, node.input(0))


def _alpha(node: OnnxNode, default: float) -> float:
    return float(node.attrs.get("alpha", default))


RULES: dict[str, Rule] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    **dict.fromkeys(
        (
            *("GlobalAveragePool", "GlobalMaxPool"),
            *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"),
        ),
        reduction,
    ),
    "Relu": activation(lambda _: nn.ReLU()),
    "Sigmoid": activation(lambda _: nn.Sigmoid()),
    "Tanh": activation(lambda _: nn.Tanh()),
    "HardSwish": activation(lambda _: nn.Hardswish()),
    "HardSigmoid": hard_sigmoid,
    "LeakyRelu": activation(lambda node: nn.LeakyReLU(_alpha(node, 0.01))),
    "Elu": activation(lambda node: nn.ELU(_alpha(node, 1.0))),
    "Celu": activation(lambda node: nn.CELU(_alpha(node, 1.0))),
    "Gelu": activation(lambda node: nn.GELU(str(node.attrs.get("approximate", "none")))),
    "Softplus": activation(lambda _: nn.Softplus()),
    "Softsign": activation(lambda _: nn.Softsign()),
    "Mish": activation(lambda _: nn.Mish()),
    "Clip": clip,
    "Erf": function(torch.erf),
    "Exp": function(torch.exp),
    "Log": function(torch.log),
    "Sqrt": function(torch.sqrt),
    "Abs": function(torch.abs),
    "Neg": function(torch.neg),
    "Reciprocal": function(torch.reciprocal),
    **dict.fromkeys(FUNCTIONS, binary),
    "Concat": concat,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Slice": slices,
    "Split": split,
    "Gather": gather,
    "Expand": expand,
    "Pad": pad,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "Resize": resize,
    "Upsample": resize,
    "Cast": cast,
    "Identity": same,
    "Dropout": same,
}
"""Every operator that has a form in torch."""
