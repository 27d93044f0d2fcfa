"""Faults in a layer whose products come from tables, against loops over Python integers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bitproof.approx import Drum, Exact, Truncated
from bitproof.core.rng import make_generator
from bitproof.faults import RandomFlips, corrupt
from bitproof.faults.broken_bits import BrokenBit
from bitproof.faults.execute import check_faults, faulty_element, faulty_node
from bitproof.faults.registers import product_bits
from bitproof.faults.space import FaultSpace
from bitproof.faults.table import ACTIONS, FaultTable
from bitproof.quant import CodedTensor, Grid, IntegerNetwork, Node
from bitproof.quant.integers import integer_op
from bitproof.quant.products import Products

f32 = np.float32
TAPS = ("operand", "weight_operand", "product")
REGISTERS = (*TAPS, "accumulator")


def strike(word: int, width: int, bit: int, action: str, *, signed: bool) -> int:
    digits = [(word >> place) & 1 for place in range(width)]
    digits[bit] = {"flip": 1 - digits[bit], "stuck0": 0, "stuck1": 1}[action]
    value = sum(digit << place for place, digit in enumerate(digits))
    return value - 2**width if signed and digits[-1] else value


def draw_grid(random: np.random.Generator, *, weight: bool) -> Grid:
    bits, signed = int(random.choice([8, 8, 4, 6])), bool(random.integers(2))
    low = -(2 ** (bits - 1)) if signed else 0
    ends = (-300, 300) if weight else (low, low + 2**bits)
    point = torch.tensor(int(random.integers(*ends)), dtype=torch.int32)
    return Grid(torch.tensor(float(random.uniform(0.01, 1))), point, bits, signed)


def draw_words(grid: Grid, shape: tuple[int, ...], random: np.random.Generator) -> Tensor:
    codes = random.integers(grid.low, grid.high + 1, shape)
    return torch.from_numpy(codes).to(grid.dtype)


def draw_layer(seed: int, op: str, *, quantized: bool = True) -> tuple[IntegerNetwork, Tensor]:
    """Return a network of one layer, and words that it reads."""
    random = np.random.default_rng([seed, *op.encode()])
    read, grid = draw_grid(random, weight=False), draw_grid(random, weight=True)
    attrs: dict[str, Any] = {}
    inside, stored = (2, 3), (4, 3)
    if op == "conv":
        attrs = {"stride": [2, 1], "padding": [1, 2], "dilation": [1, 2], "groups": 2}
        inside, stored = (4, 4, 3), (4, 2, 3, 2)  # type: ignore[assignment]
    zeros = torch.tensor(0, dtype=torch.int32)
    bias = torch.from_numpy(random.integers(-(2**31), 2**31, 4)).int()
    tensors = {
        "y.weight": CodedTensor(draw_words(grid, stored, random), grid),
        "y.bias": CodedTensor(bias, Grid(grid.scale * read.scale, zeros, 32, signed=True)),
    }
    out = draw_grid(random, weight=False)
    out = replace(out, scale=grid.scale * read.scale * 2.0**25)
    grids = {"x": read, "y": out} if quantized else {"x": read}
    nodes = Node("x", "input"), Node("y", op, ("x",), attrs)
    network = IntegerNetwork(nodes, tensors, grids)
    return network, draw_words(read, (3, *inside), random)


def with_tables(network: IntegerNetwork, tables: Tensor, *, signed: bool) -> IntegerNetwork:
    """Return the network with a table for each filter in turn, and constants added."""
    choice = torch.arange(4) % len(tables)
    offset = torch.tensor([0, 7, -1000, 2**31 - 1], dtype=torch.int32)
    return replace(network, products={"y": Products(tables, signed, choice, offset)})


def exact_tables(network: IntegerNetwork, *, signed: bool) -> IntegerNetwork:
    table = Exact(signed=signed).table().products
    return replace(network, products={"y": Products.of(table, signed=signed, filters=4)})


def rough_tables(seed: int, *, signed: bool) -> Tensor:
    wild = torch.randint(-(2**20), 2**20, (256, 256), generator=make_generator(seed)).int()
    drum, cut = Drum(width=3, signed=signed), Truncated(columns=6, signed=signed)
    return torch.stack([drum.table().products, wild, cut.table().products])


def slow(
    network: IntegerNetwork, codes: Tensor, element: int, faults: list[tuple[str, BrokenBit]]
) -> list[float]:
    """Return one output element of each image."""
    node, products = network.nodes[-1], network.products["y"]
    read, coded = network.grids["x"], network.tensors["y.weight"]
    weight = coded.codes.numpy().astype(np.int64)
    padded = codes.numpy().astype(np.int64)
    if node.op == "linear":
        row, m = divmod(element, 4)
        taps = padded[:, row]
    else:
        edges = [(0, 0), (0, 0), *((pad, pad) for pad in node.attrs["padding"])]
        padded = np.pad(padded, edges, constant_values=int(read.zero_point))
        high, wide = (padded.shape[2] - 3) // 2 + 1, padded.shape[3] - 2
        m, y, x = (int(i) for i in np.unravel_index(element, (4, high, wide)))
        patch = padded[:, m // 2 * 2 : m // 2 * 2 + 2, 2 * y : 2 * y + 3, x : x + 3 : 2]
        taps = patch.reshape(len(codes), -1)
    shifts = [
        2 ** (grid.bits - 1) * (grid.signed and not products.signed)
        - 128 * (products.signed and not grid.signed and grid.bits == 8)
        for grid in (read, coded.grid)
    ]
    points = [int(read.zero_point) + shifts[0], int(coded.grid.zero_point) + shifts[1]]
    table, width = products.tables[int(products.choice[m])], width_of(products)

    def struck(word: int, bits: int, tap: int, where: tuple[str, bool]) -> int:
        """Return a word with its own faults: those of site and tap."""
        site, signed = where
        for kind, fault in faults:
            if kind == site and fault.tap == tap:
                word = strike(word, bits, fault.bit, ACTIONS[fault.action], signed=signed)
        return word

    results = []
    for image in taps:
        total = int(network.tensors["y.bias"].codes[m]) + int(products.offset[m])
        pairs = zip(image.tolist(), weight[m].reshape(-1).tolist(), strict=True)
        for tap, (a, w) in enumerate(pairs):
            left = struck(a, read.bits, tap, ("operand", read.signed))
            right = struck(w, coded.grid.bits, tap, ("weight_operand", coded.grid.signed))
            first, second = left + shifts[0], right + shifts[1]
            product = int(table[first % 256, second % 256])
            total += struck(product, width, tap, ("product", True))
            total -= points[1] * first + points[0] * second - points[0] * points[1]
        total = (total + 2**31) % 2**32 - 2**31
        results.append(requantize(network, struck(total, 32, -1, ("accumulator", True))))
    return results


def width_of(products: Products) -> int:
    """Return the bits of a register that holds every product, with its sign."""
    most = max(abs(int(products.tables.max())), abs(int(products.tables.min())))
    return len(f"{most:b}") + 1 if most else 1


def requantize(network: IntegerNetwork, total: int) -> float:
    weight, out = network.tensors["y.weight"].grid, network.grids.get("y")
    step = float(weight.scale) * float(network.grids["x"].scale)
    if out is None:
        return float(f32(total) * f32(step))
    word = round(float(f32(total) * f32(step / float(out.scale)))) + int(out.zero_point)
    return float(min(max(word, out.low), out.high))


def elements_of(network: IntegerNetwork, codes: Tensor) -> int:
    return integer_op(network, network.nodes[-1], [codes], codes)[0].numel()


def draw_fault(
    site: str, network: IntegerNetwork, random: np.random.Generator, element: int
) -> BrokenBit:
    widths = {
        "operand": network.grids["x"].bits,
        "weight_operand": network.tensors["y.weight"].grid.bits,
        "product": product_bits(network, network.nodes[-1]),
        "accumulator": 32,
    }
    taps = network.tensors["y.weight"].codes[0].numel()
    tap = -1 if site == "accumulator" else int(random.integers(taps))
    bit, action = int(random.integers(widths[site])), int(random.integers(3))
    return BrokenBit(element, tap, bit, action)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("op", ["conv", "linear"])
def test_an_element_without_faults_is_that_of_the_layer(op: str, signed: bool) -> None:
    for seed, quantized in ((0, True), (1, False)):
        network, codes = draw_layer(seed, op, quantized=quantized)
        network = with_tables(network, rough_tables(seed, signed=signed), signed=signed)
        node = network.nodes[-1]
        whole = integer_op(network, node, [codes], codes).flatten(1)
        for element in range(0, whole.shape[1], 3):
            alone = faulty_element(network, node, codes, element, {})
            assert torch.equal(alone, whole[:, element].to(alone.dtype))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("site", REGISTERS)
@pytest.mark.parametrize("op", ["conv", "linear"])
def test_faults_in_registers_equal_the_slow_one(op: str, site: str, signed: bool) -> None:
    for seed in range(4):
        random = np.random.default_rng([seed, *site.encode()])
        network, codes = draw_layer(seed, op, quantized=seed % 3 > 0)
        network = with_tables(network, rough_tables(seed, signed=signed), signed=signed)
        element = int(random.integers(elements_of(network, codes)))
        faults = [(site, draw_fault(site, network, random, element)) for _ in range(1 + seed % 2)]
        own = {site: [fault for _, fault in faults]}
        found = faulty_element(network, network.nodes[-1], codes, element, own)
        assert found.tolist() == slow(network, codes, element, faults)


@pytest.mark.parametrize("op", ["conv", "linear"])
def test_faults_in_all_registers_at_once_equal_the_slow_one(op: str) -> None:
    for seed in range(4):
        random = np.random.default_rng(seed)
        network, codes = draw_layer(seed, op)
        network = with_tables(network, rough_tables(seed, signed=False), signed=False)
        element = int(random.integers(elements_of(network, codes)))
        faults = [(site, draw_fault(site, network, random, element)) for site in REGISTERS]
        own = {site: [fault] for site, fault in faults}
        node = network.nodes[-1]
        whole = integer_op(network, node, [codes], codes).flatten(1)
        struck = faulty_node(network, node, [codes], codes, own).flatten(1)
        assert struck[:, element].tolist() == slow(network, codes, element, faults)
        whole[:, element] = struck[:, element]
        assert torch.equal(struck, whole)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("site", ["operand", "weight_operand", "accumulator"])
@pytest.mark.parametrize("op", ["conv", "linear"])
def test_an_exact_table_has_the_faults_of_exact_products(op: str, site: str, signed: bool) -> None:
    for seed in range(4):
        random = np.random.default_rng([seed, *site.encode()])
        network, codes = draw_layer(seed, op, quantized=seed % 2 > 0)
        own, node = exact_tables(network, signed=signed), network.nodes[-1]
        element = int(random.integers(elements_of(network, codes)))
        faults = {site: [draw_fault(site, network, random, element)]}
        wanted = faulty_node(network, node, [codes], codes, faults)
        assert torch.equal(faulty_node(own, node, [codes], codes, faults), wanted)


@pytest.mark.parametrize("site", ["weight", "bias", "input", "output", "activation"])
def test_faults_in_memory_strike_before_and_after_the_products(site: str) -> None:
    for seed in range(4):
        network, codes = draw_layer(seed, "conv")
        network = with_tables(network, rough_tables(seed, signed=True), signed=True)
        node, random = network.nodes[-1], np.random.default_rng([seed, *site.encode()])
        sizes = {
            "weight": network.tensors["y.weight"].codes.numel(),
            "bias": 4,
            "input": codes[0].numel(),
        }
        element = int(random.integers(sizes.get(site, elements_of(network, codes))))
        fault = BrokenBit(element, -1, int(random.integers(4)), 0)
        found = faulty_node(network, node, [codes], codes, {site: [fault]})
        clean = integer_op(network, node, [codes], codes)
        if site in {"weight", "bias"}:
            coded = network.tensors[f"y.{site}"]
            struck = struck_words(coded.codes[None], fault, coded.grid)[0]
            changed = network.with_codes({f"y.{site}": struck})
            wanted = integer_op(changed, node, [codes], codes)
        elif site == "input":
            struck = struck_words(codes, fault, network.grids["x"])
            wanted = integer_op(network, node, [struck], codes)
        else:
            wanted = struck_words(clean, fault, network.grids["y"])
        assert torch.equal(found, wanted)
        assert not torch.equal(found, clean) or site in {"bias", "weight", "input"}


def struck_words(codes: Tensor, fault: BrokenBit, grid: Grid) -> Tensor:
    struck = codes.clone().reshape(len(codes), -1)
    for row in struck:
        word = int(row[fault.element])
        row[fault.element] = strike(word, grid.bits, fault.bit, "flip", signed=grid.signed)
    return struck.reshape(codes.shape)


def test_random_flips_of_weights_keep_the_tables() -> None:
    for signed in (False, True):
        network, codes = draw_layer(5, "conv")
        network = with_tables(network, rough_tables(5, signed=signed), signed=signed)
        digest, node = network.digest(), network.nodes[-1]
        faults = RandomFlips(ber=0.05)
        broken = corrupt(network, faults, generator=make_generator(3))
        assert broken.products is network.products
        assert network.digest() == digest
        found = integer_op(broken, node, [codes], codes).flatten(1)
        for element in range(0, found.shape[1], 5):
            assert found[:, element].tolist() == slow(broken, codes, element, [])


@pytest.mark.parametrize(
    ("entry", "bits"),
    [(0, 1), (1, 2), (-1, 2), (127, 8), (128, 9), (-65025, 17), (2**31 - 1, 32), (-(2**31), 33)],
)
def test_product_registers_are_as_wide_as_the_largest_product(entry: int, bits: int) -> None:
    network, _ = draw_layer(0, "linear")
    table = torch.zeros(256, 256, dtype=torch.int32)
    table[3, 5] = entry
    network = replace(network, products={"y": Products.of(table, signed=False, filters=4)})
    assert product_bits(network, network.nodes[-1]) == bits


def test_the_list_of_places_knows_the_width_of_looked_up_products() -> None:
    network, codes = draw_layer(1, "conv")
    network = with_tables(network, rough_tables(1, signed=True), signed=True)
    shape = tuple(integer_op(network, network.nodes[-1], [codes], codes).shape[1:])
    shapes = {"x": tuple(codes.shape[1:]), "y": shape}
    (stratum,) = FaultSpace(sites=("product",)).strata(network, shapes)
    assert stratum.width == width_of(network.products["y"]) == 21
    assert stratum.size == int(np.prod(shape)) * 12 * 21
    row = (0, "product", "y", stratum.words - 1, 11, 20, "flip")
    check_faults(network, FaultTable.from_rows([row]), shapes)
