"""Multipliers in a network: which nodes and filters multiply with which circuit.

Model:  a node multiplies in units of one kind, or each of its filters in a unit of its own. What
        multiplies exactly, as far as a network is concerned, has no entry in its `products`; an
        `Exact` multiplier goes through tables like any other, and gives the same words.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bitproof.approx.base import Multiplier
from bitproof.approx.catalogue import short_name
from bitproof.approx.product_table import ProductTable
from bitproof.core.errors import QuantizationError, near
from bitproof.quant.graph import Node
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.operations import MAC_OPS
from bitproof.quant.product_layer import check_products
from bitproof.quant.products import Products

MAPS = 4
"""Axes of the weight of a convolution over two axes, the most that have a kernel."""
Choice = Multiplier | Sequence[Multiplier]
"""What a node multiplies with: one multiplier, or one for each filter."""


def with_multipliers(
    network: IntegerNetwork,
    multipliers: Mapping[str, Choice] | Multiplier,
    *,
    data_dir: Path | None = None,
) -> IntegerNetwork:
    """Return the same network with other multipliers in it.

    Args:
        network: what it had for `products` is dropped, corrections included.
        multipliers: one for all nodes that multiply and accumulate, or what each node has, by its
            name; nodes that are not named multiply exactly.
        data_dir: folder of the files that some kinds read; see `data_root`.

    Raises:
        QuantizationError: there is no such node, it has another number of filters, its filters
            have signed and unsigned multipliers, or it is a convolution over three axes.
        DataError: a kind reads a file, and that is missing or malformed.
        AdapterError: a kind needs a package that is not installed.
        SpecError: a signed circuit stands where magnitudes are multiplied.

    Example:
        >>> from bitproof.approx import Drum
        >>> from bitproof.quant import quantize
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> network = quantize(model, torch.rand(8, 1, 2, 2))
        >>> with_multipliers(network, {"1": [Drum(width=3), Drum(width=4)]}).products["1"].names
        ('drum:width=3', 'drum:width=4')
    """
    nodes = {node.name: node for node in network.nodes if node.op in MAC_OPS}
    if isinstance(multipliers, Multiplier):
        multipliers = dict.fromkeys(nodes, multipliers)
    for name in multipliers:
        if name not in nodes:
            raise QuantizationError(
                f"multipliers: no node '{name}' that multiplies. {near(name, nodes)}"
            )
    cache = _TableCache(data_dir, network.device)
    products = {
        node.name: _products_of(network, node, multipliers[node.name], cache)
        for node in nodes.values()  # in order of execution, as the digest has them
        if node.name in multipliers
    }
    return replace(network, products=products)


def applicable(network: IntegerNetwork) -> list[str]:
    """Return the nodes that can have another multiplier, in order of execution.

    Example:
        >>> from bitproof.quant import quantize
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> applicable(quantize(model, torch.rand(8, 1, 2, 2)))
        ['1']
    """
    stored = {name: coded.codes.ndim for name, coded in network.tensors.items()}
    return [
        node.name
        for node in network.nodes
        if node.op in MAC_OPS and stored.get(f"{node.name}.weight", 0) <= MAPS
    ]


class _TableCache:
    """Tables that were made before, so that nodes with the same multipliers share them."""

    def __init__(self, data_dir: Path | None, device: torch.device) -> None:
        self.data_dir, self.device = data_dir, device
        self._tables: dict[Multiplier, ProductTable] = {}
        self._stacks: dict[tuple[Multiplier, ...], torch.Tensor] = {}

    def table(self, multiplier: Multiplier) -> ProductTable:
        """Return the products of one multiplier."""
        if multiplier not in self._tables:
            self._tables[multiplier] = multiplier.table(self.data_dir)
        return self._tables[multiplier]

    def distinct(self, multipliers: Iterable[Multiplier]) -> dict[Multiplier, Multiplier]:
        """Return, for each multiplier, the first one that has the same products."""
        known: dict[bytes, Multiplier] = {}
        return {
            multiplier: known.setdefault(
                self.table(multiplier).products.numpy().tobytes(), multiplier
            )
            for multiplier in dict.fromkeys(multipliers)
        }

    def stack(self, multipliers: tuple[Multiplier, ...]) -> torch.Tensor:
        """Return the tables of several multipliers."""
        if multipliers not in self._stacks:
            tables = torch.stack([self.table(multiplier).products for multiplier in multipliers])
            self._stacks[multipliers] = tables.to(self.device)
        return self._stacks[multipliers]


def _products_of(
    network: IntegerNetwork, node: Node, choice: Choice, cache: _TableCache
) -> Products:
    weight = network.tensors.get(f"{node.name}.weight")
    filters = 1 if weight is None else len(weight.codes)
    chosen = [choice] * filters if isinstance(choice, Multiplier) else list(choice)
    if not chosen:
        raise QuantizationError(f"{node.name}: wanted {filters} multipliers, got none")
    signs = {multiplier: cache.table(multiplier).signed for multiplier in dict.fromkeys(chosen)}
    if len(set(signs.values())) > 1:
        names = ", ".join(short_name(multiplier) for multiplier in signs)
        raise QuantizationError(
            f"{node.name}: wanted multipliers that are all signed or all unsigned, got {names}"
        )
    first = cache.distinct(chosen)
    kept = tuple(dict.fromkeys(first.values()))
    places = [kept.index(first[multiplier]) for multiplier in chosen]
    index = torch.tensor(places, dtype=torch.int64, device=cache.device)
    products = Products(
        tables=cache.stack(kept),
        signed=signs[chosen[0]],
        choice=index,
        offset=torch.zeros_like(index).int(),
        names=tuple(short_name(multiplier) for multiplier in kept),
    )
    check_products(node, products, weight)
    return products
