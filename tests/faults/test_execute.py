"""One node with broken bits against loops over Python integers that share no code with bitproof."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitproof.core.errors import FaultListError
from bitproof.faults.broken_bits import BrokenBit, break_bit
from bitproof.faults.execute import (
    break_words,
    broken_memory,
    check_faults,
    faults_by_node,
    faulty_element,
    faulty_node,
    window,
)
from bitproof.faults.registers import product_bits
from bitproof.faults.table import ACTIONS, WORD_SITES, FaultTable
from bitproof.quant import CodedTensor, Grid, IntegerNetwork, Node

Fault = tuple[str, int, int, int, str]
"""Site, element, tap, bit, action."""
Draw = Callable[[st.SearchStrategy[Any]], Any]
"""Draws in the body of a test: beartype uses random numbers, which strategies may not."""
f32 = np.float32
REGISTERS = ("operand", "weight_operand", "product", "accumulator")


# The slow execution.


def strike(word: int, width: int, fault: Fault, *, signed: bool) -> int:
    digits = [(word >> place) & 1 for place in range(width)]
    *_, bit, action = fault
    digits[bit] = {"flip": 1 - digits[bit], "stuck0": 0, "stuck1": 1}[action]
    value = sum(digit << place for place, digit in enumerate(digits))
    return value - 2**width if signed and digits[-1] else value


def strike_all(codes: list[int], grid: Grid, faults: list[Fault]) -> list[int]:
    struck = list(codes)
    for fault in faults:
        struck[fault[1]] = strike(struck[fault[1]], grid.bits, fault, signed=grid.signed)
    return struck


def per_channel(values: Tensor, channel: int) -> Any:
    flat = values.numpy().reshape(-1)
    return flat[channel] if len(flat) > 1 else flat[0]


def width_of_products(read: Grid, weight: Grid) -> int:
    lefts = [abs(end - int(read.zero_point)) for end in (read.low, read.high)]
    points = [int(point) for point in weight.zero_point.reshape(-1)]
    rights = [abs(end - point) for end in (weight.low, weight.high) for point in points]
    width = 1
    while max(lefts) * max(rights) > 2 ** (width - 1) - 1:
        width += 1
    return width


@dataclass(frozen=True)
class Layer:
    """A network of one layer, and images that it reads."""

    network: IntegerNetwork
    codes: Tensor

    @property
    def node(self) -> Node:
        return self.network.nodes[-1]

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape for one image."""
        weight, inside = self.network.tensors["y.weight"].codes, self.codes.shape[1:]
        if self.node.op == "linear":
            return (*inside[:-1], len(weight))
        attrs = self.node.attrs
        sizes = [
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, p, d, k, s in zip(
                inside[1:],
                attrs["padding"],
                attrs["dilation"],
                weight.shape[2:],
                attrs["stride"],
                strict=True,
            )
        ]
        return (len(weight), *sizes)

    def counts(self, site: str) -> tuple[int, int, int]:
        """Return elements, taps and bits of a site, (0, ..) where there is none."""
        weight, bias = self.network.tensors["y.weight"], self.network.tensors.get("y.bias")
        read, out = self.network.grids["x"], self.network.grids.get("y")
        outs, taps = math.prod(self.out_shape), weight.codes[0].numel()
        return {
            "weight": (weight.codes.numel(), 0, weight.grid.bits),
            "bias": (0, 0, 0) if bias is None else (bias.codes.numel(), 0, bias.grid.bits),
            "activation": (0, 0, 0) if out is None else (outs, 0, out.bits),
            "output": (0, 0, 0) if out is None else (outs, 0, out.bits),
            "input": (self.codes[0].numel(), 0, read.bits),
            "operand": (outs, taps, read.bits),
            "weight_operand": (outs, taps, weight.grid.bits),
            "product": (outs, taps, width_of_products(read, weight.grid)),
            "accumulator": (outs, 0, 32),
        }[site]

    def fast(self, faults: list[Fault]) -> Tensor:
        return faulty_node(
            self.network, self.node, [self.codes], torch.zeros(len(self.codes), 1), strikes(faults)
        )


def strikes(faults: list[Fault]) -> dict[str, list[BrokenBit]]:
    rows = [(0, site, "y", element, tap, bit, act) for site, element, tap, bit, act in faults]
    return faults_by_node(FaultTable.from_rows(rows)).get("y", {})


def taps_of(layer: Layer, element: int) -> tuple[int, list[int | None]]:
    """Return the channel of an element and, by tap, the flat input index (None: padding)."""
    shape, inside = layer.out_shape, tuple(layer.codes.shape[1:])
    weight = layer.network.tensors["y.weight"].codes
    place = [int(i) for i in np.unravel_index(element, shape)]
    if layer.node.op == "linear":
        *front, channel = place
        start = 0
        for size, at in zip(inside[:-1], front, strict=True):
            start = start * size + at
        return channel, [start * inside[-1] + tap for tap in range(inside[-1])]
    channel, *position = place
    attrs, found = layer.node.attrs, []
    per_group = len(weight) // attrs["groups"]
    for c, *offset in itertools.product(*(range(size) for size in weight.shape[1:])):
        index: int | None = channel // per_group * weight.shape[1] + c
        for size, at, o, s, d, p in zip(
            inside[1:],
            position,
            offset,
            attrs["stride"],
            attrs["dilation"],
            attrs["padding"],
            strict=True,
        ):
            where = at * s + o * d - p
            index = index * size + where if index is not None and 0 <= where < size else None
        found.append(index)
    return channel, found


def bias_step(layer: Layer, stored: list[int], channel: int) -> int:
    """Return a bias in steps of the accumulator."""
    if not stored:
        return 0
    grid = layer.network.tensors["y.bias"].grid
    if grid.bits == 32:
        return stored[channel]
    real = f32(stored[channel] - int(per_channel(grid.zero_point, channel)))
    real = real * f32(per_channel(grid.scale, channel))
    weight = float(per_channel(layer.network.tensors["y.weight"].grid.scale, channel))
    step = weight * float(layer.network.grids["x"].scale)
    return min(max(round(float(real) / step), -(2**31)), 2**31 - 1)


def requantize(layer: Layer, total: int, channel: int) -> float:
    weight, out = layer.network.tensors["y.weight"].grid, layer.network.grids.get("y")
    step = float(per_channel(weight.scale, channel)) * float(layer.network.grids["x"].scale)
    if out is None:
        return float(f32(total) * f32(step))
    point = int(out.zero_point)
    value = f32(total) * f32(step / float(out.scale))
    if layer.network.rounding == "truncate":
        word = math.trunc(float(value + f32(point)))
    else:
        word = round(float(value)) + point
    low, high = out.low, out.high
    if "clamp" in layer.node.attrs:
        low = max(low, point)
    return min(max(word, low), high)


def slow(layer: Layer, faults: list[Fault]) -> list[list[float]]:
    """Return the output of each image, flat."""
    by_site: dict[str, list[Fault]] = {
        site: [one for one in faults if one[0] == site] for site in WORD_SITES
    }
    coded, bias = layer.network.tensors["y.weight"], layer.network.tensors.get("y.bias")
    read, out = layer.network.grids["x"], layer.network.grids.get("y")
    weights = strike_all(coded.codes.flatten().tolist(), coded.grid, by_site["weight"])
    biases = [] if bias is None else strike_all(bias.codes.tolist(), bias.grid, by_site["bias"])
    taps = coded.codes[0].numel()
    width = width_of_products(read, coded.grid)
    results = []
    for image in layer.codes:
        codes = strike_all(image.flatten().tolist(), read, by_site["input"])
        result: list[Any] = []
        for element in range(math.prod(layer.out_shape)):
            mine = {site: [one for one in by_site[site] if one[1] == element] for site in REGISTERS}
            channel, sources = taps_of(layer, element)
            total = bias_step(layer, biases, channel)
            for tap, source in enumerate(sources):
                hits = {site: [one for one in mine[site] if one[2] == tap] for site in REGISTERS}
                a = int(read.zero_point) if source is None else codes[source]
                b = weights[channel * taps + tap]
                for fault in hits["operand"]:
                    a = strike(a, read.bits, fault, signed=read.signed)
                for fault in hits["weight_operand"]:
                    b = strike(b, coded.grid.bits, fault, signed=coded.grid.signed)
                point = int(per_channel(coded.grid.zero_point, channel))
                product = (a - int(read.zero_point)) * (b - point)
                for fault in hits["product"]:
                    product = strike(product, width, fault, signed=True)
                total += product
            total = (total + 2**31) % 2**32 - 2**31
            for fault in mine["accumulator"]:
                total = strike(total, 32, fault, signed=True)
            result.append(requantize(layer, total, channel))
        for site in ("activation", "output"):
            if by_site[site]:
                assert out is not None
                result = strike_all(result, out, by_site[site])
        results.append(result)
    return results


# Random layers.


def draw_grid(draw: Draw, *, channels: int = 0) -> Grid:
    """Draw a grid with any zero point, also outside the word; per channel, if there are any."""
    bits, signed = draw(st.integers(2, 8)), draw(st.booleans())
    number = channels if channels and draw(st.booleans()) else 0
    points = draw(st.lists(st.integers(-300, 300), min_size=number or 1, max_size=number or 1))
    powers = draw(st.lists(st.integers(0, 300), min_size=number or 1, max_size=number or 1))
    scales = [10 ** (-power / 100) for power in powers]
    zero, scale = torch.tensor(points, dtype=torch.int32), torch.tensor(scales)
    if number:
        return Grid(scale, zero, bits, signed, 0)
    return Grid(scale[0], zero[0], bits, signed)


def coded(grid: Grid, shape: tuple[int, ...], generator: torch.Generator) -> CodedTensor:
    codes = torch.randint(grid.low, grid.high + 1, shape, generator=generator).to(grid.dtype)
    return CodedTensor(codes, grid)


def draw_layer(draw: Draw, *, quantized: bool | None = None) -> Layer:
    """Draw a convolution over one or two axes, of any groups, or a linear layer."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    axes = draw(st.sampled_from((0, 1, 2)))
    attrs: dict[str, Any] = {}
    if axes:
        groups = draw(st.integers(1, 3))
        ins, outs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
        kernel = draw(st.lists(st.integers(1, 3), min_size=axes, max_size=axes))
        attrs = {
            key: draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))
            for key, low, high in (("stride", 1, 3), ("padding", 0, 2), ("dilation", 1, 2))
        }
        reach = [d * (k - 1) + 1 for d, k in zip(attrs["dilation"], kernel, strict=True)]
        sizes = [
            max(draw(st.integers(1, 5)), r - 2 * p)
            for r, p in zip(reach, attrs["padding"], strict=True)
        ]
        attrs["groups"] = groups
        inside, stored = (ins, *sizes), (outs, ins // groups, *kernel)
    else:
        front = draw(st.lists(st.integers(1, 3), max_size=2))
        features, outs = draw(st.integers(1, 6)), draw(st.integers(1, 4))
        inside, stored = (*front, features), (outs, features)
    if draw(st.booleans()):
        attrs["clamp"] = [0.0, None]
    keep = draw(st.booleans()) if quantized is None else quantized
    read, out = draw_grid(draw), draw_grid(draw)
    weight = coded(draw_grid(draw, channels=outs), stored, generator)
    tensors = {"y.weight": weight}
    kind = draw(st.sampled_from(("none", "narrow", "wide", "huge")))
    if kind == "narrow":
        tensors["y.bias"] = coded(draw_grid(draw, channels=outs), (outs,), generator)
    elif kind != "none":
        high = 2**31 if kind == "huge" else 1000
        scale = weight.grid.scale * read.scale
        grid = Grid(scale, torch.zeros_like(scale, dtype=torch.int32), 32, True, weight.grid.axis)
        codes = torch.randint(-high, high, (outs,), generator=generator)
        if kind == "huge":
            codes[::2] = 2**31 - 1 - codes[::2].abs() % 1000  # almost any sum wraps
        tensors["y.bias"] = CodedTensor(codes.to(torch.int32), grid)
    known = {"x": read, "y": out} if keep else {"x": read}
    if not keep:
        attrs.pop("clamp", None)
    nodes = (Node("x", "input"), Node("y", "conv" if axes else "linear", ("x",), attrs))
    rounding = draw(st.sampled_from(("nearest", "truncate")))
    network = IntegerNetwork(nodes, tensors, known, rounding)
    codes = coded(read, (2, *inside), generator).codes
    return Layer(network, codes)


def draw_struck(draw: Draw, sites: tuple[str, ...] = WORD_SITES) -> tuple[Layer, list[Fault]]:
    """Draw a layer and faults of which several share a word."""
    layer = draw_layer(draw)
    able = [site for site in sites if layer.counts(site)[0]]
    faults: list[Fault] = []
    for site in draw(st.lists(st.sampled_from(able), max_size=6)) if able else ():
        codes, taps, bits = layer.counts(site)
        same = [fault for fault in faults if fault[0] == site]
        if same and draw(st.booleans()):
            _, element, tap, *_ = same[-1]
        else:
            element = draw(st.integers(0, codes - 1))
            tap = draw(st.integers(0, taps - 1)) if taps else -1
        bit, action = draw(st.integers(0, bits - 1)), draw(st.sampled_from(ACTIONS))
        faults.append((site, element, tap, bit, action))
    return layer, faults


def check(layer: Layer, faults: list[Fault]) -> None:
    result = layer.fast(faults)
    assert tuple(result.shape[1:]) == layer.out_shape
    assert result.flatten(1).tolist() == slow(layer, faults)


# The tests.


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_node_with_any_faults_equals_the_slow_one(data: st.DataObject) -> None:
    check(*draw_struck(data.draw))


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_a_node_with_any_faults_equals_the_slow_one_often(data: st.DataObject) -> None:
    check(*draw_struck(data.draw))


@pytest.mark.parametrize("site", WORD_SITES)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_every_site_and_action_equals_the_slow_one(site: str, data: st.DataObject) -> None:
    layer = draw_layer(data.draw, quantized=True)
    codes, taps, bits = layer.counts(site)
    for action in ACTIONS if codes else ():
        element = data.draw(st.integers(0, codes - 1))
        tap = data.draw(st.integers(0, taps - 1)) if taps else -1
        check(layer, [(site, element, tap, data.draw(st.integers(0, bits - 1)), action)])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_one_element_alone_equals_the_slow_one(data: st.DataObject) -> None:
    layer, faults = draw_struck(data.draw, REGISTERS)
    element = data.draw(st.integers(0, math.prod(layer.out_shape) - 1))
    own = [(site, element, tap, bit, action) for site, _, tap, bit, action in faults]
    result = faulty_element(layer.network, layer.node, layer.codes, element, strikes(own))
    assert result.tolist() == [image[element] for image in slow(layer, own)]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_window_holds_what_the_sum_reads(data: st.DataObject) -> None:
    layer = draw_layer(data.draw)
    element = data.draw(st.integers(0, math.prod(layer.out_shape) - 1))
    shape = layer.network.tensors["y.weight"].codes.shape
    channel, patch = window(layer.node, layer.codes, element, shape, 777)
    wanted, sources = taps_of(layer, element)
    assert channel == wanted
    for image, row in zip(layer.codes, patch.tolist(), strict=True):
        flat = image.flatten().tolist()
        assert row == [777 if source is None else flat[source] for source in sources]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_product_registers_fit_every_product_and_no_narrower_ones_do(data: st.DataObject) -> None:
    layer = draw_layer(data.draw)
    read, weight = layer.network.grids["x"], layer.network.tensors["y.weight"].grid
    width = product_bits(layer.network, layer.node)
    assert width == width_of_products(read, weight)
    products = [
        (left - int(read.zero_point)) * (right - int(point))
        for left in (read.low, read.high)
        for right in (weight.low, weight.high)
        for point in weight.zero_point.reshape(-1)
    ]
    assert all(-(2 ** (width - 1)) <= product < 2 ** (width - 1) for product in products)
    most = max(abs(product) for product in products)
    assert most >= 2 ** (width - 2)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(2, 9))
def test_a_broken_bit_changes_its_word_alone(bits: int, *, signed: bool) -> None:
    low = -(2 ** (bits - 1)) if signed else 0
    codes = torch.arange(low, low + 2**bits)
    for bit, (number, action) in itertools.product(range(bits), enumerate(ACTIONS)):
        broken = break_bit(codes, BrokenBit(0, -1, bit, number), bits=bits, signed=signed)
        fault = ("weight", 0, -1, bit, action)
        assert broken.tolist() == [strike(w, bits, fault, signed=signed) for w in codes.tolist()]
        assert int(broken.min()) >= low
        assert int(broken.max()) < low + 2**bits


@given(
    st.integers(-(2**31), 2**31 - 1), st.integers(0, 31), st.sampled_from(list(enumerate(ACTIONS)))
)
def test_a_bit_of_a_32_bit_word_breaks_as_in_twos_complement(
    word: int, bit: int, action: tuple[int, str]
) -> None:
    broken = break_bit(torch.tensor([word]), BrokenBit(0, -1, bit, action[0]), bits=32, signed=True)
    assert broken.tolist() == [strike(word, 32, ("bias", 0, -1, bit, action[1]), signed=True)]


def test_faults_on_one_word_act_in_the_order_of_the_list() -> None:
    codes = torch.zeros(2, 3, dtype=torch.uint8)
    grid = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 8, signed=False)
    flip, stuck = BrokenBit(1, -1, 0, 0), BrokenBit(1, -1, 0, 1)
    assert break_words(codes, [flip, stuck], grid, n=2).tolist() == [[0, 0, 0]] * 2
    assert break_words(codes, [stuck, flip], grid, n=2).tolist() == [[0, 1, 0]] * 2
    assert not codes.any()


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_nothing_that_is_given_is_changed(data: st.DataObject) -> None:
    layer, faults = draw_struck(data.draw)
    digest, codes = layer.network.digest(), layer.codes.clone()
    constants = layer.network.constants["y"]
    before = [t.clone() for t in (constants.weight, constants.bias) if t is not None]
    layer.fast(faults)
    assert layer.network.digest() == digest
    assert torch.equal(layer.codes, codes)
    after = [t for t in (constants.weight, constants.bias) if t is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_words_without_images_on_the_first_axis_are_struck_as_one_image(
    data: st.DataObject,
) -> None:
    layer, faults = draw_struck(data.draw)
    if any(site in {"weight", "bias"} for site, *_ in faults):
        return
    # Two rows of one image: the second row's elements come after those of the first.
    sizes = {"input": layer.codes[0].numel()}
    outs = math.prod(layer.out_shape)
    moved = [(s, e + sizes.get(s, outs), t, b, a) for s, e, t, b, a in faults]
    result = faulty_node(
        layer.network, layer.node, [layer.codes], torch.zeros(1, 1), strikes(moved)
    )
    plain, broken = slow(layer, []), slow(layer, faults)
    assert result.flatten(1).tolist() == [plain[0], broken[1]]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_broken_memory_differs_in_the_struck_words_alone(data: st.DataObject) -> None:
    layer, faults = draw_struck(data.draw, ("weight", "bias"))
    broken = broken_memory(layer.network, {layer.node.name: strikes(faults)})
    for site in ("weight", "bias"):
        stored = layer.network.tensors.get(f"y.{site}")
        if stored is not None:
            own = [fault for fault in faults if fault[0] == site]
            wanted = strike_all(stored.codes.flatten().tolist(), stored.grid, own)
            assert broken.tensors[f"y.{site}"].codes.flatten().tolist() == wanted
    assert faults or broken is layer.network


def test_faults_are_sorted_by_layer_and_site_in_their_order() -> None:
    rows = [
        (3, "weight", "b", 1, -1, 2, "flip"),
        (3, "product", "a", 4, 5, 6, "stuck1"),
        (3, "weight", "b", 0, -1, 1, "stuck0"),
    ]
    assert faults_by_node(FaultTable.from_rows(rows)) == {
        "b": {"weight": [BrokenBit(1, -1, 2, 0), BrokenBit(0, -1, 1, 1)]},
        "a": {"product": [BrokenBit(4, 5, 6, 2)]},
    }


def plain_layer() -> tuple[IntegerNetwork, dict[str, tuple[int, ...]]]:
    grid = Grid(torch.tensor(0.5), torch.tensor(0, dtype=torch.int32), 8, signed=False)
    weight = CodedTensor(torch.ones(3, 4, dtype=torch.uint8), replace(grid, bits=4))
    nodes = (Node("x", "input"), Node("y", "linear", ("x",)), Node("z", "reshape", ("y",)))
    network = IntegerNetwork(nodes, {"y.weight": weight}, {"x": grid, "y": grid, "z": grid})
    return network, {"x": (4,), "y": (3,), "z": (3,)}


GOOD = [
    (0, "weight", "y", 11, -1, 3, "flip"),
    (1, "activation", "x", 3, -1, 7, "flip"),
    (2, "input", "y", 3, -1, 7, "flip"),
    (3, "operand", "y", 2, 3, 7, "stuck1"),
    (4, "weight_operand", "y", 2, 0, 3, "stuck1"),
    (5, "product", "y", 2, 3, 12, "stuck1"),
    (6, "accumulator", "y", 2, -1, 31, "stuck0"),
]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((7, "weight", "y", 12, -1, 0, "flip"), "weight of y: wanted element from 0 to 11, got 12"),
        ((7, "weight", "y", 0, -1, 4, "flip"), "weight of y: wanted bit from 0 to 3, got 4"),
        ((7, "weight", "y", 0, 0, 0, "flip"), "weight of y: wanted tap from -1 to -1, got 0"),
        ((7, "operand", "y", 0, 4, 0, "flip"), "operand of y: wanted tap from 0 to 3, got 4"),
        ((7, "operand", "y", 0, -1, 0, "flip"), "operand of y: wanted tap from 0 to 3, got -1"),
        ((7, "product", "y", 0, 0, 13, "flip"), "product of y: wanted bit from 0 to 12, got 13"),
        ((7, "accumulator", "y", 0, -1, 32, "flip"), "wanted bit from 0 to 31, got 32"),
        ((7, "output", "x", 0, -1, 0, "flip"), "x has no output"),
        ((7, "activation", "z", 0, -1, 0, "flip"), "z has no activation"),
        ((7, "weight", "x", 0, -1, 0, "flip"), "x has no weight"),
        ((7, "bias", "y", 0, -1, 0, "flip"), "y has no bias"),
    ],
)
def test_an_impossible_fault_is_named(
    row: tuple[int, str, str, int, int, int, str], message: str
) -> None:
    network, shapes = plain_layer()
    layers = [node.name for node in network.nodes]
    check_faults(network, FaultTable.from_rows(GOOD, layers=layers), shapes)
    with pytest.raises(FaultListError, match=message):
        check_faults(network, FaultTable.from_rows([*GOOD, row], layers=layers), shapes)


def test_the_first_impossible_fault_of_the_list_is_named() -> None:
    network, shapes = plain_layer()
    layers = [node.name for node in network.nodes]
    rows = [
        *GOOD,
        (7, "accumulator", "y", 5, -1, 0, "flip"),
        (8, "weight", "y", 99, -1, 0, "flip"),
        (9, "bias", "y", 0, -1, 0, "flip"),
    ]
    with pytest.raises(FaultListError, match="accumulator of y: wanted element from 0 to 2, got 5"):
        check_faults(network, FaultTable.from_rows(rows, layers=layers), shapes)
    rows = [rows[-1], *rows[:-1]]
    rows = [(number, *row[1:]) for number, row in enumerate(rows)]
    with pytest.raises(FaultListError, match="y has no bias"):
        check_faults(network, FaultTable.from_rows(rows, layers=layers), shapes)
    check_faults(network, FaultTable.from_rows([], layers=layers), shapes)
