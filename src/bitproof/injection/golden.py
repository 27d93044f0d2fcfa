"""The fault-free run of a batch of images, kept whole, and what depends on what in the graph."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from bitproof.faults.bounding import Restriction
from bitproof.quant.execution import affected, execute
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork


@dataclass(frozen=True)
class Suffix:
    """What must be executed again when one node's output changes."""

    nodes: tuple[Node, ...]
    """Nodes that depend on it, in order of execution."""
    narrow: frozenset[str]
    """Nodes after which nothing but their own output still carries the change."""


@dataclass(frozen=True, eq=False)
class Golden:
    """Output words of every node for one batch of images, without faults."""

    network: IntegerNetwork
    inputs: Shaped[Tensor, "n *features"]
    codes: Mapping[str, Tensor]
    """By node; real logits for the last one."""
    bounds: Mapping[str, Restriction]
    """By node; what a protection allows as its output."""

    @classmethod
    def run(
        cls,
        network: IntegerNetwork,
        inputs: Shaped[Tensor, "n *features"],
        bounds: Mapping[str, Restriction] | None = None,
    ) -> "Golden":
        """Execute `network` and keep everything."""
        bounds = bounds or {}
        golden = cls(network, inputs, {}, bounds)
        with torch.no_grad():
            codes = execute(
                network.nodes,
                lambda node, operands: integer_op(network, node, operands, inputs),
                written=golden.bounded,
                keep=True,
            )
        return replace(golden, codes=codes)

    @property
    def logits(self) -> Float[Tensor, "n *answer"]:
        """Answers without faults."""
        return self.network.logits(self.codes[self.network.nodes[-1].name])

    def bounded(self, node: Node, codes: Tensor) -> Tensor:
        """Return what a protection leaves of a node's output words."""
        bound = self.bounds.get(node.name)
        return codes if bound is None else bound(codes)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each node's output for one image."""
        shapes = {name: tuple(codes.shape) for name, codes in self._few(1).items()}
        return {name: shape[1:] if shape[:1] == (1,) else shape for name, shape in shapes.items()}

    @cached_property
    def constant(self) -> frozenset[str]:
        """Nodes whose output is the same for all images and has no axis for them."""
        two = self._few(2)
        return frozenset(
            name for name, codes in self._few(1).items() if codes.shape == two[name].shape
        )

    @cached_property
    def by_image(self) -> bool:
        """Whether every output has the images on its first axis, so that some can be left out."""
        two = self._few(2)
        return all(
            len(codes) == 1 and len(two[name]) == 2
            for name, codes in self._few(1).items()
            if name not in self.constant
        )

    @cached_property
    def singles(self) -> list["Golden"]:
        """The same run, image by image."""
        images = (self.inputs[at : at + 1] for at in range(len(self.inputs)))
        return [Golden.run(self.network, image, self.bounds) for image in images]

    def _few(self, n: int) -> Mapping[str, Tensor]:
        """Return the words of every node for `n` times the first image."""
        few = self.inputs[:1].expand(n, *self.inputs.shape[1:])
        return Golden.run(self.network, few).codes

    @cached_property
    def _suffixes(self) -> dict[str, Suffix]:
        return {}

    def suffix(self, name: str) -> Suffix:
        """Return what must be executed again when the output of node `name` changes."""
        if name in self._suffixes:
            return self._suffixes[name]
        nodes = affected(self.network.nodes, {name})[1:]
        changed = {name, *(node.name for node in nodes)}
        last_use = {read: node.name for node in nodes for read in node.inputs if read in changed}
        narrow, live = set(), {name}
        for node in nodes:
            live.add(node.name)
            live -= {read for read in node.inputs if last_use.get(read) == node.name}
            if live == {node.name}:
                narrow.add(node.name)
        return self._suffixes.setdefault(name, Suffix(nodes, frozenset(narrow)))
