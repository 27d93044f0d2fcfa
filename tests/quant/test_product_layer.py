"""Layers whose products come from tables, against loops that share no code with bitproof."""

import gc
import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.approx import (
    BrokenArray,
    Drum,
    Exact,
    Kulkarni,
    LowerOr,
    Mitchell,
    Multiplier,
    Perforated,
    Truncated,
    TruncatedOperands,
    library_path,
    read_circuits,
    read_tables,
)
from bitproof.core.errors import DataError, QuantizationError
from bitproof.kernels import look_up
from bitproof.kernels.library import LEVELS, find_library, library
from bitproof.quant import (
    AffineQuantizer,
    CodedTensor,
    Grid,
    IntegerNetwork,
    Node,
    Scheme,
    product_layer,
    product_parts,
    quantize,
)
from bitproof.quant.integers import integer_op
from bitproof.quant.product_layer import ProductLayer, check_products
from bitproof.quant.product_parts import LookedUp, Part, Remapped
from bitproof.quant.products import Products

f32 = np.float32
Random = np.random.Generator
Words = Any
"""A numpy array of int64."""


# The slow execution: every product is looked up, every sum is a Python integer.


def slow(network: IntegerNetwork, words: Tensor) -> Tensor:
    """Return the output of a network's last node, which reads `words`."""
    node = network.nodes[-1]
    sums = slow_sums(network, node, words.numpy().astype(np.int64))
    return requantize(network, node, sums)


def slow_sums(network: IntegerNetwork, node: Node, words: Words) -> Words:
    """Return the accumulators of a layer, [n, filters, *places], before they wrap."""
    read, coded = network.grids[node.inputs[0]], network.tensors[f"{node.name}.weight"]
    weight = coded.codes.numpy().astype(np.int64)
    point = int(read.zero_point)
    if node.op == "linear":
        rows = words.reshape(-1, words.shape[-1])
        found = [sums_of(network, node, rows, m, weight[m]) for m in range(len(weight))]
        return np.stack(found, 1).reshape(*words.shape[:-1], len(weight))
    if node.op == "affine":
        flat = words.reshape(*words.shape[:2], -1)
        sums = np.zeros(flat.shape, object)
        for m, column in itertools.product(*map(range, flat.shape[1:])):
            taps = flat[:, m, column, None]
            sums[:, m, column] = sums_of(network, node, taps, m, weight[m])
        return sums.reshape(words.shape)
    attrs, kernel = node.attrs, weight.shape[2:]
    edges = [(0, 0), (0, 0), *((pad, pad) for pad in attrs["padding"])]
    padded = np.pad(words, edges, constant_values=point)
    reach = [d * (k - 1) + 1 for d, k in zip(attrs["dilation"], kernel, strict=True)]
    sizes = [
        (size - one) // hop + 1
        for size, one, hop in zip(padded.shape[2:], reach, attrs["stride"], strict=True)
    ]
    result = np.zeros((len(words), len(weight), *sizes), object)
    per_group = len(weight) // attrs["groups"]
    for m, *place in np.ndindex(len(weight), *sizes):
        first = m // per_group * weight.shape[1]
        window = tuple(
            slice(at * hop, at * hop + one, step)
            for at, hop, one, step in zip(
                place, attrs["stride"], reach, attrs["dilation"], strict=True
            )
        )
        patch = padded[(slice(None), slice(first, first + weight.shape[1]), *window)]
        taps = patch.reshape(len(words), -1)
        result[(slice(None), m, *place)] = sums_of(network, node, taps, m, weight[m].reshape(-1))
    return result


def sums_of(network: IntegerNetwork, node: Node, taps: Words, m: int, weights: Words) -> Words:
    """Return the sums of filter `m` for rows of words, with everything that is added."""
    products, coded = network.products[node.name], network.tensors[f"{node.name}.weight"]
    grids = network.grids[node.inputs[0]], coded.grid
    points = [int(grids[0].zero_point), int(per_channel(grids[1].zero_point, m))]
    moves = [moved_by(grid, signed=products.signed) for grid in grids]
    a, w = taps + moves[0], np.atleast_1d(weights) + moves[1]
    a_point, w_point = points[0] + moves[0], points[1] + moves[1]
    table = products.tables[int(products.choice[m])].numpy().astype(np.int64)
    looked = table[a % 256, w % 256]
    sums = looked - w_point * a - a_point * w + a_point * w_point
    bias = bias_steps(network, node, m)
    return sums.sum(1).astype(object) + bias + int(products.offset[m])


def moved_by(grid: Grid, *, signed: bool) -> int:
    """Return what is added to a word so that a multiplier of that kind can hold it."""
    if grid.signed and not signed:
        return int(2 ** (grid.bits - 1))
    return -128 if signed and not grid.signed and grid.bits == 8 else 0


def per_channel(values: Tensor, m: int) -> Any:
    flat = values.numpy().reshape(-1)
    return flat[m] if len(flat) > 1 else flat[0]


def accumulator_step(network: IntegerNetwork, node: Node, m: int) -> float:
    weight = network.tensors[f"{node.name}.weight"].grid
    return float(per_channel(weight.scale, m)) * float(network.grids[node.inputs[0]].scale)


def bias_steps(network: IntegerNetwork, node: Node, m: int) -> int:
    coded = network.tensors.get(f"{node.name}.bias")
    if coded is None:
        return 0
    if coded.grid.bits == 32:
        return int(coded.codes[m])
    real = f32(int(coded.codes[m]) - int(per_channel(coded.grid.zero_point, m)))
    real = real * f32(per_channel(coded.grid.scale, m))
    ratio = round(float(real) / accumulator_step(network, node, m))
    return min(max(ratio, -(2**31)), 2**31 - 1)


def requantize(network: IntegerNetwork, node: Node, sums: Words) -> Tensor:
    """Return words, or real logits, of accumulators of any size."""
    axis = sums.ndim - 1 if node.op == "linear" else 1
    out = network.grids.get(node.name)
    scale = 1.0 if out is None else float(out.scale)
    if node.op == "matmul":
        left, right = (float(network.grids[name].scale) for name in node.inputs)
        factor = np.array(left * right / scale).astype(f32)
    else:
        steps = [accumulator_step(network, node, m) / scale for m in range(sums.shape[axis])]
        shape = [-1 if place == axis else 1 for place in range(sums.ndim)]
        factor = np.array(steps).astype(f32).reshape(shape)
    wrapped = ((sums + 2**31) % 2**32 - 2**31).astype(np.int64)
    values = wrapped.astype(f32) * factor
    if out is None:
        return torch.from_numpy(np.asarray(values))
    point, low, high = int(out.zero_point), out.low, out.high
    if "clamp" in node.attrs:
        low = min(max(low, point), high)
    truncates = network.rounding == "truncate"
    words = np.trunc(values + f32(point)) if truncates else np.rint(values) + point
    return torch.from_numpy(np.clip(words, low, high)).to(out.dtype)


# Tables of all sorts.


def operands(*, signed: bool) -> Words:
    patterns = np.arange(256)
    return patterns.astype(np.int8).astype(np.int64) if signed else patterns


def draw_table(kind: str, random: Random, *, signed: bool) -> Tensor:
    """Return a table of one kind; several of its entries for an operand of 0 are not 0."""
    value = operands(signed=signed)
    exact = np.outer(value, value)
    if kind in CIRCUITS:
        return CIRCUITS[kind](signed).table().products
    draws: dict[str, Callable[[], Words]] = {
        "random": lambda: random.integers(-(2**15), 2**15, (256, 256)),
        "errors of a byte": lambda: exact + random.integers(-100, 156, (256, 256)),
        "bytes": lambda: random.integers(-128, 128, (256, 256)),
        "beside zero": lambda: exact + (exact == 0) * random.integers(1, 9, (256, 256)),
        "rank two": lambda: low_rank(random, 2),
        "exact and rank two": lambda: exact + low_rank(random, 2),
        "far": lambda: 2**30 * random.integers(-2, 2, (256, 256)),
        "far and short": lambda: 2**30 * np.outer(value % 2, random.integers(-2, 2, 256)),
        "wide": lambda: random.integers(-(2**30), 2**30, (256, 256)),
        "constant": lambda: np.full((256, 256), 7),
        "zero": lambda: np.zeros((256, 256)),
    }
    return torch.from_numpy(draws[kind]().astype(np.int32))


def low_rank(random: Random, rank: int) -> Words:
    first = random.integers(0, 256, (rank, 256))
    first[:, random.integers(0, 256, 60)] = np.array([[0], [255]])[:rank]
    return first.T @ random.integers(-128, 128, (rank, 256))


CIRCUITS: dict[str, Callable[[bool], Multiplier]] = {
    "exact": lambda signed: Exact(signed=signed),
    "truncated": lambda signed: Truncated(columns=4, signed=signed),
    "operands": lambda signed: TruncatedOperands(bits=2, signed=signed),
    "perforated": lambda signed: Perforated(rows=2, signed=signed),
    "broken": lambda signed: BrokenArray(rows=2, columns=5, signed=signed),
    "lower or": lambda signed: LowerOr(columns=4, signed=signed),
    "drum": lambda signed: Drum(width=4, signed=signed),
    "mitchell": lambda signed: Mitchell(signed=signed),
    "kulkarni": lambda signed: Kulkarni(signed=signed),
}
KINDS = (
    *CIRCUITS,
    "random",
    "errors of a byte",
    "bytes",
    "beside zero",
    "rank two",
    "exact and rank two",
    "far",
    "far and short",
    "wide",
    "constant",
    "zero",
)


FORMS = (
    "exact",
    "truncated",
    "operands",
    "rank two",
    "exact and rank two",
    "wide",
    "bytes",
    "zero",
    "errors of a byte",
)
"""Kinds that take every way of computing between them."""

# Layers of all sorts.


@dataclass(frozen=True)
class Drawn:
    """A network of one layer, and words that it reads."""

    network: IntegerNetwork
    words: Tensor

    @property
    def node(self) -> Node:
        return self.network.nodes[-1]

    def run(self) -> Tensor:
        return run(self.network, self.words)

    def parts(self) -> list[Part]:
        """Return how the layer is computed."""
        network, node = self.network, self.node
        weight, read = network.tensors["y.weight"], network.grids["x"]
        constants, products = network.constants["y"], network.products["y"]
        return ProductLayer(node, constants, (read,), products, weight).parts


def run(network: IntegerNetwork, *words: Tensor) -> Tensor:
    """Return the output of a network's last node."""
    marker = torch.zeros(len(words[0]), 1)
    return integer_op(network, network.nodes[-1], list(words), marker)


def draw_grid(random: Random, *, channels: int = 0, bits: int | None = None) -> Grid:
    """Return a grid of activations, or one of weights with points that may lie outside."""
    wide, signed = bits or int(random.choice([8, 8, 8, 2, 3, 5, 7])), bool(random.integers(2))
    number = channels if channels and random.integers(2) else 1
    grid = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), wide, signed)
    low, high = (-300, 300) if channels else (grid.low, grid.high)
    edge = random.integers(3)
    point = [int(one) for one in random.integers(low, high + 1, number)]
    point = point if edge else [grid.low] * number
    scale = torch.from_numpy(10.0 ** -random.uniform(0, 2, number)).float()
    zero = torch.tensor(point, dtype=torch.int32)
    if number > 1:
        return replace(grid, scale=scale, zero_point=zero, axis=0)
    return replace(grid, scale=scale[0], zero_point=zero[0])


def draw_words(grid: Grid, shape: tuple[int, ...], random: Random) -> Tensor:
    """Return words of which many are the ends of the range."""
    anything = random.integers(grid.low, grid.high + 1, shape)
    ends = random.choice([grid.low, grid.high], shape)
    return torch.from_numpy(np.where(random.random(shape) < 0.3, ends, anything)).to(grid.dtype)


Shape = tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]
"""Attributes, shape of one image and of the weight."""


def conv(random: Random, axes: int, kind: str) -> Shape:
    groups = {"plain": 1, "groups": int(random.integers(2, 4)), "depthwise": 3}[kind]
    depth = 1 if kind == "depthwise" else int(random.integers(1, 4))
    outs = groups * int(random.integers(1, 4))
    kernel = [int(k) for k in random.integers(1, 4, axes)]
    one = bool(random.integers(4) == 0)
    kernel = [1] * axes if one else kernel
    attrs: dict[str, Any] = {
        key: [int(one) for one in random.integers(low, high + 1, axes)]
        for key, low, high in (("stride", 1, 3), ("padding", 0, 2), ("dilation", 1, 2))
    }
    attrs["groups"] = groups
    reach = [d * (k - 1) + 1 for d, k in zip(attrs["dilation"], kernel, strict=True)]
    sizes = [
        max(int(random.integers(1, 7)), r - 2 * p)
        for r, p in zip(reach, attrs["padding"], strict=True)
    ]
    return attrs, (groups * depth, *sizes), (outs, depth, *kernel)


def linear(random: Random) -> Shape:
    front = [int(one) for one in random.integers(1, 4, random.integers(0, 3))]
    ins, outs = int(random.integers(1, 9)), int(random.integers(1, 9))
    return {}, (*front, ins), (outs, ins)


def affine(random: Random) -> Shape:
    channels = int(random.integers(1, 6))
    sizes = [int(one) for one in random.integers(1, 4, random.integers(1, 3))]
    return {}, (channels, *sizes), (channels,)


SHAPES: dict[str, Callable[[Random], Shape]] = {
    "conv2d": lambda random: conv(random, 2, "plain"),
    "conv2d in groups": lambda random: conv(random, 2, "groups"),
    "conv2d depthwise": lambda random: conv(random, 2, "depthwise"),
    "conv1d": lambda random: conv(random, 1, "plain"),
    "conv1d in groups": lambda random: conv(random, 1, "groups"),
    "linear": linear,
    "affine": affine,
}


def draw_layer(shape: str, random: Random) -> Drawn:
    """Return a layer with exact products."""
    attrs, inside, stored = SHAPES[shape](random)
    read, outs = draw_grid(random), stored[0]
    grid = draw_grid(random, channels=0 if shape == "affine" else outs)
    if grid.axis is None and random.integers(2):
        point = torch.tensor(int(random.integers(-300, 300)), dtype=torch.int32)
        grid = replace(grid, zero_point=point)
    tensors = {"y.weight": CodedTensor(draw_words(grid, stored, random), grid)}
    kind = random.choice(["none", "narrow", "wide", "huge"])
    if kind == "narrow":
        own = draw_grid(random, channels=0 if shape == "affine" else outs)
        tensors["y.bias"] = CodedTensor(draw_words(own, (outs,), random), own)
    elif kind != "none":
        most = 2**31 if kind == "huge" else 10_000
        words = torch.from_numpy(random.integers(-most, most, outs)).int()
        scale = grid.scale * read.scale
        own = Grid(scale, torch.zeros_like(scale).int(), 32, signed=True, axis=grid.axis)
        tensors["y.bias"] = CodedTensor(words, own)
    grids = {"x": read}
    if random.integers(4):
        # A step near to what sums are multiplied by, so that few words are at the ends.
        spread = float(grid.scale.mean() * read.scale) * 40 * np.prod(stored[1:]) ** 0.5
        out = draw_grid(random)
        grids["y"] = replace(out, scale=torch.tensor(spread * float(random.uniform(0.5, 2))))
        if random.integers(2):
            attrs = {**attrs, "clamp": [0.0, None]}
    node = Node(
        "y",
        shape.split("d ", maxsplit=1)[0].split("2", maxsplit=1)[0].split("1", maxsplit=1)[0],
        ("x",),
        attrs,
    )
    rounding = random.choice(["nearest", "truncate"])
    network = IntegerNetwork((Node("x", "input"), node), tensors, grids, str(rounding))
    return Drawn(network, draw_words(read, (2, *inside), random))


def draw_products(drawn: Drawn, kinds: list[str], random: Random, *, signed: bool) -> Drawn:
    """Return the same layer with one table for each kind, chosen filter by filter."""
    filters = len(drawn.network.tensors["y.weight"].codes)
    tables = torch.stack([draw_table(kind, random, signed=signed) for kind in kinds])
    choice = torch.from_numpy(random.integers(0, len(kinds), filters))
    offset = torch.from_numpy(random.integers(-500, 500, filters) * random.integers(2)).int()
    products = Products(tables, signed, choice, offset)
    return replace(drawn, network=replace(drawn.network, products={"y": products}))


# Ways of computing.


def force(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every table take one way, if it can."""
    if route == "gather":
        switch_off(monkeypatch)

    def choose(terms: object, planes: object, **_: object) -> str:
        return "planes" if route == "terms" and terms is None else route

    monkeypatch.setattr(product_layer, "choose_route", choose)


def switch_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only torch."""
    for module in (product_layer, product_parts, look_up):
        monkeypatch.setattr(module, "library", lambda: None)


def at_level(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look up with other instructions."""
    found = find_library(level)[0]
    if found is None:
        pytest.skip(f"this processor has no {level}")
    for module in (product_layer, product_parts, look_up):
        monkeypatch.setattr(module, "library", lambda: found)


def check_all_ways(drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare every way of computing with the slow one."""
    wanted = slow(drawn.network, drawn.words)
    for route in ("", "terms", "planes", "gather", "terms by torch"):
        with monkeypatch.context() as patch:
            if route:
                force(route.split()[0], patch)
            if route == "terms by torch":
                switch_off(patch)
            fresh = replace(drawn, network=replace(drawn.network))  # nothing is prepared
            found = fresh.run()
            assert found.dtype == wanted.dtype, route
            assert found.shape == wanted.shape, route
            assert torch.equal(found, wanted), route


EVERY = [
    pytest.param(kind, signed, marks=[] if signed == place % 2 else pytest.mark.slow)
    for place, kind in enumerate(KINDS)
    for signed in (False, True)
]

# The tests.


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shape", SHAPES)
def test_layers_with_one_table_equal_the_slow_one(
    shape: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng([seed, *shape.encode()])
    drawn = draw_layer(shape, random)
    kind = KINDS[(seed + 2 * list(SHAPES).index(shape)) % len(KINDS)]
    check_all_ways(
        draw_products(drawn, [kind], random, signed=bool(random.integers(2))), monkeypatch
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("shape", SHAPES)
def test_many_layers_with_any_tables_equal_the_slow_one(
    shape: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng([7, seed, *shape.encode()])
    drawn = draw_layer(shape, random)
    kinds = [str(kind) for kind in random.choice(KINDS, random.choice([1, 2, 3, 8]))]
    check_all_ways(
        draw_products(drawn, kinds, random, signed=bool(random.integers(2))), monkeypatch
    )


@pytest.mark.parametrize(("kind", "signed"), EVERY)
def test_every_kind_of_table_equals_the_slow_one(
    kind: str, signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng([int(signed), *kind.encode()])
    check_all_ways(
        draw_products(draw_layer("conv2d", random), [kind], random, signed=signed), monkeypatch
    )


@pytest.mark.parametrize(
    ("shape", "number"),
    [("conv2d", 2), ("conv2d", 3), ("conv2d", 8), ("conv2d in groups", 3), ("linear", 2)],
)
def test_filters_with_tables_of_their_own_equal_the_slow_one(
    shape: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng([number, *shape.encode()])
    kinds = [str(kind) for kind in random.choice(KINDS, number)]
    check_all_ways(
        draw_products(draw_layer(shape, random), kinds, random, signed=number == 3), monkeypatch
    )


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_of_instructions_equals_the_slow_one(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_level(level, monkeypatch)
    for seed, kind in enumerate(("random", "truncated", "bytes", "errors of a byte")):
        random = np.random.default_rng([21, seed])
        drawn = draw_products(draw_layer("conv2d", random), [kind], random, signed=seed % 2 == 0)
        assert torch.equal(drawn.run(), slow(drawn.network, drawn.words))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["operands", "rank two", "errors of a byte"])
def test_words_are_cut_in_one_pass_and_equal_the_slow_one(
    kind: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_level(level, monkeypatch)
    if kind != "errors of a byte":
        force("terms", monkeypatch)
    random, fused = np.random.default_rng([33, *kind.encode()]), 0
    for _ in range(6):
        drawn = draw_layer("conv2d", random)
        weight = drawn.network.tensors["y.weight"]
        centered = replace(weight.grid, zero_point=torch.zeros_like(weight.grid.zero_point))
        tensors = {**drawn.network.tensors, "y.weight": replace(weight, grid=centered)}
        drawn = replace(drawn, network=replace(drawn.network, tensors=tensors))
        drawn = draw_products(drawn, [kind], random, signed=centered.signed)
        called: list[object] = []
        with monkeypatch.context() as patch:
            patch.setattr(ProductLayer, "_totals", seen_calls(ProductLayer._totals, called))
            found = drawn.run()
        assert torch.equal(found, slow(drawn.network, drawn.words))
        fused += not called
    assert fused


def seen_calls(method: Callable[..., Tensor], called: list[object]) -> Callable[..., Tensor]:
    """Return the method; its calls are noted."""

    def noted(layer: ProductLayer, maps: Tensor) -> Tensor:
        called.append(layer)
        return method(layer, maps)

    return noted


def test_every_way_of_computing_is_reached() -> None:
    ways: set[tuple[Any, ...]] = set()
    for seed, kind in itertools.product(range(4), FORMS):
        random = np.random.default_rng([5, seed, *kind.encode()])
        drawn = draw_layer("conv2d", random)
        with pytest.MonkeyPatch.context() as patch:
            force("terms", patch)
            for part in draw_products(drawn, [kind], random, signed=seed == 1).parts():
                if isinstance(part, Remapped):
                    empty, wide = part.convolution is None, part._fits_float32
                    ways.add((part.base is None, empty, part.pads, wide))
                else:
                    assert isinstance(part, LookedUp)
                    ways.add((part.base is None, part.look_up.planes is None))
    terms = {way for way in ways if len(way) == 4}
    looked = ways - terms
    compiled = library() is not None
    assert {(True, True)} <= looked
    assert not compiled or {(True, False), (False, False)} <= looked
    for place, options in enumerate(zip(*terms, strict=True)):
        assert set(options) == {False, True}, place
    assert (True, False, True, False) in terms or (True, False, True, True) in terms
    assert (False, True, False, False) in terms


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_exact_table_gives_what_exact_products_give(shape: str, signed: bool) -> None:
    for seed in range(4):
        drawn = draw_layer(shape, np.random.default_rng([seed, *shape.encode()]))
        filters = len(drawn.network.tensors["y.weight"].codes)
        table = draw_table("exact", np.random.default_rng(0), signed=signed)
        products = Products.of(table, signed=signed, filters=filters)
        network = replace(drawn.network, products={"y": products})
        assert torch.equal(run(network, drawn.words), drawn.run())


@pytest.mark.parametrize("signed", [False, True])
def test_products_that_are_all_zero_leave_what_is_added_at_every_place(
    signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    drawn = draw_layer("conv2d", random)
    grid = Grid(torch.tensor(0.5), torch.tensor(0, dtype=torch.int32), 8, signed)
    shape = tuple(drawn.network.tensors["y.weight"].codes.shape)
    tensors = {"y.weight": CodedTensor(draw_words(grid, shape, random), grid)}
    attrs = {key: value for key, value in drawn.node.attrs.items() if key != "clamp"}
    nodes = Node("x", "input"), replace(drawn.node, attrs=attrs)
    network = IntegerNetwork(nodes, tensors, {"x": drawn.network.grids["x"]})  # real logits
    drawn = replace(drawn, network=network)
    check_all_ways(draw_products(drawn, ["zero"], random, signed=signed), monkeypatch)
    check_all_ways(draw_products(drawn, ["constant"], random, signed=signed), monkeypatch)


@pytest.mark.parametrize("kind", ["truncated", "operands", "random", "exact"])
@pytest.mark.parametrize("view", ["turned", "channels last", "part of channels", "every second"])
def test_words_may_lie_in_memory_in_any_way(view: str, kind: str) -> None:
    random = np.random.default_rng(2)
    point = torch.tensor(3, dtype=torch.int32)
    grid = Grid(torch.tensor(0.5), point, 8, signed=False)
    weight = CodedTensor(draw_words(grid, (2, 3, 2, 2), random), grid)
    attrs = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1}
    nodes = Node("x", "input"), Node("y", "conv", ("x",), attrs)
    network = IntegerNetwork(nodes, {"y.weight": weight}, {"x": grid})
    products = Products.of(draw_table(kind, random, signed=False), signed=False, filters=2)
    network = replace(network, products={"y": products})
    large = draw_words(grid, (2, 6, 8, 8), random)
    last = large.to(memory_format=torch.channels_last)
    words = {
        "turned": large[:, :3].transpose(2, 3),
        "channels last": last[:, :3, :4],
        "part of channels": large[:, 2:5],
        "every second": large[:, ::2, ::2, ::2],
    }[view]
    assert torch.equal(run(network, words), slow(network, words))


def test_affine_layers_take_words_without_places() -> None:
    random = np.random.default_rng(0)
    grid = Grid(torch.tensor(0.5), torch.tensor(3, dtype=torch.int32), 8, signed=False)
    weight = CodedTensor(draw_words(grid, (4,), random), grid)
    nodes = Node("x", "input"), Node("y", "affine", ("x",))
    network = IntegerNetwork(nodes, {"y.weight": weight}, {"x": grid})
    table = draw_table("truncated", random, signed=False)
    products = Products.of(table, signed=False, filters=4)
    network = replace(network, products={"y": products})
    words = draw_words(grid, (3, 4), random)
    assert torch.equal(run(network, words), slow(network, words))


@pytest.mark.parametrize("bias", [0, 2**31 - 20_000_000])
@pytest.mark.parametrize("kind", ["exact", "operands", "broken", "random", "errors of a byte"])
def test_accumulators_beyond_single_precision_are_exact(
    kind: str, bias: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    zero = torch.tensor(0, dtype=torch.int32)
    read, grid = (Grid(torch.tensor(1.0), zero, 8, signed) for signed in (False, True))
    codes = torch.full((2, 701), 127, dtype=torch.int8)
    added = torch.full((2,), bias + 1, dtype=torch.int32)
    tensors = {
        "y.weight": CodedTensor(codes, grid),
        "y.bias": CodedTensor(added, Grid(torch.tensor(1.0), zero, 32, signed=True)),
    }
    nodes = Node("x", "input"), Node("y", "linear", ("x",))
    network = IntegerNetwork(nodes, tensors, {"x": read})
    products = Products.of(draw_table(kind, random, signed=False), signed=False, filters=2)
    network = replace(network, products={"y": products})
    words = torch.stack([torch.full((701,), 255), torch.arange(701) % 256]).to(torch.uint8)
    check_all_ways(Drawn(network, words), monkeypatch)
    # Odd and above 2**24, where single precision knows even numbers only; or come around.
    exact = float(slow(replace(network, products={"y": exact_products()}), words)[0, 0])
    assert exact > 2**24 if bias == 0 else exact < 0


def exact_products() -> Products:
    return Products.of(Exact().table().products, signed=False, filters=2)


# Matrix products of activations.


def slow_matmul(network: IntegerNetwork, left: Tensor, right: Tensor) -> Tensor:
    node = network.nodes[-1]
    products = network.products[node.name]
    grids = [network.grids[name] for name in node.inputs]
    moves = [moved_by(grid, signed=products.signed) for grid in grids]
    points = [int(grid.zero_point) + move for grid, move in zip(grids, moves, strict=True)]
    a, b = (
        words.numpy().astype(np.int64) + move
        for words, move in zip((left, right), moves, strict=True)
    )
    outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(x, (*outer, *x.shape[-2:])) for x in (a, b))
    table = products.tables[0].numpy().astype(np.int64)
    sums = np.zeros((*outer, a.shape[-2], b.shape[-1]), object)
    for place in np.ndindex(*sums.shape):
        *front, i, j = place
        row, column = a[(*front, i)], b[tuple(front)][:, j]
        looked = table[row % 256, column % 256]
        every = looked - points[1] * row - points[0] * column + points[0] * points[1]
        sums[place] = int(every.sum()) + int(products.offset[0])
    return requantize(network, node, sums)


def draw_matmul(random: Random) -> tuple[IntegerNetwork, list[Tensor]]:
    """Return a product of two activations; the second's zero point may lie outside the word."""
    rows, taps, columns = (int(one) for one in random.integers(1, 7, 3))
    front = [(2, 3), (2,), (1, 3), (2, 1)][random.integers(4)]
    other = [front, front, (1,) * len(front)][random.integers(3)]
    read = {"x": draw_grid(random), "z": draw_grid(random, channels=1)}
    out = replace(draw_grid(random), scale=read["x"].scale * read["z"].scale * 60)
    node = Node("y", "matmul", ("x", "z"), {})
    grids = read if random.integers(3) == 0 else {**read, "y": out}
    rounding = str(random.choice(["nearest", "truncate"]))
    network = IntegerNetwork((Node("x", "input"), node), {}, grids, rounding)
    shapes = (*front, rows, taps), (*other, taps, columns)
    words = [
        draw_words(grid, shape, random) for grid, shape in zip(read.values(), shapes, strict=True)
    ]
    return network, words


@pytest.mark.parametrize("seed", range(8))
def test_matrix_products_equal_the_slow_one(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng([3, seed])
    network, words = draw_matmul(random)
    signed = seed % 2 == 0
    for kind in ("exact", "drum", "random", "far"):
        table = draw_table(kind, random, signed=signed)
        products = Products.of(table, signed=signed, filters=1)
        products = products.with_offset(torch.tensor([seed * 11], dtype=torch.int32))
        own = replace(network, products={"y": products})
        wanted = slow_matmul(own, *words)
        assert torch.equal(run(own, *words), wanted)
        with monkeypatch.context() as patch:
            switch_off(patch)
            assert torch.equal(run(own, *words), wanted)
        if kind == "exact":
            plain = replace(own, products={"y": products.with_offset(torch.zeros(1).int())})
            assert torch.equal(run(plain, *words), run(network, *words))


# Whole networks.


class Block(nn.Module):
    """A convolution, a depthwise one, a norm that stays an affine layer, attention and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.relu(self.stem(x)))
        x = (x + torch.relu(self.deep(x))).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        logits: Tensor = self.head(x[:, 0])
        return logits


SCHEMES = {
    "rquant": Scheme(),
    "signed": Scheme(
        weight=AffineQuantizer(symmetric=True, signed=True, per_channel=True),
        bias=None,
        activation_signed=True,
    ),
    "narrow": Scheme(
        weight=AffineQuantizer(bits=4, per_channel=True),
        activation_bits=5,
        activation_rounding="truncate",
    ),
}


def block(scheme: str) -> tuple[IntegerNetwork, Tensor]:
    torch.manual_seed(1)
    model = Block().eval()
    nn.init.normal_(model.norm.weight)
    images = torch.rand(12, 2, 6, 6)
    return quantize(model, images, SCHEMES[scheme]), images[:3]


def everywhere(network: IntegerNetwork, table: Tensor, *, signed: bool) -> IntegerNetwork:
    """Return a network in which every node that multiplies looks products up."""
    products = {}
    for node in network.nodes:
        if node.op in {"conv", "linear", "affine", "matmul"}:
            weight = network.tensors.get(f"{node.name}.weight")
            filters = 1 if weight is None else len(weight.codes)
            products[node.name] = Products.of(table, signed=signed, filters=filters)
    return replace(network, products=products)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_exact_tables_leave_a_network_as_it_is(scheme: str, signed: bool) -> None:
    network, images = block(scheme)
    tabled = everywhere(network, Exact(signed=signed).table().products, signed=signed)
    kinds = {node.op for node in network.nodes if node.name in tabled.products}
    assert kinds == {"conv", "linear", "affine", "matmul"}
    assert torch.equal(tabled(images), network(images))
    assert torch.equal(tabled.differentiable(images), network.differentiable(images))


@pytest.mark.parametrize("kind", ["truncated", "mitchell", "errors of a byte", "random"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_node_of_a_network_equals_the_slow_one(scheme: str, kind: str) -> None:
    network, images = block(scheme)
    table = draw_table(kind, np.random.default_rng(4), signed=kind != "mitchell")
    network = everywhere(network, table, signed=kind != "mitchell")
    words: dict[str, Tensor] = {}
    for place, node in enumerate(network.nodes):
        given = [words[name] for name in node.inputs]
        found = integer_op(network, node, given, images)
        if node.name in network.products:
            upto = replace(network, nodes=network.nodes[: place + 1])
            wanted = slow_matmul(upto, *given) if node.op == "matmul" else slow(upto, *given)
            assert torch.equal(found, wanted), node.name
        words[node.name] = found
    assert torch.equal(network(images), words[network.nodes[-1].name])


def test_the_batch_size_does_not_matter() -> None:
    network, images = block("narrow")
    for kind in ("truncated", "random"):
        table = draw_table(kind, np.random.default_rng(4), signed=False)
        own = everywhere(network, table, signed=False)
        assert torch.equal(own(images), torch.cat([own(image[None]) for image in images]))


def test_nothing_that_is_given_is_changed() -> None:
    for seed, shape in enumerate(SHAPES):
        random = np.random.default_rng([9, seed])
        kinds = [str(kind) for kind in random.choice(KINDS, 2)]
        drawn = draw_products(draw_layer(shape, random), kinds, random, signed=bool(seed % 2))
        digest, words = drawn.network.digest(), drawn.words.clone()
        first = drawn.run()
        assert torch.equal(drawn.run(), first)
        assert drawn.network.digest() == digest
        assert torch.equal(drawn.words, words)


# Circuits of the library.


def circuits(data_dir: Path) -> list[tuple[str, Tensor, bool]]:
    try:
        path = library_path(data_dir)
    except DataError as error:
        pytest.skip(str(error))
    known = list({circuit.key: circuit for circuit in read_circuits(path)}.values())
    tables = read_tables(path, known)
    pairs = zip(known, tables, strict=True)
    return [(circuit.key, table.products, table.signed) for circuit, table in pairs]


def check_circuits(found: list[tuple[str, Tensor, bool]]) -> None:
    for index, (name, table, signed) in enumerate(found):
        random = np.random.default_rng([11, index])
        shape = list(SHAPES)[index % len(SHAPES)]
        drawn = draw_layer(shape, random)
        filters = len(drawn.network.tensors["y.weight"].codes)
        products = Products.of(table, signed=signed, filters=filters)
        network = replace(drawn.network, products={"y": products})
        assert torch.equal(run(network, drawn.words), slow(network, drawn.words)), name


def test_circuits_of_the_library_equal_the_slow_one(data_dir: Path) -> None:
    check_circuits(circuits(data_dir)[::6])


@pytest.mark.slow
def test_all_circuits_of_the_library_equal_the_slow_one(data_dir: Path) -> None:
    found = circuits(data_dir)
    assert len(found) == 64
    for turn in range(len(SHAPES)):
        check_circuits(found[turn:] + found[:turn])


# What is prepared, and what is refused.


def test_prepared_layers_are_shared_where_words_are_the_same_and_go_with_their_network() -> None:
    network, images = block("rquant")
    network = everywhere(network, Exact().table().products, signed=False)
    network(images)
    changed = network.with_codes({"head.weight": network.tensors["head.weight"].codes.clone()})
    assert torch.equal(changed(images), network(images))
    nodes = [node for node in network.nodes if node.name in network.products]
    anew = [node for node in nodes if changed.accumulator(node) is not network.accumulator(node)]
    assert [node.name for node in anew] == ["head"]
    layer, constants = (
        weakref.ref(kept) for kept in (changed.accumulator(anew[0]), changed.constants["head"])
    )
    del changed
    gc.collect()
    assert layer() is None
    assert constants() is None


def test_other_products_are_prepared_anew() -> None:
    drawn = draw_layer("linear", np.random.default_rng(0))
    filters = len(drawn.network.tensors["y.weight"].codes)
    random = np.random.default_rng(1)
    for kind in ("truncated", "random", "truncated"):
        table = draw_table(kind, random, signed=False)
        products = Products.of(table, signed=False, filters=filters)
        network = replace(drawn.network, products={"y": products})
        network.__dict__["constants"] = drawn.network.constants  # as networks share them
        assert torch.equal(run(network, drawn.words), slow(network, drawn.words))


def test_changed_weights_are_multiplied_by_the_same_tables() -> None:
    random = np.random.default_rng(6)
    drawn = draw_products(draw_layer("conv2d", random), ["truncated"], random, signed=False)
    drawn.run()
    codes = drawn.network.tensors["y.weight"].codes
    low, high = drawn.network.tensors["y.weight"].grid.low, codes.max()
    changed = drawn.network.with_codes({"y.weight": torch.where(codes == high, low, codes)})
    assert torch.equal(run(changed, drawn.words), slow(changed, drawn.words))


def test_a_node_that_cannot_have_tables_is_named() -> None:
    table = torch.zeros(256, 256, dtype=torch.int32)
    products = Products.of(table, signed=False, filters=3)
    grid = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 8, signed=False)
    weight = CodedTensor(torch.zeros(3, 2, 1, 1, 1, dtype=torch.uint8), grid)
    check_products(Node("y", "linear"), products, CodedTensor(weight.codes[:, :, 0, 0, 0], grid))
    with pytest.raises(QuantizationError, match="y: wanted a node that multiplies, got 'add'"):
        check_products(Node("y", "add"), products, None)
    with pytest.raises(QuantizationError, match="over 3 axes"):
        check_products(Node("y", "conv"), products, weight)
    with pytest.raises(QuantizationError, match="wanted the table of each of 1 filters, got 3"):
        check_products(Node("y", "matmul"), products, None)
    with pytest.raises(QuantizationError, match="each of 2 filters, got 3"):
        check_products(
            Node("y", "linear"), products, CodedTensor(weight.codes[:2, :, 0, 0, 0], grid)
        )
