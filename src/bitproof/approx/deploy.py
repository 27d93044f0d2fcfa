"""Multipliers in a network: which nodes and filters multiply with which circuit.

Model:  a node multiplies in units of one kind, or each of its filters in a unit of its own. What
        multiplies exactly, as far as a network is concerned, has no entry in its `products`; an
        `Exact` multiplier goes through tables like any other, and gives the same words.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Int32, Num
from pydantic import Field
from torch import Tensor

from bitproof.approx.base import AnyMultiplier, Multiplier, ProductTable
from bitproof.approx.control_variate import correct_means
from bitproof.approx.naming import short_name
from bitproof.core.errors import QuantizationError, near, shorten
from bitproof.core.spec import Spec
from bitproof.quant.graph import Node
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.operations import MAC_OPS
from bitproof.quant.product_layer import check_products
from bitproof.quant.products import Products

MAPS = 4
"""Axes of the weight of a convolution over two axes, the most that have a kernel."""
Choice = Multiplier | Sequence[Multiplier]
"""What a node multiplies with: one multiplier, or one for each filter."""


class Arithmetic(Spec):
    """What multiplies in a network; exact products where nothing is named.

    Example:
        >>> from bitproof.approx import Truncated
        >>> mild, coarse = Truncated(columns=2, signed=True), Truncated(columns=6, signed=True)
        >>> Arithmetic(multiplier=mild, layers={"fc": coarse}).is_exact
        False
    """

    multiplier: AnyMultiplier | None = None
    """Of every layer that is not named below; None: exact products."""
    layers: dict[str, AnyMultiplier | tuple[AnyMultiplier, ...]] = Field(default_factory=dict)
    """Of single layers, by name: one multiplier, or one for each filter."""
    correct_means: bool = False
    """Take the mean error of each filter's sums off again (control variate), as it is on the
    calibration images."""

    @property
    def is_exact(self) -> bool:
        """Whether all products are exact."""
        return self.multiplier is None and not self.layers

    def apply(
        self,
        network: IntegerNetwork,
        images: Num[Tensor, "n *features"],
        *,
        data_dir: Path | str | None = None,
    ) -> IntegerNetwork:
        """Return `network`, whose products are exact, with these multipliers.

        Calibration images in [0, 1] are for `correct_means`; tables are read from `data_dir`.

        Raises:
            QuantizationError: there is no such layer, or it has other filters.
            DataError: a table is missing.
        """
        if self.is_exact:
            return network
        chosen: dict[str, Multiplier | Sequence[Multiplier]] = dict(self.layers)
        if self.multiplier is not None:
            for name in applicable(network):
                chosen.setdefault(name, self.multiplier)
        done = with_multipliers(network, chosen, data_dir=data_dir)
        return correct_means(done, images) if self.correct_means else done

    def changed(
        self, multiplier: Multiplier | None, layers: Mapping[str, object], *, correct_means: bool
    ) -> "Arithmetic":
        """Return this with other multipliers where some are named; means stay corrected.

        A multiplier for all layers takes the place of whatever single layers had.
        """
        return Arithmetic.model_validate(
            {
                "multiplier": multiplier or self.multiplier,
                "layers": dict(layers) if multiplier else {**self.layers, **layers},
                "correct_means": correct_means or self.correct_means,
            }
        )


def with_multipliers(
    network: IntegerNetwork,
    multipliers: Mapping[str, Choice] | Multiplier,
    *,
    data_dir: Path | str | None = None,
) -> IntegerNetwork:
    """Return the same network with other multipliers in it: those it had go, corrections included.

    A single multiplier is for all nodes that multiply and accumulate; of several, by the name of
    their node, nodes that are not named multiply exactly.

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
                f"multipliers: no node {shorten(name)} that multiplies. {near(name, nodes)}"
            )

    @cache
    def table(multiplier: Multiplier) -> ProductTable:
        """Make each table once: nodes share them."""
        return multiplier.table(data_dir)

    @cache
    def stack(kept: tuple[Multiplier, ...]) -> Int32[Tensor, "t 256 256"]:
        """Nodes with the same multipliers share their memory."""
        return torch.stack([table(each).products for each in kept]).to(network.device)

    products = {
        node.name: _products_of(network, node, multipliers[node.name], table=table, stack=stack)
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
        if node.op in MAC_OPS and stored.get(node.key("weight"), 0) <= MAPS
    ]


def _products_of(
    network: IntegerNetwork,
    node: Node,
    choice: Choice,
    *,
    table: Callable[[Multiplier], ProductTable],
    stack: Callable[[tuple[Multiplier, ...]], Tensor],
) -> Products:
    weight = network.tensors.get(node.key("weight"))
    filters = 1 if weight is None else len(weight.codes)
    chosen = [choice] * filters if isinstance(choice, Multiplier) else list(choice)
    if not chosen:
        raise QuantizationError(f"{node.name}: wanted {filters} multipliers, got none")
    signs = {multiplier: table(multiplier).signed for multiplier in dict.fromkeys(chosen)}
    if len(set(signs.values())) > 1:
        names = ", ".join(short_name(multiplier) for multiplier in signs)
        raise QuantizationError(
            f"{node.name}: wanted multipliers that are all signed or all unsigned, got {names}"
        )
    # Of multipliers with the same products, the first stands for all.
    known: dict[bytes, Multiplier] = {}
    stands_in = {
        each: known.setdefault(table(each).products.numpy().tobytes(), each) for each in signs
    }
    kept = tuple(known.values())
    places = [kept.index(stands_in[each]) for each in chosen]
    index = torch.tensor(places, dtype=torch.int64, device=network.device)
    products = Products(
        tables=stack(kept),
        signed=signs[chosen[0]],
        choice=index,
        offset=torch.zeros_like(index).int(),
        names=tuple(short_name(multiplier) for multiplier in kept),
    )
    check_products(node, products, weight)
    return products
