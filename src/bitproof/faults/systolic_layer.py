"""What a fault in a register of a systolic array makes of a layer's output.

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

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor
from torch.nn import functional

from bitproof.core.errors import FaultListError, SpecError
from bitproof.faults.broken_bits import BrokenBit, NodeFaults, break_bits
from bitproof.faults.dataflows import (
    ALWAYS,
    Products,
    Scope,
    Sums,
    Window,
)
from bitproof.faults.layer_matrices import Indices
from bitproof.faults.layer_words import LayerWords, add_at
from bitproof.faults.registers import ACCUMULATOR_BITS, product_bits, register_bits
from bitproof.faults.systolic import SystolicArray
from bitproof.faults.table import ARRAY_SITES, FLIP, STUCK1, ArraySite
from bitproof.kernels.exact_floats import EXACT_FLOAT32
from bitproof.quant.accumulators import ExactAccumulator, exact_convolution
from bitproof.quant.graph import Node
from bitproof.quant.network import IntegerNetwork

PERMANENT = -1
"""The cycle of a permanent fault."""
MOST_AT_ONCE = 1 << 23
"""Numbers that are held at once; no influence on the result."""


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
    return FaultyLayer(network, node, codes, array, _fault(faults)).words()


@dataclass(frozen=True)
class RegisterFault:
    """Bits of one register that break."""

    register: ArraySite
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
    register = next(each for each in ARRAY_SITES if each == site)
    return RegisterFault(register, element, cycle, tuple(faults[site]))


class FaultyLayer:
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
        self.at = LayerWords(network, node, codes)
        self.layer = self.at.layer
        self.flow = array.dataflow_of(self.layer)
        self.scope: Scope = array.scope
        self.row, self.column = divmod(fault.element, array.columns)
        last = fault.cycle + array.window - 1
        self.window = ALWAYS if fault.cycle == PERMANENT else Window(fault.cycle, last)
        self.bits, self.signed = register_bits(network, node, fault.register)
        self.most = 2.0 ** product_bits(network, node)
        """What no product exceeds, nor its change when one of its words breaks."""

    def words(self) -> Tensor:
        """Return the words that come out."""
        return self.at.output(self.sums())

    def sums(self) -> Tensor:
        """Return the sums with their biases, rounded to float32, in a new tensor."""
        accumulator = self.network.accumulator(self.node)
        assert isinstance(accumulator, ExactAccumulator)
        totals = accumulator.totals(self.codes)
        struck = list(self._struck())
        bound = accumulator.largest + sum(map(self._bound, struck))
        # int32 wraps as the register does; float32 is the same, and faster, where it holds all.
        exact = totals.dtype == torch.float32 and bound < EXACT_FLOAT32
        sums = self.layer.as_matrix(totals)
        sums = sums if exact else sums.to(torch.int32, copy=True)
        for part in chain.from_iterable(map(self._pieces, struck)):
            if exact and isinstance(part, Products) and self._add_all(sums, part):
                continue
            of = self._of_sums(part) if isinstance(part, Sums) else self._of_products(part)
            add_at(sums, of, part.outputs, part.groups, part.channels)
        return self.layer.as_output(sums.float(), totals.shape)

    def _add_all(self, sums: Tensor, part: Products) -> bool:
        """Add the change that a struck input makes in place, where that is one product of matrices.

        That is where all outputs are touched: channels that are not get weights of zero, because
        a pass over all is faster than one over most.
        """
        layer = self.layer
        if (
            self.fault.register != "pe_input"
            or layer.groups > 1
            or len(part.outputs) < layer.n_outputs
            or not sums.is_contiguous()
        ):
            return False
        words = self.at.gather(part.groups, part.outputs, part.taps)
        codes, points = self.at.weights(part.groups, part.channels, part.taps)
        weights = torch.zeros(len(part.taps), layer.n_channels, device=sums.device)
        weights[:, torch.from_numpy(part.channels)] = (codes - points)[0].T.float()
        change = (self._broken(words) - words).reshape(-1, len(part.taps))
        sums.reshape(-1, layer.n_channels).addmm_(change.float(), weights)
        return True

    def _struck(self) -> Iterator[Products | Sums]:
        """Yield what the fault touches."""
        at = self.row, self.column
        if self.fault.register == "pe_sum":
            yield from (each for each in self.flow.sums(*at, self.window) if any(each.parts))
        else:
            found = self.flow.products(self.fault.register, self.scope, *at, self.window)
            yield from (each for each in found if len(each.taps))

    def _bound(self, struck: Products | Sums) -> float:
        """Return how far a sum can move."""
        if isinstance(struck, Products):
            return len(struck.taps) * self.most
        strikes = sum(map(len, struck.parts))
        return strikes * sum(2.0**one.bit for one in self.fault.bits)

    def _pieces(self, struck: Products | Sums) -> Iterator[Products | Sums]:
        """Yield the same in pieces of some outputs that fit in memory."""
        if isinstance(struck, Products):
            each = len(struck.taps) + 4 * len(struck.channels)
        else:
            each = max(sum(map(len, part)) for part in struck.parts)
            each += len(struck.channels) * (len(struck.parts) + 1)
        many = len(struck.outputs) * each * len(self.codes) * len(struck.groups)
        if not many or not len(struck.channels):
            return
        pieces = -(-many // MOST_AT_ONCE)
        for outputs in np.array_split(struck.outputs, min(pieces, len(struck.outputs))):
            yield replace(struck, outputs=outputs)

    def _of_products(self, part: Products) -> Int32[Tensor, "images m g n"]:
        """Return the change of each sum."""
        codes, points = self.at.weights(part.groups, part.channels, part.taps)
        weights = codes - points
        if self.fault.register == "pe_input":
            words = self.at.gather(part.groups, part.outputs, part.taps)
            return self._multiply(self._broken(words) - words, weights)
        if self.fault.register == "pe_weight":
            change = self._broken(codes) - codes
            return self._multiply_words(part, change)
        words = self.at.gather(part.groups, part.outputs, part.taps) - self.at.point
        total = torch.zeros(
            (*words.shape[:3], len(part.channels)), dtype=torch.int32, device=words.device
        )
        for k in range(len(part.taps)):
            products = words[..., k, None] * weights[..., k]
            total += self._broken(products) - products
        return total

    def _multiply_words(
        self, part: Products, weights: Int32[Tensor, "g n k"]
    ) -> Int32[Tensor, "images m g n"]:
        """Return sums of products of input words and other weights."""
        layer = self.layer
        dense = 4 * len(part.taps) * len(part.outputs) > layer.n_taps * layer.n_outputs
        if not dense or len(part.groups) < layer.groups or len(layer.kernel) != 2:
            words = self.at.gather(part.groups, part.outputs, part.taps) - self.at.point
            return self._multiply(words, weights)
        kernel = torch.zeros(
            (layer.groups, len(part.channels), layer.n_taps), device=weights.device
        )
        kernel[..., torch.from_numpy(part.taps)] = weights.float()
        kernel = kernel.reshape(-1, layer.channels_in, *layer.kernel)
        moves = exact_convolution(kernel, None, self.node.geometry, self.at.grid)
        found = moves.totals(self.codes).to(torch.int32)
        maps = replace(layer, n_channels=len(part.channels)).as_matrix(found)
        return maps[:, torch.from_numpy(part.outputs).to(maps.device)]

    def _of_sums(self, part: Sums) -> Int32[Tensor, "images m g n"]:
        """Return the change of each sum behind all strikes."""
        single = all(len(steps) == 1 for steps in part.parts)
        whole = len(part.outputs) == self.layer.n_outputs
        if single and whole and self.layer.groups == self.layer.lead == 1:
            return self._of_parts(part, [taps for (taps,) in part.parts])
        shape = (len(self.codes), len(part.outputs), len(part.groups), len(part.channels))
        total = torch.zeros(shape, dtype=torch.int32, device=self.codes.device)
        for steps in part.parts:
            if steps:
                total += self._of_steps(part, steps)
        return total

    def _of_steps(self, part: Sums, steps: tuple[Indices, ...]) -> Int32[Tensor, "images m g n"]:
        """Return the change of sums that are struck after each of several steps."""
        taps = np.concatenate(steps)
        words = self.at.gather(part.groups, part.outputs, taps) - self.at.point
        codes, points = self.at.weights(part.groups, part.channels, taps)
        weights = codes - points
        shape = (*words.shape[:3], len(part.channels))
        held = torch.zeros(shape, dtype=torch.int32, device=words.device)
        true = torch.zeros_like(held)
        ends = np.cumsum([len(step) for step in steps]).tolist()
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            if end - start == 1:
                new = words[..., start, None] * weights[..., start]
            else:
                new = self._multiply(words[..., start:end], weights[..., start:end])
            true += new
            held = self._broken(held.add_(new))
        return held - true

    def _of_parts(self, part: Sums, parts: Sequence[Indices]) -> Int32[Tensor, "images m g n"]:
        """Return the change of sums of many parts that are struck once each, of one group.

        What each place of the input adds to each part is computed once, for all channels that lie
        there, and moved to the outputs that meet it.
        """
        layer, channels = self.layer, len(part.channels)
        codes, points = self.at.weights(part.groups, part.channels, np.arange(layer.n_taps))
        weights = (codes - points)[0].float().reshape(channels, layer.channels_in, -1)
        places = weights.shape[2]
        pieces = [
            (at, number, taps[taps % places == at] // places)
            for number, taps in enumerate(parts)
            for at in np.unique(taps % places)
        ]
        pieces.sort(key=lambda piece: int(piece[0]))
        columns = weights.new_zeros(len(pieces), layer.channels_in, channels)
        for number, (at, _, of) in enumerate(pieces):
            index = torch.from_numpy(of)
            columns[number, index] = weights[:, index, int(at)].T
        maps = (self.at.words[:, :-1].float() - self.at.point).reshape(-1, layer.channels_in)
        dtype = self._sum_type(layer.channels_in)
        table = columns.permute(0, 2, 1).reshape(-1, layer.channels_in)
        added = _wrapped(table.to(dtype) @ maps.to(dtype).T)
        added = added.reshape(len(pieces), channels, len(self.codes), *layer.sizes_in)
        edges = [edge for pad in reversed(layer.padding) for edge in (pad, pad)]
        added = functional.pad(added, edges) if edges else added
        shape = (len(parts), channels, len(self.codes), *layer.sizes_out)
        sums = torch.zeros(shape, dtype=torch.int32, device=added.device)
        for number, (at, own, _) in enumerate(pieces):
            place = [int(each) for each in np.unravel_index(at, layer.kernel)]
            move = self.node.geometry if layer.kernel else None
            sums[own] += move.tap(added[number], layer.kernel, place) if move else added[number]
        sums = sums.reshape(*shape[:3], -1)
        change = (self._broken(sums) - sums).sum(0, dtype=torch.int32)
        return change.permute(1, 2, 0)[:, :, None]

    def _multiply(
        self, words: Int32[Tensor, "images m g k"], weights: Int32[Tensor, "g n k"]
    ) -> Int32[Tensor, "images m g n"]:
        """Return sums of products, exactly."""
        images, m, groups, k = words.shape
        dtype = self._sum_type(k)
        if groups == 1:
            found = words.reshape(-1, k).to(dtype) @ weights[0].T.to(dtype)
            return _wrapped(found).reshape(images, m, 1, -1)
        by_group = torch.matmul(
            words.permute(2, 0, 1, 3).reshape(groups, -1, k).to(dtype),
            weights.transpose(1, 2).to(dtype),
        )
        return _wrapped(by_group).reshape(groups, images, m, -1).permute(1, 2, 0, 3)

    def _sum_type(self, products: int) -> torch.dtype:
        """Return the float type that holds every sum of so many products."""
        return torch.float32 if products * self.most < EXACT_FLOAT32 else torch.float64

    def _broken(self, words: Int32[Tensor, "*shape"]) -> Int32[Tensor, "*shape"]:
        """Return words of the register as they are read."""
        if self.bits == ACCUMULATOR_BITS:
            return _broken_int32(words, self.fault.bits)
        return break_bits(words, self.fault.bits, bits=self.bits, signed=self.signed)


def _wrapped(sums: Tensor) -> Int32[Tensor, "*shape"]:
    """Return whole numbers as 32-bit registers hold them."""
    return sums.to(torch.int32 if sums.dtype == torch.float32 else torch.int64).to(torch.int32)


def _broken_int32(
    words: Int32[Tensor, "*shape"], faults: Iterable[BrokenBit]
) -> Int32[Tensor, "*shape"]:
    """Return 32-bit words with some bits flipped or stuck."""
    for fault in faults:
        mask = (1 << fault.bit) - (1 << 32 if fault.bit == 31 else 0)
        if fault.action == FLIP:
            words = words ^ mask
        else:
            words = words | mask if fault.action == STUCK1 else words & ~mask
    return words
