"""A systolic array, and what faults in its registers make of a layer's output.

Model:  a fault lies in one register of one processing element (PE): the input word, the weight, the
        product or the sum. A transient one strikes in some cycles of one layer: what the register
        holds in the first of them, and whatever is written to it in any, and lasts until the
        register is written again. A permanent one strikes whatever is written, in every layer.
        `dataflows` says which products and sums that touches; here they are computed again, for all
        of them at once. Products that read a struck word change by (word' - word) weight, whole
        products and sums are broken bit by bit, sums as 32-bit registers that wrap. Every image
        meets the fault in the same cycle of its own pass.
Source: METHODS D.2; `dataflows` for the arrays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from bitproof.core.errors import FaultListError, SpecError
from bitproof.core.spec import Spec
from bitproof.core.types import Count, Index
from bitproof.faults.broken_bits import BrokenBit, NodeFaults, break_bits
from bitproof.faults.dataflows import (
    ALWAYS,
    DATAFLOWS,
    ArraySize,
    Dataflow,
    Products,
    Register,
    Scope,
    Sums,
    Window,
)
from bitproof.faults.layer_matrices import LayerMatrices, columns_of_images
from bitproof.faults.registers import ACCUMULATOR_BITS, product_bits
from bitproof.kernels.exact_floats import EXACT_FLOAT32
from bitproof.quant.accumulators import ExactAccumulator
from bitproof.quant.arithmetic import requantize
from bitproof.quant.compiled import words_of_sums
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.network import IntegerNetwork

REGISTER_SITES: tuple[Register, ...] = get_args(Register)
"""Sites that lie in the array; the element of such a fault is its PE, the tap its cycle."""
PERMANENT = -1
"""The cycle of a permanent fault."""
MOST_AT_ONCE = 1 << 22
"""Products that are computed at once; no influence on the result."""


class SystolicArray(Spec):
    """The array that convolutions and linear layers run on.

    Example:
        >>> SystolicArray(rows=8, columns=8, dataflow="output_stationary").n_elements
        64
    """

    dataflow: Literal["weight_stationary", "output_stationary", "row_stationary"] = (
        "weight_stationary"
    )
    """What stays in the processing elements; see `faults.dataflows`."""
    rows: Count = 16
    """Processing elements below each other."""
    columns: Count = 16
    """Processing elements beside each other."""
    latency: Index = 1
    """Cycles from operands to the product's register."""
    stream: Count | None = None
    """Outputs that stream through one set of weights, for `weight_stationary`; None: all."""
    scope: Literal["element", "pe_row", "single_mac"] = "pe_row"
    """How far a struck operand goes: to all uses of the word in a tile, to those behind the PE on
    the word's way, or to one multiplication."""
    window: Count = 1
    """Cycles that a transient fault strikes in."""

    @property
    def n_elements(self) -> int:
        """Number of processing elements; that of row r and column c is r columns + c."""
        return self.rows * self.columns

    def dataflow_of(self, layer: LayerMatrices) -> Dataflow:
        """Return how the array computes a layer."""
        size = ArraySize(self.rows, self.columns, self.latency, self.stream)
        return DATAFLOWS[self.dataflow](layer, size)

    def cycles(self, network: IntegerNetwork, node: Node, codes: tuple[int, ...]) -> int:
        """Return the cycles that a node takes for one image; `codes` is the shape of its input."""
        return self.dataflow_of(_matrices(network, node, codes)).cycles


def systolic_words(
    network: IntegerNetwork,
    node: Node,
    codes: Tensor,
    array: SystolicArray,
    faults: NodeFaults,
) -> Tensor:
    """Return the output words of a layer (real logits, for the last) on an array with one fault.

    `codes` are the words that it reads, images on the first axis; `faults` are the bits of one
    register that break, by site.

    Raises:
        SpecError: the layer multiplies through tables.
        FaultListError: there are several faults in the layer.
    """
    return _FaultyLayer(network, node, codes, array, _fault(faults)).words()


@dataclass(frozen=True)
class RegisterFault:
    """Bits of one register that break."""

    register: Register
    element: int
    cycle: int
    """The first cycle; `PERMANENT`: always."""
    bits: tuple[BrokenBit, ...]


def _fault(faults: NodeFaults) -> RegisterFault:
    """Return the one fault of a layer."""
    places = {(site, one.element, one.tap) for site, own in faults.items() for one in own}
    if len(places) != 1:
        raise FaultListError(
            f"systolic: wanted faults in one register of one element and cycle, got {len(places)}; "
            "a trial holds one fault of the array"
        )
    site, element, cycle = places.pop()
    register = next(each for each in REGISTER_SITES if each == site)
    return RegisterFault(register, element, cycle, tuple(faults[site]))


def register_bits(network: IntegerNetwork, node: Node, site: str) -> tuple[int, bool]:
    """Return the width of a register when a node runs, and whether its words are signed."""
    if site == "pe_input":
        grid = network.grids[node.inputs[0]]
        return grid.bits, grid.signed
    if site == "pe_weight":
        grid = network.tensors[f"{node.name}.weight"].grid
        return grid.bits, grid.signed
    return (product_bits(network, node) if site == "pe_product" else ACCUMULATOR_BITS), True


def _matrices(network: IntegerNetwork, node: Node, codes: tuple[int, ...]) -> LayerMatrices:
    weight = tuple(network.tensors[f"{node.name}.weight"].codes.shape)
    return LayerMatrices.of(node, weight=weight, codes=codes)


class _FaultyLayer:
    """One layer, its fault, and what is known of its sums."""

    def __init__(
        self,
        network: IntegerNetwork,
        node: Node,
        codes: Tensor,
        array: SystolicArray,
        fault: RegisterFault,
    ) -> None:
        if node.name in network.products:
            raise SpecError(
                f"systolic: wanted exact products, {node.name} multiplies through a table; "
                "inject into operand, product or accumulator there"
            )
        self.network, self.node, self.codes, self.fault = network, node, codes, fault
        self.layer = _matrices(network, node, tuple(codes.shape[1:]))
        self.flow = array.dataflow_of(self.layer)
        self.scope: Scope = array.scope
        self.place = divmod(fault.element, array.columns)
        self.window = (
            ALWAYS
            if fault.cycle == PERMANENT
            else Window(fault.cycle, fault.cycle + array.window - 1)
        )
        self.constants = network.constants[node.name]
        self.point = self.constants.zero_points[0]
        self.read = network.grids[node.inputs[0]]
        coded = network.tensors[f"{node.name}.weight"]
        self.weight_grid = coded.grid
        shape = (self.layer.groups, self.layer.n_channels, self.layer.n_taps)
        self.weight_codes = coded.codes.reshape(shape).long()
        points = coded.grid.zero_point.reshape(-1).long()
        per_channel = points if len(points) > 1 else points.expand(shape[0] * shape[1])
        self.weight_points = per_channel.reshape(shape[0], shape[1], 1)
        self.inputs = columns_of_images(codes, self.point)

    def words(self) -> Tensor:
        """Return the words that come out."""
        sums = self.sums()
        multiplier, out = self.constants.multipliers[0], self.network.grids.get(self.node.name)
        if out is not None:
            words = words_of_sums(sums, multiplier, self.constants, out.dtype)
            if words is not None:
                return words
        values = sums * multiplier
        return values if out is None else requantize(values, self.constants).to(out.dtype)

    def sums(self) -> Tensor:
        """Return the sums with their biases, rounded to float32, in a new tensor."""
        accumulator = self.network.accumulator(self.node)
        assert isinstance(accumulator, ExactAccumulator)
        totals = accumulator.totals(self.codes)
        changed, rows = self._changes()
        sums = totals.float()
        if len(rows):
            index = torch.unravel_index(rows, totals.shape[1:])
            true = totals.permute(*_images_last(totals))[index].long()
            struck = (true + changed.long() + 2**31) % 2**32 - 2**31
            sums.permute(*_images_last(sums))[index] = struck.float()
        return sums

    def _changes(self) -> tuple[Float[Tensor, "e n"], Int64[Tensor, " e"]]:
        """Return the changes of sums, images last, and the output words that they belong to."""
        size = self.layer.groups * self.layer.n_channels * self.layer.n_outputs
        device = self.codes.device
        total = torch.zeros(size, len(self.codes), dtype=torch.float64, device=device)
        touched = torch.zeros(size, dtype=torch.bool, device=device)
        row, column = self.place
        if self.fault.register == "pe_sum":
            found: Iterator[Products | Sums] = self.flow.sums(row, column, self.window)
        else:
            found = self.flow.products(self.fault.register, self.scope, row, column, self.window)
        for struck in found:
            for part in _parts(struck, len(self.codes)):
                change = self._of_sums(part) if isinstance(part, Sums) else self._of_products(part)
                elements = self.layer.elements(part.groups, part.outputs, part.channels)
                index = torch.from_numpy(elements.reshape(-1)).to(device)
                total.index_add_(0, index, change.reshape(len(index), -1).double())
                touched[index] = True
        rows = touched.nonzero()[:, 0]
        return total[rows], rows

    def _of_products(self, part: Products) -> Tensor:
        """Return the change of each sum, `[g, m, n, images]`."""
        words = self._gather(part.groups, part.outputs, part.taps)
        codes, points = self._weights(part.groups, part.channels, part.taps)
        weights = codes - points
        if self.fault.register == "pe_input":
            return _matmul(self._broken(words, self.read) - words, weights)
        if self.fault.register == "pe_weight":
            return _matmul(words - self.point, self._broken(codes, self.weight_grid) - codes)
        width = product_bits(self.network, self.node)
        products = (words - self.point)[:, :, None] * weights[:, None, :, :, None]
        broken = break_bits(products, self.fault.bits, bits=width, signed=True)
        return (broken - products).sum(3)

    def _of_sums(self, part: Sums) -> Tensor:
        """Return the change of each sum behind all strikes, `[g, m, n, images]`."""
        change: Tensor | None = None
        so_far: Tensor | None = None
        for taps in part.steps:
            words = self._gather(part.groups, part.outputs, taps) - self.point
            codes, points = self._weights(part.groups, part.channels, taps)
            new = _matmul(words, codes - points).long()
            so_far = new if so_far is None else so_far + new
            held = so_far if change is None else so_far + change
            held = (held + 2**31) % 2**32 - 2**31
            broken = break_bits(held, self.fault.bits, bits=ACCUMULATOR_BITS, signed=True)
            change = broken - so_far
        assert change is not None
        return change

    def _gather(self, *index: np.ndarray) -> Int64[Tensor, "g m k n"]:
        """Return input words of products, images last."""
        words = self.layer.words(*index)
        flat = torch.from_numpy(words.reshape(-1)).to(self.inputs.device)
        return self.inputs.index_select(0, flat).reshape(*words.shape, -1).long()

    def _weights(
        self, groups: np.ndarray, channels: np.ndarray, taps: np.ndarray
    ) -> tuple[Int64[Tensor, "g n k"], Int64[Tensor, "g n 1"]]:
        """Return weight words, and their zero points."""
        index = [torch.from_numpy(each) for each in (groups, channels, taps)]
        of = self.weight_codes[index[0]][:, index[1]]
        return of[:, :, index[2]], self.weight_points[index[0]][:, index[1]]

    def _broken(self, words: Tensor, grid: Grid) -> Tensor:
        return break_bits(words, self.fault.bits, bits=grid.bits, signed=grid.signed)


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    """Return `[g, m, n, images]` from `[g, m, k, images]` and `[g, n, k]`, exact integers."""
    bound = left.shape[2] * 2**17  # words and weights, or their changes, stay below 2**8 and 2**9
    dtype = torch.float32 if bound < EXACT_FLOAT32 else torch.float64
    return torch.matmul(right[:, None].to(dtype), left.to(dtype))


def _parts(struck: Products | Sums, images: int) -> Iterator[Products | Sums]:
    """Yield the same outputs in pieces that fit in memory; none where nothing is touched."""
    if isinstance(struck, Sums):
        taps = max(map(len, struck.steps), default=0)
        most = (taps + len(struck.channels)) if struck.steps else 0
    else:
        taps = len(struck.taps)
        most = taps * (1 + len(struck.channels))
    if not most or not len(struck.channels):
        return
    each = max(1, MOST_AT_ONCE // (most * images * len(struck.groups)))
    for at in range(0, len(struck.outputs), each):
        yield replace(struck, outputs=struck.outputs[at : at + each])


def _images_last(tensor: Tensor) -> Sequence[int]:
    return (*range(1, tensor.ndim), 0)
