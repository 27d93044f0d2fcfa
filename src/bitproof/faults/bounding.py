"""Bounds on activations: what no image ever showed is taken for a fault.

Model:  the words of activation functions are recorded on images without faults. Later, words
        beyond the recorded bounds are pulled back to them (Ranger) or read as the value 0
        (FT-ClipAct). Bounded are the outputs of nodes that clamp (ReLU, ReLU6) or look up a
        function of one variable (`table`: GELU, sigmoid ...), and of movements (reshape, max
        pooling ...) of such outputs alone; a movement takes the bounds of what it moves. Sums,
        averages and concatenations compute new words and are not bounded.
Source: Chen, Li and Pattabiraman, "A Low-cost Fault Corrector for Deep Neural Networks through
        Range Restriction" (Ranger), DSN 2021; Hoang, Hanif and Shafique, "FT-ClipAct: Resilience
        Analysis of Deep Neural Networks and Improving their Fault Tolerance using Clipped
        Activation", DATE 2020. Unlike there, Ranger's bounds do not reach beyond averages and
        concatenations, and the threshold of FT-ClipAct is not tuned against a fault rate.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, final

import numpy as np
import torch
from jaxtyping import Integer
from pydantic import Field
from torch import Tensor

from bitproof.core.errors import SpecError
from bitproof.faults.protection import PROTECTIONS, Protection, Repaired
from bitproof.faults.table import FaultTable
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.integers import run_integers
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.operations import MOVING_OPS

Restriction = Callable[[Tensor], Tensor]
"""Restricts a node's output words."""


@dataclass(frozen=True)
class Bound:
    """Which words of a node are believed, and what becomes of the others."""

    low: int
    """Smallest word, a code of the node's grid."""
    high: int
    """Largest word, a code of the node's grid."""
    otherwise: Literal["clamp", "zero"]
    """`clamp`: the nearest end; `zero`: the value 0."""


class Bounding(Protection):
    """A protection that bounds activations and leaves the list of faults alone."""

    @abstractmethod
    def bound(self, codes: Integer[Tensor, "..."], grid: Grid) -> Bound:
        """Return the bound of an activation function, given its words without faults."""

    def repair(self, table: FaultTable, network: IntegerNetwork) -> Repaired:  # noqa: ARG002
        """Return the table as it is: words are bounded when they are read."""
        return Repaired(table, np.zeros(table.n_trials, bool))

    def read(
        self,
        network: IntegerNetwork,  # noqa: ARG002
        codes: Mapping[str, Tensor],
        redundant: Mapping[str, Tensor] | None = None,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """Return stored words as they are."""
        return dict(codes)

    @final
    def bounds(
        self, network: IntegerNetwork, codes: Mapping[str, Integer[Tensor, "n ..."]]
    ) -> dict[str, Bound]:
        """Return the bounds of activation functions and of what only moves their words.

        `codes` are the activations on profiling images, by node, without faults; the bounds of a
        movement come from its source, so its own words are not needed.

        Raises:
            SpecError: the words of an activation function are missing.

        Example:
            >>> from bitproof.quant import Grid
            >>> one, zero = torch.tensor(1.0), torch.tensor(0, dtype=torch.int32)
            >>> relu = Node("relu", "conv", ("input",), {"clamp": [0.0, None]})
            >>> network = IntegerNetwork((relu,), {}, {"relu": Grid(one, zero, 8, signed=False)})
            >>> Ranger().bounds(network, {"relu": torch.tensor([[3, 200]], dtype=torch.uint8)})
            {'relu': Bound(low=3, high=200, otherwise='clamp')}
        """
        found: dict[str, Bound] = {}
        for node in network.nodes:
            if node.name not in network.grids:
                continue  # logits at accumulator width
            if _is_activation(node):
                if node.name not in codes or not codes[node.name].numel():
                    raise SpecError(f"{self.kind}: wanted profiling words of '{node.name}'")
                found[node.name] = self.bound(codes[node.name], network.grids[node.name])
            elif node.op in MOVING_OPS and node.inputs[0] in found:
                found[node.name] = _moved(node, found[node.inputs[0]], network)
        return found

    @final
    @staticmethod
    def apply(
        codes: Integer[Tensor, "*shape"], bound: Bound, zero_point: int
    ) -> Integer[Tensor, "*shape"]:
        """Return words, uint8 or int8, within a bound; `zero_point` is the code of the value 0.

        Example:
            >>> words = torch.tensor([-128, -1, 5, 90], dtype=torch.int8)
            >>> Bounding.apply(words, Bound(-2, 50, "clamp"), -2)
            tensor([-2, -1,  5, 50], dtype=torch.int8)
            >>> Bounding.apply(words, Bound(-2, 50, "zero"), -2)
            tensor([-2, -1,  5, -2], dtype=torch.int8)
        """
        if bound.otherwise == "clamp":
            return codes.clamp(bound.low, bound.high)
        return codes.masked_fill((codes < bound.low) | (codes > bound.high), zero_point)


@PROTECTIONS.register
class Ranger(Bounding):
    """Pull words back to the least and the largest that profiling showed.

    Example:
        >>> Ranger()
        Ranger(kind='ranger')
    """

    kind: Literal["ranger"] = "ranger"

    def bound(self, codes: Integer[Tensor, "..."], grid: Grid) -> Bound:  # noqa: ARG002
        """Return the least and the largest word."""
        low, high = (int(end) for end in codes.aminmax())
        return Bound(low, high, "clamp")


@PROTECTIONS.register
class FtClipAct(Bounding):
    """Read words above a threshold as the value 0; there is no lower bound.

    Example:
        >>> FtClipAct(percentile=99.9)
        FtClipAct(kind='ft_clip_act', percentile=99.9)
    """

    kind: Literal["ft_clip_act"] = "ft_clip_act"
    percentile: Annotated[float, Field(gt=0.0, le=100.0, strict=True)] = 100.0
    """Per cent of a node's profiled words, zeros included, that the threshold must not cut."""

    def bound(self, codes: Integer[Tensor, "..."], grid: Grid) -> Bound:
        """Return the least word that enough of the profiled ones do not exceed."""
        counts = torch.bincount(codes.flatten().long() - grid.low, minlength=1 << grid.bits)
        too_few = 100 * counts.cumsum(0) < self.percentile * codes.numel()
        return Bound(grid.low, grid.low + int(too_few.sum()), "zero")


def restrictions(
    protections: Sequence[Protection],
    network: IntegerNetwork,
    codes: Mapping[str, Integer[Tensor, "n ..."]],
) -> dict[str, Restriction]:
    """Return what the bounds among some protections do to output words, by node.

    `codes` are the activations on profiling images, as for `Bounding.bounds`.

    Raises:
        SpecError: the words of an activation function are missing.
    """
    found: dict[str, list[Bound]] = {}
    for one in protections:
        for name, bound in one.bounds(network, codes).items() if isinstance(one, Bounding) else ():
            found.setdefault(name, []).append(bound)
    points = {name: int(network.grids[name].zero_point) for name in found}
    return {name: partial(_within, found[name], points[name]) for name in found}


def activation_words(network: IntegerNetwork, inputs: Tensor) -> dict[str, Tensor]:
    """Return the words of activation functions on images without faults, by node.

    Example:
        >>> from bitproof.quant import quantize
        >>> images = torch.rand(8, 4)
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU())
        >>> words = activation_words(quantize(model, images), images)
        >>> {name: tuple(codes.shape) for name, codes in words.items()}
        {'0': (8, 2)}
    """
    found: dict[str, Tensor] = {}

    def keep(node: Node, codes: Tensor, _grid: Grid) -> Tensor:
        if _is_activation(node):
            found[node.name] = codes
        return codes

    run_integers(network, inputs, corrupt=keep)
    return found


def _is_activation(node: Node) -> bool:
    return "clamp" in node.attrs or node.op == "table"


def _within(bounds: Sequence[Bound], zero_point: int, codes: Tensor) -> Tensor:
    """Return words within bounds that are applied one after the other."""
    for bound in bounds:
        codes = Bounding.apply(codes, bound, zero_point)
    return codes


def _moved(node: Node, bound: Bound, network: IntegerNetwork) -> Bound:
    """Return the bound of moved words; padding adds the value 0 to them."""
    if node.op != "pad":
        return bound
    zero_point = int(network.grids[node.name].zero_point)
    low, high = min(bound.low, zero_point), max(bound.high, zero_point)
    return Bound(low, high, bound.otherwise)
