"""Execution of many faults on one network, doing again only what a fault can have changed.

Model:  the fault-free run of a batch of images is kept. A fault in one node changes that node's
        output, often in one channel or one word, which alone is computed; then the nodes that
        depend on it are executed, for the images that the fault has reached. Images whose words
        have become those of the fault-free run again are left out from there on: on integers,
        equality is exact. Many faults of one layer share a batch. The network is never changed.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bitproof.evaluation.tasks import ending_of
from bitproof.faults.bounding import Restriction
from bitproof.faults.broken_bits import NodeFaults
from bitproof.faults.execute import MEMORY, broken_memory, faults_by_node, faulty_node
from bitproof.faults.systolic import SystolicArray
from bitproof.faults.table import FaultTable
from bitproof.injection.changed_layer import ChangedLayers
from bitproof.injection.golden import Golden
from bitproof.injection.incremental import Incremental, Start, differs, take
from bitproof.metrics import OUTCOMES, Task, guess_task
from bitproof.quant.execution import affected, execute
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork

COUNTS = (*OUTCOMES, "correct")
"""What is counted of each trial, in images; tasks with parts count more."""
MOST_IMAGES = 128
"""Images of all trials that run at once; no influence on the result."""
End = tuple[Int[Tensor, " m"], Int[Tensor, " m"], Float[Tensor, "m *answer"]]
"""Rows of the result, images, and their outputs."""


class Engine:
    """Counts outcomes of trials on one batch of images.

    `bounds` restrict the outputs of nodes, by name; `array` is what layers run on; `task` is what
    outputs and labels ask for, unless it is named.

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
        bounds: Mapping[str, Restriction] | None = None,
        *,
        array: SystolicArray | None = None,
        task: Task | None = None,
    ) -> None:
        self.network, self.array = network, array
        self.golden = Golden.run(network, inputs, bounds)
        self.labels = labels
        answers = self.golden.logits
        self.task = guess_task(answers, labels, given=task, ending=ending_of(network.nodes))
        self.names = (*OUTCOMES, *self.task.columns(answers))
        self._right = self.task.counts(answers, labels)
        self.nodes = {node.name: node for node in network.nodes}
        self._shared = {node.memory for node in network.nodes if node.memory}
        self._changes = Incremental(self.golden, array)
        self._changed = ChangedLayers(self.golden)

    @torch.no_grad()
    def run(self, faults: FaultTable, trials: list[int]) -> np.ndarray:
        """Return how many images met each of `names`, one row for each of `trials`."""
        counts = np.zeros((len(trials), len(self.names)), np.int64)
        counts[:, 0] = len(self.labels)
        counts[:, len(OUTCOMES) :] = self._right.sum(0).cpu().numpy()
        by_node: dict[str, list[tuple[int, NodeFaults]]] = {}
        for row, trial in enumerate(trials):
            by_name = faults_by_node(faults.of_trial(trial))
            if not by_name:
                continue
            name, own = next(iter(by_name.items()))
            alone = len(by_name) == 1 and name not in self._shared
            if alone and self.golden.by_image and name not in self.golden.constant:
                by_node.setdefault(name, []).append((row, own))
            else:
                self._count(counts, self._in_full(row, by_name))
        for name, group in by_node.items():
            for batch in _gather(self._changes.of(self.nodes[name], group)):
                self._count(counts, self._finish(batch[0].node, batch))
        return counts

    def reference(self, faults: FaultTable, trial: int) -> Tensor:
        """Return the logits of one trial by executing every node again, for tests."""
        return self._logits(faults_by_node(faults.of_trial(trial)), self.network.nodes)

    def _count(self, counts: np.ndarray, end: End) -> None:
        """Add the outcomes of images that a fault has changed to the end."""
        rows, images, logits = end
        if not len(rows):
            return
        golden, labels = self.golden.logits[images], self.labels[images]
        found = self.task.judge(logits, golden, labels)
        after = torch.cat([found, self.task.counts(logits, labels)], 1)
        before = torch.zeros_like(after)
        before[:, 0] = 1
        before[:, len(OUTCOMES) :] = self._right[images]
        np.add.at(counts, rows.cpu().numpy(), (after - before).cpu().numpy())

    def _in_full(self, row: int, faults: Mapping[str, NodeFaults]) -> End:
        """Return rows, images and logits of a trial with faults in any number of nodes."""
        logits = self._logits(faults, affected(self.network.nodes, self.network.readers(faults)))
        images = torch.arange(len(logits), device=logits.device)
        return torch.full_like(images, row), images, logits

    def _logits(self, faults: Mapping[str, NodeFaults], nodes: Sequence[Node]) -> Tensor:
        """Return logits with faults in any number of nodes, by executing `nodes` again."""
        broken = broken_memory(self.network, faults)
        elsewhere = {
            name: {site: found for site, found in own.items() if site not in MEMORY}
            for name, own in faults.items()
        }

        def logits_of(golden: Golden) -> Tensor:
            def compute(node: Node, operands: list[Tensor]) -> Tensor:
                own = elsewhere.get(node.name, {})
                return faulty_node(broken, node, operands, golden.inputs, own, array=self.array)

            read, written = golden.codes.__getitem__, golden.bounded
            values = execute(nodes, compute, read=read, written=written)
            return self.network.logits(values[self.network.nodes[-1].name])

        runs = [self.golden] if self.golden.by_image else self.golden.singles
        return torch.cat([logits_of(run) for run in runs])

    def _finish(self, name: str, starts: list[Start]) -> End:
        """Return rows, images and logits where a change in node `name` reaches the end."""
        images = torch.cat([start.images for start in starts])
        rows = torch.cat([torch.full_like(start.images, start.trial) for start in starts])
        golden, suffix = self.golden, self.golden.suffix(name)

        def compute(node: Node, operands: list[Tensor]) -> Tensor:
            if node.op == "conv":
                found = self._changed.output(node, operands[0], images)
                if found is not None:
                    return found
            marker = golden.inputs[:1].expand(len(images), *golden.inputs.shape[1:])
            return integer_op(self.network, node, operands, marker)

        def keep_changed(node: Node, codes: Tensor) -> Tensor | None:
            """Leave out images whose words are those of the fault-free run again."""
            nonlocal rows, images
            codes = golden.bounded(node, codes)
            if node.name not in suffix.narrow:
                return codes
            keep = differs(codes, self._golden(node.name, images))
            if len(keep) < len(images):
                rows, images, codes = rows[keep], images[keep], codes[keep]
            return codes if len(keep) else None

        values = execute(
            suffix.nodes,
            compute,
            known={name: torch.cat([start.codes for start in starts])},
            read=lambda read: self._golden(read, images),
            written=keep_changed,
        )
        last = values.get(self.network.nodes[-1].name)
        return rows, images, golden.logits[:0] if last is None else self.network.logits(last)

    def _golden(self, name: str, images: Tensor) -> Tensor:
        """Return fault-free words of some images."""
        codes = self.golden.codes[name]
        return codes if name in self.golden.constant else take(codes, images)


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
