"""What may choose its multiplier: the layers of a network, or their filters.

Model:  a filter is an output channel of a convolution, a neuron of a linear layer, or a channel
        that is scaled; a product of two activations is one filter. A unit is a filter, or all
        filters of a layer together. A choice gives each unit the number of a multiplier. Layers
        without a choice multiply exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64, Int64, Num, Shaped
from torch import Tensor

from bitproof.approx.deploy import applicable
from bitproof.core.errors import QuantizationError, shorten
from bitproof.quant.execution import execute
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork

Granularity = Literal["layer", "filter"]
Scope = Literal["all", "convolutions"]
Choice = Int64[np.ndarray, " units"]
"""The number of a multiplier for each unit."""


@dataclass(frozen=True)
class LayerShape:
    """The sizes of one layer that multiplies, for one image."""

    name: str
    op: str
    filters: int
    taps: int
    """Products in each sum."""
    places: int
    """Sums of each filter."""
    groups: int
    """Groups of filters that read different channels."""
    weights: int
    """Stored words of the weight, 0 for products of two activations."""
    words_in: int
    words_out: int

    @property
    def macs(self) -> int:
        """Products for one image."""
        return self.filters * self.taps * self.places


@dataclass(frozen=True)
class Units:
    """The layers of a network, and which of their filters choose together.

    Example:
        >>> layers = (LayerShape("a", "conv", 2, 9, 16, 1, 18, 16, 32),
        ...           LayerShape("b", "linear", 3, 32, 1, 1, 96, 32, 3))
        >>> units = Units(layers, "filter", ("a",))
        >>> units.count, units.names, units.by_filter(np.array([1, 2]), rest=0).tolist()
        (2, ['a.0', 'a.1'], [1, 2, 0, 0, 0])
        >>> Units(layers, "layer", ("a", "b")).names
        ['a', 'b']
    """

    layers: tuple[LayerShape, ...]
    """In order of execution."""
    granularity: Granularity
    choosing: tuple[str, ...]
    """Layers that have a choice."""

    @cached_property
    def starts(self) -> list[int]:
        """Where each layer's filters begin among those of all layers, and where the last end."""
        return [0, *np.cumsum([layer.filters for layer in self.layers]).tolist()]

    @cached_property
    def unit_of(self) -> Int64[np.ndarray, " filters"]:
        """The unit of each filter, -1 where there is no choice."""
        parts, count = [], 0
        for layer in self.layers:
            if layer.name not in self.choosing:
                parts.append(np.full(layer.filters, -1))
            elif self.granularity == "layer":
                parts.append(np.full(layer.filters, count))
                count += 1
            else:
                parts.append(count + np.arange(layer.filters))
                count += layer.filters
        return np.concatenate(parts).astype(np.int64)

    @cached_property
    def layer_of(self) -> Int64[np.ndarray, " units"]:
        """The number of each unit's layer."""
        numbers = np.repeat(np.arange(len(self.layers)), [one.filters for one in self.layers])
        found: Choice = np.zeros(self.count, np.int64)
        chosen = self.unit_of >= 0
        found[self.unit_of[chosen]] = numbers[chosen]
        return found

    @property
    def count(self) -> int:
        """Number of units."""
        return int(self.unit_of.max()) + 1

    @property
    def names(self) -> list[str]:
        """Names of units: that of the layer, and for filters its number."""
        chosen = [layer for layer in self.layers if layer.name in self.choosing]
        if self.granularity == "layer":
            return [layer.name for layer in chosen]
        return [f"{layer.name}.{n}" for layer in chosen for n in range(layer.filters)]

    @cached_property
    def macs(self) -> Float64[np.ndarray, " filters"]:
        """Products of each filter for one image."""
        each = [(layer.taps * layer.places, layer.filters) for layer in self.layers]
        return np.concatenate([np.full(filters, float(macs)) for macs, filters in each])

    def summed(
        self, entries: Float64[np.ndarray, "filters blocks"]
    ) -> Float64[np.ndarray, "units blocks"]:
        """Return the sums over the filters of each unit."""
        result = np.zeros((self.count, entries.shape[1]))
        chosen = self.unit_of >= 0
        np.add.at(result, self.unit_of[chosen], entries[chosen])
        return result

    def by_filter(self, choice: Choice, *, rest: int) -> Int64[np.ndarray, " filters"]:
        """Return the multiplier of each filter; `rest` is that of filters without a choice."""
        found: Choice = np.append(choice, rest)[self.unit_of]
        return found

    def by_layer(self, choice: Choice, *, rest: int) -> dict[str, Int64[np.ndarray, " f"]]:
        """Return the multipliers of each layer's filters."""
        whole = self.by_filter(choice, rest=rest)
        ends = pairwise(self.starts)
        return {
            layer.name: whole[first:last]
            for layer, (first, last) in zip(self.layers, ends, strict=True)
        }


def units_of(
    network: IntegerNetwork,
    example: Num[Tensor, "n *features"],
    *,
    granularity: Granularity,
    scope: Scope = "all",
    keep: Sequence[str] = (),
) -> Units:
    """Return the units of a network; layers named in `keep` have no choice.

    Raises:
        QuantizationError: nothing is left that could choose, or `keep` names no layer.

    Example:
        >>> from bitproof.quant import quantize
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> network = quantize(model, torch.rand(8, 1, 2, 2))
        >>> units_of(network, torch.rand(1, 1, 2, 2), granularity="filter").names
        ['1.0', '1.1']
    """
    able = applicable(network)
    shapes = _output_shapes(network, example[:1])
    nodes = [node for node in network.nodes if node.name in able]
    layers = tuple(_shape(network, node, shapes) for node in nodes)
    if unknown := [name for name in keep if name not in able]:
        raise QuantizationError(
            f"keep: no layer {shorten(unknown[0])}; wanted some of {', '.join(able)}"
        )
    kinds = {"all": {layer.op for layer in layers}, "convolutions": {"conv"}}[scope]
    choosing = tuple(layer.name for layer in layers if layer.op in kinds and layer.name not in keep)
    if not choosing:
        raise QuantizationError(
            "units: wanted a layer that may choose its multiplier, the network has none"
        )
    return Units(layers, granularity, choosing)


def by_filter(
    values: Shaped[Tensor, "m *shape"], node: Node, layer: LayerShape, *, images: int
) -> Shaped[Tensor, "images f places"]:
    """Return what a node gives, image by image and filter by filter.

    The first axis may hold several parts of an image, one after the other.
    """
    if node.op == "matmul":
        return values.reshape(images, 1, -1)
    if node.op == "linear":
        return values.reshape(images, -1, layer.filters).transpose(1, 2)
    maps = values.reshape(images, -1, layer.filters, values[0, 0].numel())
    return maps.transpose(1, 2).flatten(2)


def _output_shapes(network: IntegerNetwork, example: Tensor) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def note(node: Node, codes: Tensor) -> Tensor:
        shapes[node.name] = tuple(codes.shape)
        return codes

    with torch.no_grad():
        execute(
            network.nodes,
            lambda node, operands: integer_op(network, node, operands, example),
            written=note,
        )
    return shapes


def _shape(network: IntegerNetwork, node: Node, shapes: dict[str, tuple[int, ...]]) -> LayerShape:
    weight = network.tensors.get(node.key("weight"))
    words_out = int(np.prod(shapes[node.name]))
    words_in = sum(int(np.prod(shapes[name])) for name in node.inputs)
    if weight is None:
        taps = shapes[node.inputs[0]][-1]
        return LayerShape(node.name, node.op, 1, taps, words_out, 1, 0, words_in, words_out)
    filters, numel = len(weight.codes), weight.codes.numel()
    return LayerShape(
        name=node.name,
        op=node.op,
        filters=filters,
        taps=numel // filters,
        places=words_out // filters,
        groups=filters if node.op == "affine" else int(node.attrs.get("groups", 1)),
        weights=numel,
        words_in=words_in,
        words_out=words_out,
    )
