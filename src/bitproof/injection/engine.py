"""Execution of many faults on one network, doing again only what a fault can have changed.

Model:  the fault-free run of a batch of images is kept. A fault in one node changes that node's
        output, often in one channel or one word, which alone is computed; then the nodes that
        depend on it are executed, for the images that the fault has reached. Images whose words
        have become those of the fault-free run again are left out from there on: on integers,
        equality is exact. Many faults of one layer share a batch. The network is never changed.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bitproof.faults.execute import (
    Strikes,
    faulty_node,
    strikes_of,
)
from bitproof.faults.table import FaultTable
from bitproof.injection.golden import Bounding, Golden
from bitproof.injection.incremental import FirstChanges, Start, differs, take
from bitproof.metrics.outcomes import OUTCOMES, outcomes
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.steps import accumulate

COUNTS = (*OUTCOMES, "correct")
"""What is counted of each trial, in images."""
MOST_IMAGES = 128
"""Images of all trials that run at once; no influence on the result."""


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
        self._changes = FirstChanges(self.golden)

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
            for batch in _gather(self._changes.of(self.nodes[name], group)):
                self._count(counts, self._finish(batch[0].node, batch))
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
            words[node.name] = golden.bound(node.name, result)
        return self._decode(words[self.network.nodes[-1].name])

    def _decode(self, words: Tensor) -> Tensor:
        grid = self.network.grids.get(self.network.nodes[-1].name)
        return words if grid is None else grid.decode(words)

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
            result = golden.bound(node.name, result)
            values[node.name] = result
            for read in node.inputs:
                if suffix.last_use.get(read) == node.name:
                    values.pop(read, None)
            if node.name in suffix.narrow:
                keep = differs(result, self._golden(node.name, images))
                if len(keep) < len(images):
                    rows, images = rows[keep], images[keep]
                    values = {node.name: result[keep]}
                if not len(keep):
                    return rows, images, golden.logits[:0]
        return rows, images, self._decode(values[self.network.nodes[-1].name])

    def _golden(self, name: str, images: Tensor) -> Tensor:
        """Return fault-free words of some images."""
        words = self.golden.words[name]
        return words if name in self.golden.constant else take(words, images)


def _gather(starts: Iterator[Start]) -> Iterator[list[Start]]:
    """Yield starts at one node in groups of at most `MOST_IMAGES` images, or of one start."""
    group: list[Start] = []
    size = 0
    for start in starts:
        full = size + len(start.images) > MOST_IMAGES
        if group and (full or start.node != group[0].node):
            yield group
            group, size = [], 0
        group.append(start)
        size += len(start.images)
    if group:
        yield group
