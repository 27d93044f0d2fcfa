"""Faults in arrays: what the library computes at once against arrays stepped cycle by cycle."""

from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import FaultListError, SpecError
from bitproof.core.rng import make_generator
from bitproof.faults.broken_bits import BrokenBit, break_bit
from bitproof.faults.registers import product_bits
from bitproof.faults.systolic import SystolicArray
from bitproof.faults.systolic_layer import (
    PERMANENT,
    FaultyLayer,
    RegisterFault,
    systolic_words,
)
from bitproof.faults.table import ARRAY_SITES, FLIP, STUCK0, STUCK1
from bitproof.injection.golden import Golden
from bitproof.quant import AffineQuantizer, IntegerNetwork, Scheme, quantize
from bitproof.quant.graph import Node
from tests.faults.slow_array import SLOW, SlowArray, SlowFault, SlowLayer, wrap

DATAFLOWS = ("weight_stationary", "output_stationary", "row_stationary")
SCOPES = ("element", "pe_row", "single_mac")
N_IMAGES = 2


@dataclass(frozen=True, eq=False)
class Case:
    """A layer in a network, and its size on small arrays."""

    module: nn.Module
    shape: tuple[int, ...]
    scheme: Scheme = field(default_factory=Scheme)

    @cached_property
    def network(self) -> IntegerNetwork:
        return quantize(self.module.eval(), self.images, self.scheme)

    @cached_property
    def images(self) -> Tensor:
        return torch.rand(N_IMAGES, *self.shape, generator=make_generator(0, "images"))

    @cached_property
    def node(self) -> Node:
        return next(node for node in self.network.nodes if node.op in {"conv", "linear"})

    @cached_property
    def codes(self) -> Tensor:
        return Golden.run(self.network, self.images).codes[self.node.inputs[0]]

    def slow_layer(self, image: int) -> SlowLayer:
        """Build the matrices by loops over everything."""
        coded = self.network.tensors[f"{self.node.name}.weight"]
        stored = coded.codes.numpy().astype(np.int64)
        point = int(self.network.grids[self.node.inputs[0]].zero_point)
        codes = self.codes[image].numpy().astype(np.int64)
        points = coded.grid.zero_point.reshape(-1).numpy()
        if self.node.op == "linear":
            k = stored.shape[1]
            rows = codes.reshape(-1, k)
            origin = np.array([[(m, i, 0) for i in range(k)] for m in range(len(rows))])
            words, weights, sizes = rows[None], stored.T[None], (k, 1, 1)
            origin, groups = origin[None], 1
        else:
            words, weights, origin, sizes = self._of_convolution(codes, stored, point)
            groups = len(words)
        channels = stored.shape[0] // groups
        spread = np.broadcast_to(points, stored.shape[0]).reshape(groups, channels)
        return SlowLayer(words, weights, point, spread, origin, *sizes)

    def _of_convolution(self, codes: np.ndarray, stored: np.ndarray, point: int) -> Any:
        move = self.node.geometry
        if stored.ndim == 3:  # one axis of space: a map of one row
            stored, codes = stored[:, :, None], codes[:, None]
        stride, padding, gap = (
            (one, other) if len(pair) == 2 else (fill, pair[0])
            for pair, fill in ((move.stride, 1), (move.padding, 0), (move.dilation, 1))
            for one, other in [pair if len(pair) == 2 else (fill, pair[0])]
        )
        n_out, c_in, kh, kw = stored.shape
        _, height, width = codes.shape
        oh = (height + 2 * padding[0] - gap[0] * (kh - 1) - 1) // stride[0] + 1
        ow = (width + 2 * padding[1] - gap[1] * (kw - 1) - 1) // stride[1] + 1
        groups, taps = move.groups, c_in * kh * kw
        per_group = n_out // groups
        words = np.zeros((groups, oh * ow, taps), np.int64)
        origin = np.zeros((groups, oh * ow, taps, 3), np.int64)
        weights = np.zeros((groups, taps, per_group), np.int64)
        for g, y, x, c, i, j in product(
            range(groups), range(oh), range(ow), range(c_in), range(kh), range(kw)
        ):
            iy = y * stride[0] - padding[0] + i * gap[0]
            ix = x * stride[1] - padding[1] + j * gap[1]
            m, k = y * ow + x, (c * kh + i) * kw + j
            inside = 0 <= iy < height and 0 <= ix < width
            words[g, m, k] = codes[g * c_in + c, iy, ix] if inside else point
            origin[g, m, k] = (c, iy, ix)
            for n in range(per_group):
                weights[g, k, n] = stored[g * per_group + n, c, i, j]
        return words, weights, origin, (c_in, kw, ow)

    def arrays(self, array: SystolicArray) -> list[SlowArray]:
        kind = SLOW[array.dataflow]
        sizes = array.rows, array.columns, array.latency, array.stream
        return [kind(self.slow_layer(image), *sizes) for image in range(N_IMAGES)]

    def widths(self) -> dict[str, tuple[int, bool]]:
        read = self.network.grids[self.node.inputs[0]]
        weight = self.network.tensors[f"{self.node.name}.weight"].grid
        return {
            "pe_input": (read.bits, read.signed),
            "pe_weight": (weight.bits, weight.signed),
            "pe_product": (product_bits(self.network, self.node), True),
            "pe_sum": (32, True),
        }

    def wanted(self, arrays: list[SlowArray], array: SystolicArray, fault: RegisterFault) -> Tensor:
        """Return the sums of the slow arrays, biases added, as float32."""
        bits, signed = self.widths()[fault.register]

        def strike(value: int) -> int:
            broken = torch.tensor(value)
            for one in fault.bits:
                broken = break_bit(broken, one, bits=bits, signed=signed)
            return int(broken)

        row, column = divmod(fault.element, array.columns)
        first = None if fault.cycle == PERMANENT else fault.cycle
        scope = array.scope if fault.register in {"pe_input", "pe_weight"} else "pe_row"
        images = []
        for slow in arrays:
            sums = slow.run(
                SlowFault(fault.register, row, column, first, array.window, scope, strike)
            )
            images.append(self.with_bias(sums))
        return torch.stack(images)

    def with_bias(self, sums: np.ndarray) -> Tensor:
        """Return `[g][m][n]` as the layer's output."""
        bias = self.network.constants[self.node.name].bias
        groups, m, n = sums.shape
        flat = sums.transpose(0, 2, 1).reshape(groups * n, m)
        added = flat + (0 if bias is None else bias.long().numpy()[:, None])
        wrapped = torch.from_numpy(np.vectorize(wrap)(added)).float()
        if self.node.op == "linear":
            wrapped = wrapped.T
        shape = Golden.run(self.network, self.images).codes[self.node.name].shape[1:]
        return wrapped.reshape(shape)


def array_of(table: dict[str, Any]) -> SystolicArray:
    return SystolicArray.model_validate(table)


def conv(*args: Any, **kwargs: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(*args, **kwargs), nn.ReLU())


class Rows(nn.Module):
    """A linear layer that reads three rows of each image."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(x)
        return found


def offset() -> nn.Module:
    """Weights that lie far from zero on one side: their zero point lies far outside the word."""
    module = conv(2, 3, 2)
    weight = module.get_parameter("0.weight")
    with torch.no_grad():
        weight.copy_(0.5 + 0.01 * torch.rand(weight.shape, generator=make_generator(4)))
    return module


def line() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv1d(2, 3, 2, stride=2, padding=1), nn.ReLU())


@cache
def cases() -> dict[str, Case]:
    signed = Scheme(
        weight=AffineQuantizer(symmetric=True, signed=True, per_channel=True),
        bias=None,
        activation_symmetric=True,
        activation_signed=True,
    )
    narrow = Scheme.model_validate({"preset": "rquant", "bits": 4})
    return {
        "padding": Case(conv(2, 3, 3, padding=1), (2, 3, 3)),
        "stride, even kernel": Case(conv(1, 2, 2, stride=2, padding=1), (1, 5, 3)),
        "groups": Case(conv(4, 4, (1, 2), groups=2, bias=False), (4, 2, 3), signed),
        "depthwise": Case(conv(3, 3, (2, 1), groups=3), (3, 3, 2)),
        "dilation": Case(conv(1, 2, 2, dilation=2), (1, 4, 4), signed),
        "narrow words": Case(conv(2, 2, 1), (2, 2, 2), narrow),
        "far zero point": Case(offset(), (2, 3, 3)),
        "linear": Case(Rows(), (3, 5)),
        "one axis": Case(line(), (2, 5)),
    }


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", cases())
def test_slow_arrays_compute_the_layer(name: str, dataflow: str) -> None:
    case = cases()[name]
    array = array_of({"dataflow": dataflow, "rows": 3, "columns": 2})
    found = torch.stack([case.with_bias(slow.run()) for slow in case.arrays(array)])
    assert torch.equal(found, case.network.accumulator(case.node).sums([case.codes]))


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", cases())
def test_cycles_are_those_of_the_slow_array(name: str, dataflow: str) -> None:
    case = cases()[name]
    for latency, stream in ((0, None), (2, 3)):
        table = {"dataflow": dataflow, "rows": 3, "columns": 2, "latency": latency}
        array = array_of({**table, "stream": stream})
        slow = case.arrays(array)[0]
        slow.run()
        assert array.cycles(case.network, case.node, tuple(case.codes.shape[1:])) == slow.cycle


def compare(case: Case, array: SystolicArray, fault: RegisterFault, slow: list[SlowArray]) -> bool:
    """Compare all sums; return whether any changed."""
    layer = FaultyLayer(case.network, case.node, case.codes, array, fault)
    wanted, found = case.wanted(slow, array, fault), layer.sums()
    assert torch.equal(found, wanted), (array, fault)
    true = case.network.accumulator(case.node).sums([case.codes])
    return not torch.equal(found, true)


def registers(scope: str) -> tuple[Any, ...]:
    """Scopes make no difference to products and sums."""
    return ARRAY_SITES if scope == "pe_row" else ARRAY_SITES[:2]


def bits_of(case: Case, register: str) -> int:
    return case.widths()[register][0]


def some(*names: str) -> list[Any]:
    """Return all cases; those not named are slow."""
    return [
        pytest.param(name, marks=[] if name in names else [pytest.mark.slow]) for name in cases()
    ]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", some("one axis", "far zero point"))
def test_permanent_faults_in_every_element(name: str, dataflow: str, scope: str) -> None:
    """Every element and register; stuck bits turn, so that each is met."""
    case, changed = cases()[name], 0
    table = {"dataflow": dataflow, "rows": 3, "columns": 2, "scope": scope}
    array = array_of(table)
    slow = case.arrays(array)
    for register, element in product(registers(scope), range(6)):
        width = bits_of(case, register)
        for number, action in enumerate((STUCK0, STUCK1)):
            bit = (element * 3 + number * 5) % width
            fault = RegisterFault(
                register, element, PERMANENT, (BrokenBit(element, PERMANENT, bit, action),)
            )
            changed += compare(case, array, fault, slow)
    assert changed


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", some("groups"))
def test_transient_faults_in_every_element(name: str, dataflow: str, scope: str) -> None:
    """Every element and register, some cycles spread over the layer; bits and windows turn."""
    case, changed = cases()[name], 0
    for window, stream, latency in ((1, None, 1), (4, 2, 0)):
        table = {"dataflow": dataflow, "rows": 3, "columns": 2, "scope": scope}
        table |= {"window": window, "stream": stream, "latency": latency}
        array = array_of(table)
        slow = case.arrays(array)
        cycles = array.cycles(case.network, case.node, tuple(case.codes.shape[1:]))
        for number, (register, element) in enumerate(product(registers(scope), range(6))):
            for cycle in range(number % 7, cycles, max(cycles // 3, 1)):
                bit = (element + cycle) % bits_of(case, register)
                one = BrokenBit(element, cycle, bit, FLIP)
                changed += compare(
                    case, array, RegisterFault(register, element, cycle, (one,)), slow
                )
    assert changed


@pytest.mark.slow
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", cases())
def test_transient_faults_in_every_cycle(name: str, dataflow: str, scope: str) -> None:
    """Every element, register and cycle of every layer."""
    case = cases()[name]
    table = {"dataflow": dataflow, "rows": 3, "columns": 2, "scope": scope}
    array = array_of(table)
    slow = case.arrays(array)
    cycles = array.cycles(case.network, case.node, tuple(case.codes.shape[1:]))
    for register, element, cycle in product(registers(scope), range(6), range(cycles)):
        bit = (element + cycle) % bits_of(case, register)
        one = BrokenBit(element, cycle, bit, FLIP)
        compare(case, array, RegisterFault(register, element, cycle, (one,)), slow)


def test_arrays_larger_than_the_layer() -> None:
    case = cases()["narrow words"]
    for dataflow in DATAFLOWS:
        array = array_of({"dataflow": dataflow, "rows": 16, "columns": 16})
        slow = case.arrays(array)
        for register, element in product(ARRAY_SITES, (0, 17, 255)):
            one = BrokenBit(element, PERMANENT, 2, STUCK1)
            compare(case, array, RegisterFault(register, element, PERMANENT, (one,)), slow)


def test_words_are_sums_requantized() -> None:
    case = cases()["padding"]
    array = SystolicArray(rows=3, columns=2)
    fault = RegisterFault("pe_sum", 3, PERMANENT, (BrokenBit(3, PERMANENT, 11, STUCK1),))
    faults = {"pe_sum": list(fault.bits)}
    words = systolic_words(case.network, case.node, case.codes, array, faults)
    constants = case.network.constants[case.node.name]
    sums = case.wanted(case.arrays(array), array, fault)
    wanted = (sums * constants.multipliers[0]).round() + constants.zero_point
    assert torch.equal(words.float(), wanted.clamp(constants.low, constants.high))


def test_two_faults_in_one_layer_are_refused() -> None:
    case = cases()["padding"]
    two = [BrokenBit(0, PERMANENT, 1, FLIP), BrokenBit(1, PERMANENT, 1, FLIP)]
    with pytest.raises(FaultListError, match="a trial holds one fault of the array"):
        systolic_words(case.network, case.node, case.codes, SystolicArray(), {"pe_sum": two})


def test_sizes_are_checked() -> None:
    with pytest.raises(SpecError, match="rows"):
        SystolicArray.from_table({"rows": 0})


@pytest.mark.gpu
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_gpu_gives_the_same_sums(dataflow: str) -> None:
    array = array_of({"dataflow": dataflow, "rows": 3, "columns": 2})
    for case, register, element in product(cases().values(), ARRAY_SITES, range(6)):
        fault = RegisterFault(
            register, element, PERMANENT, (BrokenBit(element, PERMANENT, 2, STUCK1),)
        )
        here = FaultyLayer(case.network, case.node, case.codes, array, fault).sums()
        there = case.network.to("cuda")
        on_gpu = FaultyLayer(there, case.node, case.codes.to("cuda"), array, fault).sums()
        assert torch.equal(on_gpu.cpu(), here)
