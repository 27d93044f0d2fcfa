"""The integer network once more, slow and obvious: loops over Python integers and single floats.

It reads nothing but `nodes`, `tensors`, `grids` and `rounding`, and shares no code with bitproof.
Beside it: the pretrained network and real images that several tests look at.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.data import Splits
from bitproof.data.cifar import Cifar10
from bitproof.models import ResNet20, load_weights
from bitproof.quant import Grid, IntegerNetwork, Node

Words = Any
"""A numpy array: int64 words, or float32 logits at the end."""
Reference = Callable[[IntegerNetwork, torch.Tensor], dict[str, Words]]
f32, f64 = np.float32, np.float64


@pytest.fixture(scope="session")
def reference() -> Reference:
    """Return the slow execution: network and images to the words of every node, by name."""
    return run_slowly


@pytest.fixture(scope="session")
def reference_logits(reference: Reference) -> Callable[[IntegerNetwork, torch.Tensor], Words]:
    """Return the slow execution: network and images to float32 logits."""

    def logits(network: IntegerNetwork, images: torch.Tensor) -> Words:
        name = network.nodes[-1].name
        last = reference(network, images)[name]
        if name not in network.grids:
            return last
        scale, point = step(network.grids[name])
        return (last - point).astype(f32) * f32(scale)

    return logits


@pytest.fixture(scope="session")
def cifar10(data_dir: Path) -> Splits:
    """Return real images: 256 for calibration, 100 for tests."""
    source = Cifar10(variant="mini", train_size=256, test_size=100, validation_fraction=0.0)
    return source.load(data_dir)


@pytest.fixture(scope="session")
def resnet20(data_dir: Path) -> nn.Module:
    """Return the pretrained ResNet-20."""
    blank = ResNet20().build(
        in_channels=3, image_size=32, n_classes=10, generator=make_generator(0)
    )
    return load_weights(blank, data_dir / "weights" / "resnet20-12fca82f.npz").eval()


def run_slowly(network: IntegerNetwork, images: torch.Tensor) -> dict[str, Words]:
    codes: dict[str, Words] = {}
    for node in network.nodes:
        wide = bool(node.inputs) and node.inputs[0] not in network.grids
        table = {**OPERATIONS, **ON_REALS} if wide else OPERATIONS
        codes[node.name] = table[node.op](Step(network, node, codes, images.numpy()))
    return codes


class Step:
    """What one node sees."""

    def __init__(
        self, network: IntegerNetwork, node: Node, codes: dict[str, Words], images: Words
    ) -> None:
        self.attrs, self.images, self.n = node.attrs, images, len(images)
        self.codes = [codes[name] for name in node.inputs]
        self.grids = [network.grids[name] for name in node.inputs if name in network.grids]
        self.out = network.grids.get(node.name)
        self.rounding = network.rounding
        owner = node.memory or node.name
        self.shares = owner != node.name
        self.stored = {key: network.tensors.get(f"{owner}.{key}") for key in ("weight", "bias")}

    def centered(self, index: int = 0) -> Words:
        """Return an operand minus its zero point, as Python integers."""
        return (self.codes[index].astype(np.int64) - step(self.grids[index])[1]).astype(object)

    def weight(self) -> Words:
        """Return the weight minus its zero point, as Python integers."""
        coded = self.stored["weight"]
        assert coded is not None
        codes = coded.codes.numpy().astype(np.int64)
        return (codes - spread(coded.grid.zero_point, coded.grid, codes.ndim)).astype(object)

    def real(self, key: str) -> Words:
        """Return the float32 values of a stored tensor, or None."""
        coded = self.stored[key]
        if coded is None:
            return None
        codes = coded.codes.numpy().astype(np.int64)
        centered = codes - spread(coded.grid.zero_point, coded.grid, codes.ndim)
        return centered.astype(f32) * spread(coded.grid.scale, coded.grid, codes.ndim)

    def accumulator_steps(self) -> Words:
        """Return the accumulator's step for each output channel, in float64."""
        coded = self.stored["weight"]
        assert coded is not None
        scales = coded.grid.scale.numpy().astype(f64).reshape(-1)
        return np.broadcast_to(scales * f64(step(self.grids[0])[0]), (len(coded.codes),))

    def bias(self) -> list[int]:
        """Return the bias in whole steps of the accumulator."""
        coded, steps = self.stored["bias"], self.accumulator_steps()
        if coded is None:
            return [0] * len(steps)
        if coded.grid.bits == 32 and not self.shares:  # else in steps of another accumulator
            return [int(code) for code in coded.codes]
        ratio = self.real("bias").astype(f64) / steps
        return [min(max(round(float(r)), -(2**31)), 2**31 - 1) for r in ratio]

    def requantize(self, accumulators: Words, steps: Words) -> Words:
        """Turn accumulators into words: one single-precision product, rounding, clamp."""
        scale = 1.0 if self.out is None else f64(step(self.out)[0])
        factors = (np.asarray(steps, f64) / scale).astype(f32)
        wrapped = np.vectorize(wrap, otypes=[np.int64])(accumulators)
        return self.cut(wrapped.astype(f32) * factors)

    def cut(self, values: Words) -> Words:
        """Turn values in output steps into words."""
        if self.out is None:
            assert "clamp" not in self.attrs
            return values
        scale, point = step(self.out)
        low, high = self.out.low, self.out.high
        bounds = self.attrs.get("clamp", (None, None))
        if bounds[0] is not None:
            low = min(max(low, round(bounds[0] / scale) + point), high)
        if bounds[1] is not None:
            high = max(min(high, round(bounds[1] / scale) + point), low)
        if self.rounding == "truncate":
            codes = np.trunc(values + values.dtype.type(point))
        else:
            codes = np.rint(values) + point
        return np.clip(codes, low, high).astype(np.int64)


def step(grid: Grid) -> tuple[float, int]:
    return float(grid.scale), int(grid.zero_point)


def spread(per_channel: torch.Tensor, grid: Grid, rank: int) -> Words:
    values = per_channel.numpy()
    return values if grid.axis is None else values.reshape([-1] + [1] * (rank - 1))


def wrap(value: int) -> int:
    return (int(value) + 2**31) % 2**32 - 2**31


def windows(
    shape: tuple[int, ...], out: list[int], kernel: list[int], attrs: dict[str, Any]
) -> Iterator[tuple[tuple[int, ...], list[tuple[tuple[int, ...], tuple[int, ...]]]]]:
    """Yield each output position with the (kernel index, input index) pairs inside the map."""
    dilation = attrs.get("dilation", [1] * len(kernel))
    for place in itertools.product(*(range(size) for size in out)):
        pairs = []
        for offset in itertools.product(*(range(size) for size in kernel)):
            at = tuple(
                p * s + o * d - pad
                for p, s, o, d, pad in zip(
                    place, attrs["stride"], offset, dilation, attrs["padding"], strict=True
                )
            )
            if all(0 <= a < size for a, size in zip(at, shape, strict=True)):
                pairs.append((offset, at))
        yield place, pairs


def out_sizes(shape: tuple[int, ...], kernel: list[int], attrs: dict[str, Any]) -> list[int]:
    sizes = []
    dilation = attrs.get("dilation", [1] * len(kernel))
    for size, k, s, p, d in zip(
        shape, kernel, attrs["stride"], attrs["padding"], dilation, strict=True
    ):
        reach = size + 2 * p - d * (k - 1) - 1
        count = (-(-reach // s) if attrs.get("ceil_mode") else reach // s) + 1
        if attrs.get("ceil_mode") and (count - 1) * s >= size + p:
            count -= 1
        sizes.append(count)
    return sizes


def take_input(s: Step) -> Words:
    images = s.images
    if "mean" in s.attrs:
        shape = [-1] + [1] * (images.ndim - 2)
        mean, std = (np.array(s.attrs[key], f32).reshape(shape) for key in ("mean", "std"))
        images = (images - mean) / std
    assert s.out is not None
    return s.cut(images * f32(1.0 / f64(step(s.out)[0])))


def conv(s: Step) -> Words:
    x, weight, bias = s.centered(), s.weight(), s.bias()
    kernel = list(weight.shape[2:])
    out = out_sizes(x.shape[2:], kernel, s.attrs)
    sums = np.empty((s.n, len(weight), *out), dtype=object)
    per_group, outs = weight.shape[1], len(weight) // s.attrs["groups"]
    for place, pairs in windows(x.shape[2:], out, kernel, s.attrs):
        for n, channel in itertools.product(range(s.n), range(len(weight))):
            total, first = bias[channel], channel // outs * per_group
            for offset, at in pairs:
                for c in range(per_group):
                    total += x[(n, first + c, *at)] * weight[(channel, c, *offset)]
            sums[(n, channel, *place)] = total
    return s.requantize(sums, s.accumulator_steps().reshape([-1] + [1] * len(kernel)))


def linear(s: Step) -> Words:
    x, weight, bias = s.centered(), s.weight(), s.bias()
    sums = np.empty((*x.shape[:-1], len(weight)), dtype=object)
    for place in itertools.product(*(range(size) for size in x.shape[:-1])):
        for k, row in enumerate(weight):
            sums[(*place, k)] = bias[k] + sum(a * b for a, b in zip(x[place], row, strict=True))
    return s.requantize(sums, s.accumulator_steps())


def affine(s: Step) -> Words:
    x, weight, bias = s.centered(), s.weight(), s.bias()
    sums = np.empty(x.shape, dtype=object)
    for place in np.ndindex(*x.shape):
        sums[place] = x[place] * weight[place[1]] + bias[place[1]]
    return s.requantize(sums, s.accumulator_steps().reshape([-1] + [1] * (x.ndim - 2)))


def matmul(s: Step) -> Words:
    a, b = s.centered(0), s.centered(1)
    outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, (*outer, *a.shape[-2:]))
    b = np.broadcast_to(b, (*outer, *b.shape[-2:]))
    sums = np.empty((*outer, a.shape[-2], b.shape[-1]), dtype=object)
    for place in np.ndindex(*sums.shape):
        *front, i, j = place
        row, column = a[(*front, i)], b[tuple(front)][:, j]
        sums[place] = sum(x * y for x, y in zip(row, column, strict=True))
    return s.requantize(sums, f64(step(s.grids[0])[0]) * f64(step(s.grids[1])[0]))


def scaled(s: Step, index: int) -> Words:
    assert s.out is not None
    ratio = f64(step(s.grids[index])[0]) / f64(step(s.out)[0])
    return s.centered(index).astype(f32) * f32(ratio)


def concat(s: Step) -> Words:
    parts = [scaled(s, index) for index in range(len(s.codes))]
    return s.cut(np.concatenate(parts, s.attrs["dim"]))


def mul(s: Step) -> Words:
    assert s.out is not None
    a, b = (s.centered(index).astype(f32) for index in (0, 1))
    ratio = f64(step(s.grids[0])[0]) * f64(step(s.grids[1])[0]) / f64(step(s.out)[0])
    return s.cut(a * b * f32(ratio))


def avg_pool(s: Step) -> Words:
    assert s.out is not None
    x, kernel = s.centered(), s.attrs["kernel"]
    out = out_sizes(x.shape[2:], kernel, s.attrs)
    sums = np.zeros((*x.shape[:2], *out), f32)
    for place, pairs in windows(x.shape[2:], out, kernel, s.attrs):
        for n, c in np.ndindex(*x.shape[:2]):
            sums[(n, c, *place)] = sum(x[(n, c, *at)] for _, at in pairs)
    ratio = f64(step(s.grids[0])[0]) / math.prod(kernel) / f64(step(s.out)[0])
    return s.cut(sums * f32(ratio))


def mean(s: Step) -> Words:
    assert s.out is not None
    x, axes = s.centered(), tuple(s.attrs["dims"])
    count = math.prod(x.shape[axis] for axis in axes)
    sums = x.sum(axis=axes, keepdims=s.attrs["keepdim"]).astype(f32)
    ratio = f32(f64(step(s.grids[0])[0]) / f64(step(s.out)[0]))
    return s.cut(sums * (ratio / f32(count)))


def softmax(s: Step) -> Words:
    assert s.out is not None
    axis, scale = s.attrs["dim"], step(s.grids[0])[0]
    x = np.moveaxis(s.centered(), axis, -1)
    result = np.empty(x.shape, f64)
    for place in np.ndindex(*x.shape[:-1]):
        powers = [round(2**20 * math.exp(-scale * (max(x[place]) - one))) for one in x[place]]
        result[place] = [power / sum(powers) / step(s.out)[0] for power in powers]
    return s.cut(np.moveaxis(result, -1, axis))


def norm(s: Step, rows: Words, place_of: Callable[[tuple[int, ...]], Any]) -> Words:
    """Standardize each row of integers; `place_of` finds an entry's weight and bias."""
    assert s.out is not None
    weight, bias, scale = s.real("weight"), s.real("bias"), step(s.grids[0])[0]
    result = np.empty(s.centered().shape, f64)
    flat = result.reshape(rows.shape)
    count = rows.shape[-1]
    for place in np.ndindex(*rows.shape[:-1]):
        row = [int(one) for one in rows[place]]
        spread_ = count * sum(one * one for one in row) - sum(row) ** 2
        root = math.sqrt(spread_ + s.attrs["eps"] * (count / scale) ** 2)
        flat[place] = [(count * one - sum(row)) / root for one in row]
    for place in np.ndindex(*result.shape):
        if weight is not None:
            result[place] *= f64(weight[place_of(place)])
        if bias is not None:
            result[place] += f64(bias[place_of(place)])
    return s.cut(result / step(s.out)[0])


def layer_norm(s: Step) -> Words:
    x, axes = s.centered(), s.attrs["axes"]
    return norm(s, x.reshape(*x.shape[:-axes], -1), lambda place: place[-axes:])


def group_norm(s: Step) -> Words:
    x = s.centered()
    return norm(s, x.reshape(s.n, s.attrs["groups"], -1), lambda place: place[1])


def gelu(x: float, approximate: str = "none") -> float:
    if approximate == "tanh":
        return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def clamp(x: float, **bounds: float) -> float:
    return min(max(x, bounds.get("min", -math.inf)), bounds.get("max", math.inf))


FUNCTIONS: dict[str, Callable[..., float]] = {
    "clamp": clamp,
    "gelu": gelu,
    "leaky_relu": lambda x, negative_slope=0.01: x if x > 0 else x * negative_slope,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "hardswish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "elu": lambda x, alpha=1.0: x if x > 0 else alpha * math.expm1(x),
    "abs": abs,
    "square": lambda x: x * x,
    "shift": lambda x, other: x + other,
    "multiply": lambda x, other: x * other,
}


def table(s: Step) -> Words:
    assert s.out is not None
    function, given = FUNCTIONS[s.attrs["function"]], s.attrs["parameters"]
    out, rounding = s.out, s.rounding
    s.rounding = "nearest"  # tables are filled once, always rounded
    scale, point = step(s.grids[0])
    codes = range(s.grids[0].low, s.grids[0].high + 1)
    values = [function(scale * (code - point), **given) / step(out)[0] for code in codes]
    entries = dict(zip(codes, s.cut(np.array(values, f64)), strict=True))
    s.rounding = rounding
    return np.vectorize(lambda code: entries[int(code)], otypes=[np.int64])(s.codes[0])


def max_pool(s: Step) -> Words:
    x, kernel = s.codes[0], s.attrs["kernel"]
    out = out_sizes(x.shape[2:], kernel, s.attrs)
    result = np.zeros((*x.shape[:2], *out), np.int64)
    for place, pairs in windows(x.shape[2:], out, kernel, s.attrs):
        for n, c in np.ndindex(*x.shape[:2]):
            result[(n, c, *place)] = max(x[(n, c, *at)] for _, at in pairs)
    return result


def pad(s: Step) -> Words:
    x, sizes = s.codes[0], s.attrs["padding"]
    pairs = [(sizes[2 * i], sizes[2 * i + 1]) for i in range(len(sizes) // 2)]
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    return np.pad(x, widths, constant_values=step(s.grids[0])[1])


def concrete(s: Step) -> list[int]:
    return [size[1] * s.n if isinstance(size, list) else size for size in s.attrs["shape"]]


def cut_out(s: Step) -> Words:
    index = s.attrs["index"]
    return s.codes[0][tuple(slice(*i) if isinstance(i, list) else i for i in index)]


def constant(s: Step) -> Words:
    coded = s.stored["weight"]
    assert coded is not None
    return coded.codes.numpy().astype(np.int64)


OPERATIONS: dict[str, Callable[[Step], Words]] = {
    "input": take_input,
    "constant": constant,
    "conv": conv,
    "linear": linear,
    "affine": affine,
    "matmul": matmul,
    "add": lambda s: s.cut(scaled(s, 0) + scaled(s, 1)),
    "sub": lambda s: s.cut(scaled(s, 0) - scaled(s, 1)),
    "mul": mul,
    "concat": concat,
    "requantize": lambda s: s.cut(scaled(s, 0)),
    "avg_pool": avg_pool,
    "mean": mean,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "table": table,
    "max_pool": max_pool,
    "pad": pad,
    "slice": cut_out,
    "reshape": lambda s: s.codes[0].reshape(concrete(s)),
    "expand": lambda s: np.broadcast_to(s.codes[0], concrete(s)),
    "permute": lambda s: s.codes[0].transpose(s.attrs["dims"]),
    "rescale": lambda s: s.codes[0],
}


def softmax_of_reals(s: Step) -> Words:
    powers = np.exp(s.codes[0].astype(f64) - s.codes[0].max(s.attrs["dim"], keepdims=True))
    return (powers / powers.sum(s.attrs["dim"], keepdims=True)).astype(f32)


ON_REALS: dict[str, Callable[[Step], Words]] = {
    "rescale": lambda s: s.codes[0] * f32(s.attrs["factor"]),
    "table": lambda s: (1 / (1 + np.exp(-s.codes[0].astype(f64)))).astype(f32),
    "softmax": softmax_of_reals,
}
"""What is another operation on real values, behind the last accumulators."""
