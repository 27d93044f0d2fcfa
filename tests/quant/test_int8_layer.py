"""8-bit products of the C library against floats that hold the same integers: bit for bit."""

import copy
import ctypes
import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from bitproof.core.errors import QuantizationError
from bitproof.core.rng import make_generator
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.library import find_library, levels, library, why_absent
from bitproof.models import ResNet20
from bitproof.quant import (
    AffineQuantizer,
    CodedTensor,
    Grid,
    IntegerNetwork,
    Node,
    Scheme,
    accumulators,
    compiled,
    int8_layer,
    lowering,
    quantize,
    run_integers,
)
from bitproof.quant.accumulators import exact_convolution
from bitproof.quant.arithmetic import requantize, requantize_
from bitproof.quant.constants import Constants
from bitproof.quant.int8_layer import prepare_int8
from bitproof.quant.integers import integer_op

pytestmark = pytest.mark.skipif(library() is None, reason=why_absent() or "no library")

IMAGES = torch.rand(4, 3, 12, 12, generator=make_generator(0))
WIDE = Scheme(weight=AffineQuantizer(symmetric=True, signed=True), bias=None)


def one_node(draw: Callable[..., Any]) -> tuple[IntegerNetwork, Tensor]:
    """Return a network of one layer behind its input, and stored words for that input."""
    op, rank = draw(st.sampled_from([("conv", 2), ("conv", 2), ("conv", 1), ("linear", 0)]))
    groups = draw(st.sampled_from([1, 1, 2, 3, 8])) if rank else 1
    depth, outs = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    if rank and draw(st.integers(0, 4)) == 0:
        depth = outs = 1  # a filter for each channel
        groups = draw(st.integers(1, 40))
    if draw(st.integers(0, 3)) == 0:
        depth, groups = draw(st.sampled_from([130, 300, 601])), 1
    shape = (groups * outs, depth, *(draw(st.integers(1, 4)) for _ in range(rank)))
    stride, dilation = ([draw(st.integers(1, 3)) for _ in range(rank)] for _ in range(2))
    reaches = [d * (k - 1) + 1 for d, k in zip(dilation, shape[2:], strict=True)]
    padding = [draw(st.integers(0, (reach - 1) // 2)) for reach in reaches]
    smallest = reaches
    if draw(st.integers(0, 3)) == 0:  # windows larger than the map, their middle inside
        dilation, smallest = [1] * rank, [max(k - 2 * ((k - 1) // 2), 1) for k in shape[2:]]
        padding = [(k - 1) // 2 for k in shape[2:]]
    if draw(st.integers(0, 4)) == 0:
        # With dilation, windows that miss the map make torch's float convolution end with a fault.
        dilation, smallest = [1] * rank, [1] * rank
        padding = [draw(st.integers(k // 2, k)) for k in shape[2:]]
    sizes = [draw(st.integers(low, low + 9)) for low in smallest]
    attrs: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    attrs = {**attrs, "groups": groups}
    attrs = attrs if rank else {}
    if draw(st.booleans()):
        attrs["clamp"] = (0.0, draw(st.sampled_from([None, 6.0])))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 5))
    before = draw(st.lists(st.integers(1, 3), max_size=2)) if op == "linear" else []
    x_grid = Grid(
        torch.tensor(0.02), points(draw, ()), draw(st.integers(2, 8)), draw(st.booleans())
    )
    codes = words_on(x_grid, (n, *before, groups * depth, *sizes), draw, generator)
    each = draw(st.booleans())
    w_grid = Grid(
        torch.rand(shape[0], generator=generator) * 0.01 + 1e-4 if each else torch.tensor(0.003),
        points(draw, (shape[0],) if each else ()),
        draw(st.integers(2, 8)),
        draw(st.booleans()),
        axis=0 if each else None,
    )
    tensors = {"y.weight": CodedTensor(words_on(w_grid, shape, draw, generator), w_grid)}
    reach = draw(st.sampled_from([None, 100, 2**24, 2**31 - 1]))
    if reach is not None:
        bias = torch.randint(-reach, reach + 1, (shape[0],), generator=generator)
        scale = torch.tensor(0.02) * w_grid.scale
        # `low` of a word of 32 bits; its scale is the accumulator's, one for each channel or all.
        grid = Grid(scale, torch.zeros_like(scale, dtype=torch.int32), 32, True, w_grid.axis)
        tensors["y.bias"] = CodedTensor(bias.to(torch.int32), grid)
    grids = {"x": x_grid}
    if "clamp" in attrs or draw(st.booleans()):
        step = torch.tensor(draw(st.sampled_from([0.05, 3.0, 40.0])))
        grids["y"] = Grid(step, points(draw, ()), draw(st.integers(2, 8)), draw(st.booleans()))
        if draw(st.integers(0, 3)) == 0:
            zero = torch.tensor(0, dtype=torch.int32)
            grids["y"] = Grid(step / 100, zero, 16, signed=True)
    nodes = (Node("x", "input"), Node("y", op, ("x",), attrs))
    rounding = draw(st.sampled_from(["nearest", "truncate"]))
    return IntegerNetwork(nodes, tensors, grids, rounding), codes


def points(draw: Callable[..., Any], shape: tuple[int, ...]) -> Tensor:
    """Return zero points, inside the word or not."""
    low, high = draw(st.sampled_from([(0, 0), (-9, 9), (100, 150), (-400, 400)]))
    seed = draw(st.integers(0, 2**32))
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator, dtype=torch.int32)


def words_on(
    grid: Grid, shape: tuple[int, ...], draw: Callable[..., Any], generator: torch.Generator
) -> Tensor:
    """Return words: of all sizes, or extreme ones, all alike or not, in some order in memory."""
    kind = draw(st.sampled_from(["any", "any", "ends", "high", "low"]))
    low, high = grid.low, grid.high
    codes = torch.randint(low, high + 1, shape, generator=generator)
    if kind == "ends":
        codes = torch.where(codes > (low + high) // 2, high, low)
    elif kind != "any":
        codes = torch.full(shape, high if kind == "high" else low)
    codes = codes.to(grid.dtype)
    layout = draw(st.sampled_from(["rows", "channels_last", "part", "expanded"]))
    if layout == "channels_last" and len(shape) == 4:
        return codes.contiguous(memory_format=torch.channels_last)
    if layout == "part":
        return torch.cat([codes, codes], -1)[..., : shape[-1]]
    return codes[:1].expand(shape) if layout == "expanded" and shape else codes


def both(network: IntegerNetwork, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the layer's output by 8-bit products, and by floats."""
    node, images = network.nodes[1], torch.zeros(len(codes), 1)
    native, exact = (
        integer_op(network, node, [codes], images, native=native) for native in (True, False)
    )
    return native, exact


@pytest.fixture(params=levels())
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the library compute at each level of instructions."""
    name: str = request.param
    for module in (accumulators, int8_layer):
        monkeypatch.setattr(module, "library", lambda: find_library(name)[0])
    return name


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(data=st.data())
@pytest.mark.usefixtures("level")
def test_layers_of_any_shape_equal_the_exact_path(data: st.DataObject) -> None:
    network, codes = one_node(data.draw)
    before = codes.clone()
    native, exact = both(network, codes)
    assert native.shape == exact.shape
    assert native.dtype == exact.dtype
    assert torch.equal(native, exact)
    assert torch.equal(codes, before)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.usefixtures("level")
def test_products_of_matrices_equal_the_exact_path(data: st.DataObject) -> None:
    draw = data.draw
    before = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    rows, depth, columns = (draw(st.integers(1, 40)) for _ in range(3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    grids = {
        name: Grid(
            torch.tensor(0.1), points(draw, ()), draw(st.integers(2, 8)), draw(st.booleans())
        )
        for name in ("x", "z")
    }
    shapes = (*before, rows, depth), (*before, depth, columns)
    codes = [
        words_on(grid, shape, draw, generator)
        for grid, shape in zip(grids.values(), shapes, strict=True)
    ]
    if draw(st.booleans()):
        bits, signed = draw(st.sampled_from([(8, False), (5, True), (16, True)]))
        grids["y"] = Grid(torch.tensor(3.0), torch.tensor(0, dtype=torch.int32), bits, signed)
    nodes = (Node("x", "input"), Node("z", "input"), Node("y", "matmul", ("x", "z")))
    network = IntegerNetwork(nodes, {}, grids)
    native, exact = (
        integer_op(network, nodes[2], codes, codes[0], native=native) for native in (True, False)
    )
    assert native.dtype == exact.dtype
    assert torch.equal(native, exact)


def conv_network(weight: Tensor, *, point: int = 0, bias: Tensor | None = None) -> IntegerNetwork:
    """Return a 3x3 convolution of unsigned words whose weights have zero point `point`."""
    w_grid = Grid(torch.tensor(1.0), torch.tensor(point, dtype=torch.int32), 8, signed=False)
    grid = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 8, signed=False)
    tensors = {"y.weight": CodedTensor(weight, w_grid)}
    if bias is not None:
        word = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 32, signed=True)
        tensors["y.bias"] = CodedTensor(bias.to(torch.int32), word)
    attrs = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1}
    nodes = (Node("x", "input"), Node("y", "conv", ("x",), attrs))
    return IntegerNetwork(nodes, tensors, {"x": grid})


def test_weights_beyond_int8_are_shifted_into_it() -> None:
    weight = torch.full((3, 4, 3, 3), 120, dtype=torch.uint8)
    weight[0, 0], weight[1, 0] = 255, 0
    network = conv_network(weight, point=150)
    node, constants = network.nodes[1], network.constants["y"]
    layer = prepare_int8(node, constants, network.tensors["y.weight"], network.grids["x"])
    assert layer is not None
    assert layer.shift is not None
    assert layer.shift.tolist() == [0, -22, *[0] * 14]
    codes = torch.randint(0, 256, (2, 4, 5, 5), generator=make_generator(0)).to(torch.uint8)
    assert torch.equal(*both(network, codes))


@pytest.mark.parametrize("bias", [None, 2**31 - 1, -(2**31), 2**24])
def test_sums_beyond_single_precision_are_exact_and_wrap(bias: int | None) -> None:
    weight = torch.full((5, 300, 3, 3), 255, dtype=torch.uint8)
    weight[::2] = 254
    vector = None if bias is None else torch.full((5,), bias)
    network = conv_network(weight, point=3, bias=vector)
    codes = torch.full((2, 300, 4, 4), 255, dtype=torch.uint8)
    codes[1, ::3] = 254
    native, exact = both(network, codes)
    assert torch.equal(native, exact)
    assert bias is None or bias < 2**31 - 1 or bool((native < 0).any())  # the register wrapped


@pytest.mark.parametrize("bits", [8, 5])
@pytest.mark.parametrize("channels", [1, 7, 16, 40])
def test_a_filter_for_each_channel(bits: int, channels: int) -> None:
    generator = make_generator(0, channels)
    grid = Grid(torch.tensor(0.1), torch.tensor(9, dtype=torch.int32), bits, signed=False)
    weight = torch.randint(0, 2**bits, (channels, 1, 3, 2), generator=generator)
    attrs = {"stride": [2, 1], "padding": [1, 0], "dilation": [1, 2], "groups": channels}
    nodes = (Node("x", "input"), Node("y", "conv", ("x",), attrs))
    out = Grid(torch.tensor(0.5), torch.tensor(40, dtype=torch.int32), 8, signed=False)
    tensors = {"y.weight": CodedTensor(weight.to(torch.uint8), grid)}
    network = IntegerNetwork(nodes, tensors, {"x": grid, "y": out})
    codes = torch.randint(0, 2**bits, (3, channels, 9, 11), generator=generator).to(torch.uint8)
    assert torch.equal(*both(network, codes))


def test_padding_without_a_word_for_zero_falls_back() -> None:
    network = conv_network(torch.ones(2, 3, 3, 3, dtype=torch.uint8))
    point = torch.tensor(-3, dtype=torch.int32)
    network = replace(network, grids={"x": replace(network.grids["x"], zero_point=point)})
    node, constants = network.nodes[1], network.constants["y"]
    weight = network.tensors["y.weight"]
    assert prepare_int8(node, constants, weight, network.grids["x"]) is None
    codes = torch.randint(0, 256, (2, 3, 5, 5), generator=make_generator(0)).to(torch.uint8)
    assert torch.equal(*both(network, codes))


def test_whole_numbers_that_no_shift_brings_into_8_bits_fall_back() -> None:
    grid = conv_network(torch.zeros(1, 1, 3, 3, dtype=torch.uint8)).grids["x"]
    codes = torch.randint(0, 256, (2, 2, 5, 5), generator=make_generator(0)).to(torch.uint8)
    for high in (255.0, 256.0):  # from 0 on: the first fits, shifted
        weight = torch.tensor([0.0, high]).reshape(1, 2, 1, 1)
        totals = exact_convolution(weight, None, Geometry(), grid).totals(codes)
        assert torch.equal(totals, high * codes[:, 1:].float())


@pytest.mark.parametrize("op", ["conv3d", "affine", "matmul"])
def test_other_operations_equal_the_exact_path(op: str) -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.volume = nn.Conv3d(1, 2, 2)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            if op == "conv3d":
                result: Tensor = self.volume(x[:, None])
            else:
                result = self.norm(x) if op == "affine" else x @ x.transpose(2, 3)
            return result

    network = quantize(Layer().eval(), IMAGES)
    assert torch.equal(network(IMAGES), run_integers(network, IMAGES, native=False))


def test_no_words_give_no_sums() -> None:
    network = conv_network(torch.zeros(2, 3, 3, 3, dtype=torch.uint8))
    none = torch.zeros(0, 3, 5, 5, dtype=torch.uint8)
    assert both(network, none)[0].shape == (0, 2, 5, 5)


# --- whole networks -------------------------------------------------------------------------------


class Mixed(nn.Module):
    """Convolutions of three sorts, a sum and a difference, pooling, a table, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, padding=1)
        self.deep = nn.Conv2d(24, 24, 3, padding=2, dilation=2, groups=24)
        self.grouped = nn.Conv2d(24, 24, 3, padding=1, groups=4)
        self.head = nn.Sequential(nn.Linear(24, 30), nn.GELU(), nn.Linear(30, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x))
        x = torch.relu(self.deep(x) + x) - self.grouped(x)
        logits: Tensor = self.head(functional.max_pool2d(x, 3, 2, 1).mean((2, 3)))
        return logits


SCHEMES = {
    "default": Scheme(),
    "signed": Scheme(activation_signed=True, activation_symmetric=True),
    "truncated": Scheme(activation_rounding="truncate"),
    "per_channel": Scheme(weight=AffineQuantizer(per_channel=True), bias=None),
    "four_bits": Scheme(weight=AffineQuantizer(bits=4), activation_bits=4),
}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_networks_equal_the_exact_path_in_every_word(scheme: Scheme) -> None:
    network = quantize(Mixed().eval(), IMAGES, scheme)
    seen: dict[bool, list[Tensor]] = {True: [], False: []}
    for native, codes in seen.items():

        def keep(node: Node, x: Tensor, grid: Grid, codes: list[Tensor] = codes) -> Tensor:
            codes.append(x.clone())
            return x

        codes.append(run_integers(network, IMAGES, corrupt=keep, native=native))
    assert len(seen[True]) > 5
    assert all(torch.equal(*pair) for pair in zip(seen[True], seen[False], strict=True))


def test_a_struck_network_equals_the_exact_path() -> None:
    blank = ResNet20().build(
        in_channels=3, image_size=12, n_classes=10, generator=make_generator(0)
    )
    network = quantize(blank.eval(), IMAGES)
    generator = make_generator(0, "flips")
    struck = network.with_codes(
        {
            name: codes
            ^ (torch.rand(codes.shape, generator=generator) < 0.02).to(codes.dtype) * 128
            for name, (codes, _) in network.codes("weight").items()
        }
    )
    assert not torch.equal(struck(IMAGES), network(IMAGES))
    assert torch.equal(struck(IMAGES), run_integers(struck, IMAGES, native=False))


# --- when it is used ------------------------------------------------------------------------------


@pytest.fixture
def network() -> IntegerNetwork:
    return quantize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)), IMAGES)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the nodes that are laid out, as they are."""
    names: list[str] = []
    prepare = int8_layer.prepare_int8

    def watched(node: Node, *rest: Any) -> Any:
        names.append(node.name)
        return prepare(node, *rest)

    monkeypatch.setattr(accumulators, "prepare_int8", watched)
    return names


def test_it_is_used_unless_it_is_off(network: IntegerNetwork, prepared: list[str]) -> None:
    twin = replace(network)  # with nothing prepared
    run_integers(twin, IMAGES, native=False)
    assert not prepared
    twin(IMAGES)
    assert prepared == ["0", "2"]


def test_without_vector_instructions_floats_do(
    network: IntegerNetwork, prepared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = replace(network)
    for module in (accumulators, lowering):
        monkeypatch.setattr(module, "library", lambda: find_library("portable")[0])
    twin(IMAGES)
    assert not prepared
    run_integers(twin, IMAGES, native=True)
    assert prepared == ["0", "2"]


def test_without_the_library_floats_do(
    network: IntegerNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, twin = network(IMAGES), replace(network)
    for module in (accumulators, int8_layer, compiled, lowering):
        monkeypatch.setattr(module, "library", lambda: None)
    assert torch.equal(twin(IMAGES), expected)
    with pytest.raises(QuantizationError, match="wanted the C library, got none"):
        run_integers(twin, IMAGES, native=True)


def test_untouched_layers_are_not_packed_again(
    network: IntegerNetwork, prepared: list[str]
) -> None:
    network(IMAGES)
    prepared.clear()
    changed = network.with_codes({"2.weight": network.tensors["2.weight"].codes ^ 1})
    changed(IMAGES)
    changed(IMAGES)
    assert prepared == ["2"]


def test_weights_that_move_to_shared_memory_are_found_there(network: IntegerNetwork) -> None:
    """Torch moves them when another process is given the network, and frees where they lay."""

    def by_node() -> Tensor:
        return run_integers(network, IMAGES, corrupt=lambda _, codes, __: codes)

    expected = network(IMAGES)
    assert torch.equal(by_node(), expected)
    moved: list[Tensor] = []

    class Mover(pickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            tensor: Any = value
            if isinstance(value, Tensor) and not tensor.is_shared():
                before = tensor.data_ptr()
                tensor.share_memory_()
                assert tensor.data_ptr() != before
                moved.append(tensor)
            return NotImplemented

    Mover(io.BytesIO()).dump(network)
    assert len(moved) > 10
    others = [torch.full_like(tensor, 77) for tensor in moved for _ in range(20)]  # where they lay
    assert others
    assert torch.equal(network(IMAGES), expected)
    assert torch.equal(by_node(), expected)


def test_networks_that_ran_can_be_copied_and_pickled(network: IntegerNetwork) -> None:
    expected = network(IMAGES)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(twin(IMAGES), expected)


# --- requantizing in place ------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
@pytest.mark.parametrize("point", [0, 7, -300])
def test_requantizing_is_that_of_plain_numbers_and_in_place_only_if_asked(
    rounding: str, point: int
) -> None:
    values = torch.arange(-1200, 1200).float() / 4
    constants = Constants((), (), zero_point=point, low=-100, high=120, rounding=rounding)
    whole = [
        round(value) + point if rounding == "nearest" else int(value + point)
        for value in values.tolist()
    ]
    expected = torch.tensor([float(min(max(word, -100), 120)) for word in whole])
    before = values.clone()
    assert torch.equal(requantize(values, constants), expected)
    assert torch.equal(values, before)
    assert torch.equal(requantize_(values, constants), expected)
    assert torch.equal(values, expected)


@pytest.mark.parametrize("filters", [64, 65, 200])
@pytest.mark.parametrize("n", [1, 3])
def test_pieces_of_a_layer_can_be_done_in_any_order(level: str, filters: int, n: int) -> None:
    """Where tiles are few, parts of the filters of each are pieces."""
    model = nn.Conv2d(5, filters, 3, padding=1)
    images = torch.rand(n, 5, 9, 9, generator=make_generator(0))
    network = quantize(model, images, Scheme(weight=AffineQuantizer(per_channel=True)))
    node = network.nodes[1]
    accumulator = network.accumulator(node)
    assert isinstance(accumulator, accumulators.ExactAccumulator)
    layer, compiled_level = accumulator.int8_layer, find_library(level)[0]
    assert layer is not None
    assert compiled_level is not None
    words = integer_op(network, network.nodes[0], [], images)
    job, out = layer.describe(
        words.contiguous(memory_format=torch.channels_last), torch.float32, sums=False
    )
    compiled_level.run(job)
    expected = out.clone()
    assert torch.equal(expected, integer_op(network, node, [words], images, native=False))
    assert job.pieces == n * -(-filters // 64)
    for step in (1, 2, 3):
        out.zero_()
        for first in reversed(range(0, job.pieces, step)):
            last = min(first + step, job.pieces)
            assert not compiled_level.functions.bitproof_do(
                compiled_level.number, job.number, ctypes.byref(job), first, last
            )
        assert torch.equal(out, expected)
