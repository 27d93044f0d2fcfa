"""The first change that faults in one node make: as little of the node as they can have changed.

Model:  a fault in a stored word of a layer changes one output channel, a fault in a register or in
        a stored output changes one word; these alone are computed, many channels at once. Anything
        else executes the node whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from bitproof.faults.broken_bits import NodeFaults, break_bit
from bitproof.faults.execute import (
    MEMORY,
    OUTPUTS,
    REGISTERS,
    broken_memory,
    by_element,
    faulty_element,
    faulty_node,
)
from bitproof.faults.systolic import SystolicArray
from bitproof.injection.golden import Golden
from bitproof.injection.receptive_field import ReceptiveField, Window
from bitproof.kernels.exact_floats import sum_bounds, sum_type
from bitproof.quant.arithmetic import accumulate, center, requantize, wrap_int32
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op

MOST_CHANNELS = 32
"""Faulty channels that are computed at once; no influence on the result."""


@dataclass(frozen=True, eq=False)
class Start:
    """The first change of one trial."""

    trial: int
    """Row of the result."""
    node: str
    """Which output has changed; from its followers on, the network must be executed again."""
    images: Int[Tensor, " m"]
    """Images that the fault has reached."""
    codes: Tensor
    """Output of that node for these images."""


class Incremental:
    """Finds the first changes against one fault-free run."""

    def __init__(self, golden: Golden, array: SystolicArray | None = None) -> None:
        self.golden, self.array = golden, array
        self.field = ReceptiveField(golden)
        self._centered: tuple[str, Tensor] | None = None
        self._unbounded: tuple[str, Tensor] | None = None

    def of(self, node: Node, group: list[tuple[int, NodeFaults]]) -> Iterator[Start]:
        """Yield the first change of each trial with faults in `node`, where there is one."""
        channels: list[tuple[int, int, NodeFaults]] = []
        for row, faults in group:
            channel = self._one_channel(node, faults)
            if channel is not None:
                channels.append((row, channel, faults))
            elif not set(faults).difference(OUTPUTS) or not set(faults).difference(REGISTERS):
                yield from self._start_at_elements(node, row, faults)
            else:
                golden = self.golden
                operands = [golden.codes[name] for name in node.inputs]
                codes = faulty_node(
                    golden.network, node, operands, golden.inputs, faults, array=self.array
                )
                codes = golden.bounded(node, codes)
                keep = differs(codes, golden.codes[node.name])
                if len(keep):
                    yield Start(row, node.name, keep, codes[keep])
        for at in range(0, len(channels), MOST_CHANNELS):
            yield from self._start_at_channels(node, channels[at : at + MOST_CHANNELS])

    def _one_channel(self, node: Node, faults: NodeFaults) -> int | None:
        """Return the output channel that faults in stored words of a layer are confined to."""
        if node.name in self.golden.network.products:
            return None
        plain = node.op == "linear" or (node.op == "conv" and node.attrs["groups"] == 1)
        if not plain or set(faults).difference(MEMORY):
            return None
        taps = self.golden.network.tensors[node.key("weight")].codes[0].numel()
        found = {fault.element // taps for fault in faults.get("weight", ())}
        found |= {fault.element for fault in faults.get("bias", ())}
        return found.pop() if len(found) == 1 else None

    def _start_at_elements(self, node: Node, row: int, faults: NodeFaults) -> Iterator[Start]:
        """Yield the change where single output elements are faulty, in memory or in registers."""
        golden, stored = self.golden.codes[node.name], self._stored(node)
        faulty: dict[tuple[int, ...], Tensor] = {}
        for element, own in by_element(faults).items():
            place = tuple(int(i) for i in np.unravel_index(element, golden.shape[1:]))
            codes = stored[_at(place)]
            if set(own).intersection(REGISTERS):
                source = self.golden.codes[node.inputs[0]]
                codes = faulty_element(self.golden.network, node, source, element, own)
            for site in OUTPUTS:
                for fault in own.get(site, ()):
                    grid = self.golden.network.grids[node.name]
                    codes = break_bit(codes.long(), fault, bits=grid.bits, signed=grid.signed)
            faulty[place] = self.golden.bounded(node, codes.to(golden.dtype))
        changed = torch.zeros(len(golden), dtype=torch.bool, device=golden.device)
        for place, codes in faulty.items():
            changed |= codes != golden[_at(place)]
        images = changed.nonzero()[:, 0]
        if not len(images):
            return
        if self.field.end(node.name) != node.name and len({place[1:] for place in faulty}) == 1:
            yield from self._start_around(node, row, faulty, images)
            return
        result = take(golden, images)
        for place, codes in faulty.items():
            result[_at(place)] = codes[images]
        yield Start(row, node.name, images, result)

    def _start_around(
        self, node: Node, row: int, faulty: dict[tuple[int, ...], Tensor], images: Tensor
    ) -> Iterator[Start]:
        """Yield the change behind the nodes that one place in a map can be followed through."""
        _, y, x = next(iter(faulty))
        window = Window((y, y + 1), (x, x + 1))
        codes = window.of(self.golden.codes[node.name]).index_select(0, images)
        for (channel, *_), new in faulty.items():
            codes[:, channel, 0, 0] = new[images]
        codes, window = self.field.follow(node.name, codes, window, images)
        end = self.field.end(node.name)
        golden = self.golden.codes[end]
        before = window.of(golden).index_select(0, images)
        keep = (codes != before).flatten(1).any(1).nonzero()[:, 0]
        if len(keep):
            result = take(golden, images[keep])
            window.of(result).copy_(codes[keep])
            yield Start(row, end, images[keep], result)

    def _start_at_channels(
        self, node: Node, units: list[tuple[int, int, NodeFaults]]
    ) -> Iterator[Start]:
        """Yield the changes where stored words of one output channel each are faulty."""
        golden, constants = self.golden.codes[node.name], self.golden.network.constants[node.name]
        channels = torch.tensor([channel for _, channel, _ in units], device=golden.device)
        kernels, biases = self._kernels(node, units)
        peak = self.golden.network.grids[node.inputs[0]].peak
        dtype = sum_type(sum_bounds(kernels, peak, biases))
        weight, bias = kernels.to(dtype), biases.to(dtype)
        own = replace(constants, weight=weight, bias=bias, dtype=dtype)
        sums = accumulate(node, own, [self._source(node)])
        axis = golden.ndim - 1 if node.op == "linear" else 1
        sums = wrap_int32(sums) if dtype == torch.float64 else sums
        multipliers = constants.multipliers[0].reshape(-1)
        if len(multipliers) > 1:
            shape = [1] * golden.ndim
            shape[axis] = -1
            multipliers = multipliers[channels].reshape(shape)
        values = sums.float() * multipliers
        if node.name in self.golden.network.grids:
            values = requantize(values, constants).to(golden.dtype)
        values = self.golden.bounded(node, values)
        before = golden.index_select(axis, channels)
        changed = (values != before).movedim(axis, 1).reshape(len(golden), len(units), -1).any(2)
        for unit, (row, channel, _) in enumerate(units):
            images = changed[:, unit].nonzero()[:, 0]
            if len(images):
                result = take(golden, images)
                result.select(axis, channel).copy_(values.select(axis, unit)[images])
                yield Start(row, node.name, images, result)

    def _kernels(
        self, node: Node, units: list[tuple[int, int, NodeFaults]]
    ) -> tuple[Tensor, Tensor]:
        """Return centered weights of the faulty channels, and their biases, as exact integers."""
        coded = self.golden.network.tensors[node.key("weight")]
        constants = self.golden.network.constants[node.name]
        points = coded.grid.zero_point.reshape(-1).long()
        kernels, biases = [], []
        for _, channel, faults in units:
            row = coded.codes[channel].reshape(-1).long()
            for fault in faults.get("weight", ()):
                at = fault.element - channel * len(row)
                row[at] = break_bit(row[at], fault, bits=coded.grid.bits, signed=coded.grid.signed)
            kernels.append(row - points[channel if len(points) > 1 else 0])
            bias = constants.bias
            if "bias" in faults:
                broken = broken_memory(self.golden.network, {node.name: {"bias": faults["bias"]}})
                bias = broken.constants[node.name].bias
            biases.append(0.0 if bias is None else float(bias[channel]))
        shape = coded.codes.shape[1:]
        stacked = torch.stack(kernels).reshape(len(units), *shape).double()
        return stacked, torch.tensor(biases, dtype=torch.float64, device=stacked.device)

    def _stored(self, node: Node) -> Tensor:
        """Return a node's words as they lie in memory, where no bound has been at work yet."""
        if node.name not in self.golden.bounds:
            return self.golden.codes[node.name]
        if self._unbounded is None or self._unbounded[0] != node.name:
            operands = [self.golden.codes[name] for name in node.inputs]
            codes = integer_op(self.golden.network, node, operands, self.golden.inputs)
            self._unbounded = (node.name, codes)
        return self._unbounded[1]

    def _source(self, node: Node) -> Tensor:
        """Return the centered words that a layer reads; those of the last layer are kept."""
        if self._centered is None or self._centered[0] != node.name:
            codes = self.golden.codes[node.inputs[0]]
            point = self.golden.network.constants[node.name].zero_points[0]
            self._centered = (node.name, center(codes, point))
        return self._centered[1]


def _at(place: tuple[int, ...]) -> tuple[slice | int, ...]:
    """Return the index of one output element in all images."""
    return (slice(None), *place)


def take(codes: Tensor, images: Int[Tensor, " m"]) -> Tensor:
    """Return the words of some images, laid out in memory as `codes` are."""
    if codes.ndim == 4 and codes.is_contiguous(memory_format=torch.channels_last):
        return codes.permute(0, 2, 3, 1).index_select(0, images).permute(0, 3, 1, 2)
    return codes.index_select(0, images)


def differs(codes: Tensor, golden: Tensor) -> Int[Tensor, " m"]:
    """Return the images whose words are not the fault-free ones."""
    one, other = _rows(codes), _rows(golden)
    if one is None or other is None or codes.stride() != golden.stride():
        one, other = codes.flatten(1), golden.flatten(1)
    return (one != other).any(1).nonzero()[:, 0]


def _rows(codes: Tensor) -> Tensor | None:
    """Return each image's words as they lie in memory, eight to a number; None if they do not fit.

    Both an image's words in the order of axes and those with channels last lie dense.
    """
    size = codes[0].numel() if len(codes) else 0
    last = codes.ndim == 4 and codes.is_contiguous(memory_format=torch.channels_last)
    dense = codes.is_contiguous() or last
    if not dense or codes.element_size() != 1 or not size or size % 8 or codes.data_ptr() % 8:
        return None
    flat = codes.as_strided((len(codes) * size,), (1,))
    return flat.view(torch.int64).reshape(len(codes), -1)
