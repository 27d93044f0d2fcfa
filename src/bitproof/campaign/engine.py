"""Execution of many faults on one network, doing again only what a fault can have changed.

Model:  the fault-free run of a batch of images is kept. A fault in one node changes that node's
        output, often in one channel or one word, which alone is computed; then the nodes that
        depend on it are executed, for the images that the fault has reached. Images whose words
        have become those of the fault-free run again are left out from there on: on integers,
        equality is exact. Many faults of one layer share a batch. The network is never changed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from bitproof.campaign.golden import Bounding, Golden
from bitproof.faults.injection import (
    MEMORY,
    OUTPUTS,
    REGISTERS,
    Strikes,
    break_bit,
    broken_memory,
    faulty_element,
    faulty_node,
    strikes_of,
)
from bitproof.faults.table import FaultTable
from bitproof.metrics.outcomes import OUTCOMES, outcomes
from bitproof.quant.constants import EXACT_FLOAT32
from bitproof.quant.graph import Node
from bitproof.quant.integers import center, integer_op
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.steps import accumulate, cut, wrap_int32

COUNTS = (*OUTCOMES, "correct")
"""What is counted of each trial, in images."""
MOST_IMAGES = 256
"""Images of all trials that run at once; no influence on the result."""
MOST_CHANNELS = 32
"""Faulty channels that are computed at once; no influence on the result."""


@dataclass(frozen=True, eq=False)
class Start:
    """The first change of one trial."""

    trial: int
    """Row of the result."""
    images: Int[Tensor, " m"]
    """Images that the fault has reached."""
    words: Tensor
    """Output of the struck node for these images."""


End = tuple[Int[Tensor, " m"], Int[Tensor, " m"], Float[Tensor, "m k"]]
"""Rows of the result, images, and their logits."""


class Engine:
    """Counts outcomes of trials on one batch of images.

    Args:
        network: without faults.
        inputs: images in [0, 1].
        labels: their classes.
        bounds: restrictions of nodes' outputs, by node.

    Example:
        >>> from bitproof.quant import quantize
        >>> images = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
        >>> network = quantize(torch.nn.Sequential(torch.nn.Linear(4, 3)), images)
        >>> engine = Engine(network, images, torch.zeros(8, dtype=torch.long))
        >>> faults = FaultTable.from_rows([(0, "weight", "0", 0, -1, 0, "flip")])
        >>> engine.run(faults, [0]).shape
        (1, 7)
    """

    def __init__(
        self,
        network: IntegerNetwork,
        inputs: Tensor,
        labels: Tensor,
        bounds: Mapping[str, Bounding] | None = None,
    ) -> None:
        self.network = network
        self.golden = Golden.run(network, inputs, bounds)
        self.labels = labels
        self.nodes = {node.name: node for node in network.nodes}
        self._centered: tuple[str, Tensor] | None = None
        self._unbounded: tuple[str, Tensor] | None = None

    @torch.no_grad()
    def run(self, faults: FaultTable, trials: list[int]) -> np.ndarray:
        """Return how many images met each of `COUNTS`, one row a trial.

        Args:
            faults: what breaks; trials without a row are fault-free.
            trials: which ones to run.
        """
        counts = np.zeros((len(trials), len(COUNTS)), np.int64)
        logits = self.golden.logits
        right = int((logits.argmax(1) == self.labels).sum())
        counts[:, 0], counts[:, -1] = len(logits), right
        by_node: dict[str, list[tuple[int, Strikes]]] = {}
        for row, trial in enumerate(trials):
            strikes = strikes_of(faults.of_trial(trial))
            if not strikes:
                continue
            name, own = next(iter(strikes.items()))
            if len(strikes) == 1 and self.golden.by_image and name not in self.golden.constant:
                by_node.setdefault(name, []).append((row, own))
            else:
                self._count(counts, self._in_full(row, strikes))
        for name, group in by_node.items():
            for batch in _gather(self._starts(self.nodes[name], group)):
                self._count(counts, self._finish(name, batch))
        return counts

    def reference(self, faults: FaultTable, trial: int) -> Tensor:
        """Return the logits of one trial by executing every node again, for tests."""
        strikes = strikes_of(faults.of_trial(trial))
        return self._logits(strikes, first=None)

    def _count(self, counts: np.ndarray, end: End) -> None:
        """Add the outcomes of images that a fault has changed to the end."""
        rows, images, logits = end
        if not len(rows):
            return
        golden, labels = self.golden.logits[images], self.labels[images]
        found = outcomes(logits, golden)
        correct = (logits.argmax(1) == labels).int() * (1 - found[:, -1])
        after = torch.cat([found, correct[:, None]], 1)
        before = torch.zeros_like(after)
        before[:, 0] = 1
        before[:, -1] = (golden.argmax(1) == labels).int()
        np.add.at(counts, rows.cpu().numpy(), (after - before).cpu().numpy())

    def _in_full(self, row: int, strikes: Mapping[str, Strikes]) -> End:
        """Return rows, images and logits of a trial that strikes any number of nodes."""
        first = next(node.name for node in self.network.nodes if node.name in strikes)
        logits = self._logits(strikes, first=first)
        images = torch.arange(len(logits), device=logits.device)
        return torch.full_like(images, row), images, logits

    def _logits(self, strikes: Mapping[str, Strikes], *, first: str | None) -> Tensor:
        """Return logits with faults in any number of nodes, from node `first` on."""
        runs = [self.golden] if self.golden.by_image else self.golden.singles
        return torch.cat([self._walk(run, strikes, first=first) for run in runs])

    def _walk(self, golden: Golden, strikes: Mapping[str, Strikes], *, first: str | None) -> Tensor:
        """Return logits of the images of one fault-free run."""
        words: dict[str, Tensor] = {}
        started = first is None
        for node in self.network.nodes:
            started = started or node.name == first
            if not started or (
                first
                and node.name not in strikes
                and not any(name in words for name in node.inputs)
            ):
                continue
            operands = [words.get(name, golden.words[name]) for name in node.inputs]
            inputs = golden.inputs
            result = (
                faulty_node(self.network, node, operands, inputs, strikes[node.name])
                if node.name in strikes
                else integer_op(self.network, node, operands, inputs, accumulate)
            )
            words[node.name] = self._bound(node.name, result)
        return self._decode(words[self.network.nodes[-1].name])

    def _decode(self, words: Tensor) -> Tensor:
        grid = self.network.grids.get(self.network.nodes[-1].name)
        return words if grid is None else grid.decode(words)

    def _bound(self, name: str, words: Tensor) -> Tensor:
        bound = self.golden.bounds.get(name)
        return words if bound is None else bound(words)

    def _finish(self, name: str, starts: list[Start]) -> End:
        """Return rows, images and logits where a change in node `name` reaches the end."""
        images = torch.cat([start.images for start in starts])
        rows = torch.cat([torch.full_like(start.images, start.trial) for start in starts])
        values = {name: torch.cat([start.words for start in starts])}
        suffix, golden = self.golden.suffix(name), self.golden
        for node in suffix.nodes:
            operands = [
                values[read] if read in values else self._golden(read, images)
                for read in node.inputs
            ]
            marker = golden.inputs[:1].expand(len(images), *golden.inputs.shape[1:])
            result = integer_op(self.network, node, operands, marker, accumulate)
            result = self._bound(node.name, result)
            values[node.name] = result
            for read in node.inputs:
                if suffix.last_use.get(read) == node.name:
                    values.pop(read, None)
            if node.name in suffix.narrow:
                keep = _differs(result, self._golden(node.name, images))
                if len(keep) < len(images):
                    rows, images = rows[keep], images[keep]
                    values = {node.name: result[keep]}
                if not len(keep):
                    return rows, images, golden.logits[:0]
        return rows, images, self._decode(values[self.network.nodes[-1].name])

    def _golden(self, name: str, images: Tensor) -> Tensor:
        """Return fault-free words of some images."""
        words = self.golden.words[name]
        return words if name in self.golden.constant else words[images]

    def _starts(self, node: Node, group: list[tuple[int, Strikes]]) -> Iterator[Start]:
        """Yield the first change of each trial that strikes `node`, where there is one."""
        channels: list[tuple[int, int, Strikes]] = []
        for row, strikes in group:
            channel = self._one_channel(node, strikes)
            if channel is not None:
                channels.append((row, channel, strikes))
            elif not set(strikes).difference(OUTPUTS) or not set(strikes).difference(REGISTERS):
                yield from self._start_at_elements(node, row, strikes)
            else:
                operands = [self.golden.words[name] for name in node.inputs]
                words = faulty_node(self.network, node, operands, self.golden.inputs, strikes)
                words = self._bound(node.name, words)
                keep = _differs(words, self.golden.words[node.name])
                if len(keep):
                    yield Start(row, keep, words[keep])
        for at in range(0, len(channels), MOST_CHANNELS):
            yield from self._start_at_channels(node, channels[at : at + MOST_CHANNELS])

    def _one_channel(self, node: Node, strikes: Strikes) -> int | None:
        """Return the output channel that faults in stored words of a layer are confined to."""
        plain = node.op == "linear" or (node.op == "conv" and node.attrs["groups"] == 1)
        if not plain or set(strikes).difference(MEMORY):
            return None
        taps = self.network.tensors[f"{node.name}.weight"].codes[0].numel()
        found = {fault.element // taps for fault in strikes.get("weight", ())}
        found |= {fault.element for fault in strikes.get("bias", ())}
        return found.pop() if len(found) == 1 else None

    def _start_at_elements(self, node: Node, row: int, strikes: Strikes) -> Iterator[Start]:
        """Yield the change where single output elements are struck, in memory or in registers."""
        golden, stored = self.golden.words[node.name], self._stored(node)
        struck: dict[tuple[int, ...], Tensor] = {}
        for element in dict.fromkeys(f.element for faults in strikes.values() for f in faults):
            own = {s: [f for f in faults if f.element == element] for s, faults in strikes.items()}
            place = tuple(int(i) for i in np.unravel_index(element, golden.shape[1:]))
            words = stored[_at(place)]
            if set(own).intersection(REGISTERS):
                source = self.golden.words[node.inputs[0]]
                words = faulty_element(self.network, node, source, element, own)
            for site in OUTPUTS:
                grid = self.network.grids.get(node.name)
                for fault in own.get(site, ()):
                    assert grid is not None
                    words = break_bit(
                        words.long(),
                        bits=grid.bits,
                        signed=grid.signed,
                        bit=fault.bit,
                        action=fault.action,
                    )
            struck[place] = self._bound(node.name, words.to(golden.dtype))
        changed = torch.zeros(len(golden), dtype=torch.bool, device=golden.device)
        for place, words in struck.items():
            changed |= words != golden[_at(place)]
        images = changed.nonzero()[:, 0]
        if not len(images):
            return
        result = golden[images]
        for place, words in struck.items():
            result[_at(place)] = words[images]
        yield Start(row, images, result)

    def _start_at_channels(
        self, node: Node, units: list[tuple[int, int, Strikes]]
    ) -> Iterator[Start]:
        """Yield the changes where stored words of one output channel each are struck."""
        golden, constants = self.golden.words[node.name], self.network.constants[node.name]
        channels = torch.tensor([channel for _, channel, _ in units], device=golden.device)
        kernels, biases = self._kernels(node, units)
        peak = self._peak(node)
        reach = kernels.abs().flatten(1).sum(1) * peak + biases.abs()
        dtype = torch.float32 if bool(reach.max() < EXACT_FLOAT32) else torch.float64
        if golden.device.type != "cpu":
            dtype = torch.float64
        x, kernels, biases = self._source(node).to(dtype), kernels.to(dtype), biases.to(dtype)
        if node.op == "linear":
            sums = functional.linear(x, kernels, biases)
        else:
            convolve = getattr(functional, f"conv{kernels.ndim - 2}d")
            attrs = node.attrs
            with torch.backends.nnpack.flags(enabled=False):
                sums = convolve(
                    x, kernels, biases, attrs["stride"], attrs["padding"], attrs["dilation"]
                )
        axis = golden.ndim - 1 if node.op == "linear" else 1
        sums = wrap_int32(sums) if dtype == torch.float64 else sums
        multipliers = constants.multipliers[0].reshape(-1)
        if len(multipliers) > 1:
            shape = [1] * golden.ndim
            shape[axis] = -1
            multipliers = multipliers[channels].reshape(shape)
        values = sums.float() * multipliers
        if node.name in self.network.grids:
            values = cut(values, constants).to(golden.dtype)
        values = self._bound(node.name, values)
        before = golden.index_select(axis, channels)
        changed = (values != before).movedim(axis, 1).reshape(len(golden), len(units), -1).any(2)
        for unit, (row, channel, _) in enumerate(units):
            images = changed[:, unit].nonzero()[:, 0]
            if len(images):
                result = golden[images]
                result.select(axis, channel).copy_(values.select(axis, unit)[images])
                yield Start(row, images, result)

    def _kernels(self, node: Node, units: list[tuple[int, int, Strikes]]) -> tuple[Tensor, Tensor]:
        """Return centered weights of the struck channels, and their biases, as exact integers."""
        coded = self.network.tensors[f"{node.name}.weight"]
        constants = self.network.constants[node.name]
        points = coded.grid.zero_point.reshape(-1).long()
        kernels, biases = [], []
        for _, channel, strikes in units:
            row = coded.codes[channel].reshape(-1).long()
            for fault in strikes.get("weight", ()):
                at = fault.element - channel * len(row)
                row[at] = break_bit(
                    row[at],
                    bits=coded.grid.bits,
                    signed=coded.grid.signed,
                    bit=fault.bit,
                    action=fault.action,
                )
            kernels.append(row - points[channel if len(points) > 1 else 0])
            bias = constants.bias
            if "bias" in strikes:
                broken = broken_memory(self.network, node, {"bias": strikes["bias"]})
                bias = broken.constants[node.name].bias
            biases.append(0.0 if bias is None else float(bias[channel]))
        shape = coded.codes.shape[1:]
        stacked = torch.stack(kernels).reshape(len(units), *shape).double()
        return stacked, torch.tensor(biases, dtype=torch.float64, device=stacked.device)

    def _stored(self, node: Node) -> Tensor:
        """Return a node's words as they lie in memory, where no bound has been at work yet."""
        if node.name not in self.golden.bounds:
            return self.golden.words[node.name]
        if self._unbounded is None or self._unbounded[0] != node.name:
            operands = [self.golden.words[name] for name in node.inputs]
            words = integer_op(self.network, node, operands, self.golden.inputs, accumulate)
            self._unbounded = (node.name, words)
        return self._unbounded[1]

    def _peak(self, node: Node) -> int:
        read = self.network.grids[node.inputs[0]]
        point = int(read.zero_point)
        return max(abs(read.low - point), abs(read.high - point))

    def _source(self, node: Node) -> Tensor:
        """Return the centered words that a layer reads; those of the last layer are kept."""
        if self._centered is None or self._centered[0] != node.name:
            words = self.golden.words[node.inputs[0]]
            point = self.network.constants[node.name].zero_points[0]
            self._centered = (node.name, center(words, point))
        return self._centered[1]


def _gather(starts: Iterator[Start]) -> Iterator[list[Start]]:
    """Yield starts in groups of at most `MOST_IMAGES` images, or of one start."""
    group: list[Start] = []
    size = 0
    for start in starts:
        if group and size + len(start.images) > MOST_IMAGES:
            yield group
            group, size = [], 0
        group.append(start)
        size += len(start.images)
    if group:
        yield group


def _at(place: tuple[int, ...]) -> tuple[slice | int, ...]:
    """Return the index of one output element in all images."""
    return (slice(None), *place)


def _differs(words: Tensor, golden: Tensor) -> Int[Tensor, " m"]:
    """Return the images whose words are not the fault-free ones."""
    one, other = _rows(words), _rows(golden)
    if one is None or other is None or words.stride() != golden.stride():
        one, other = words.flatten(1), golden.flatten(1)
    return (one != other).any(1).nonzero()[:, 0]


def _rows(words: Tensor) -> Tensor | None:
    """Return each image's words as they lie in memory, eight to a number; None if they do not fit.

    Both an image's words in the order of axes and those with channels last lie dense.
    """
    size = words[0].numel() if len(words) else 0
    last = words.ndim == 4 and words.is_contiguous(memory_format=torch.channels_last)
    dense = words.is_contiguous() or last
    if not dense or words.element_size() != 1 or not size or size % 8 or words.data_ptr() % 8:
        return None
    flat = words.as_strided((len(words) * size,), (1,))
    return flat.view(torch.int64).reshape(len(words), -1)
