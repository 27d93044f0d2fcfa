"""The bits of a network that may break in a campaign, and how a place among them is numbered.

Model:  a stratum is one kind of site in one layer: elements x products x bits. Its places are
        numbered with the bit running fastest, so that a uniform number is a uniform bit.
        A fault of an array lies in a processing element (its element) in a cycle (its tap); a
        permanent one is one place, and breaks every layer.
Source: METHODS C.3 and D.2 for the sites.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import prod
from typing import Literal

import numpy as np
from jaxtyping import Int64

from bitproof.core.errors import SpecError, near, shorten
from bitproof.core.spec import Spec
from bitproof.core.types import Index
from bitproof.faults.registers import ACCUMULATOR_BITS, PRODUCT_OPS, product_bits, register_bits
from bitproof.faults.systolic import SystolicArray
from bitproof.faults.table import ARRAY_SITES, TAP_SITES, FaultSite
from bitproof.quant.graph import Node
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.operations import MAC_OPS, is_written

WHOLE_ARRAY = "all layers"
"""What results call the layer of a permanent fault in an array."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each node's output for one image, by the node's name."""


@dataclass(frozen=True, eq=False)
class Stratum:
    """The places of one kind of site in one layer."""

    site: FaultSite
    layer: str
    words: int
    """Words of the tensor, or of one image's output; chosen or not."""
    width: int
    """Bits of each word or register."""
    bits: tuple[int, ...]
    """Bits that may break."""
    taps: int = 1
    """Products in the sum of one element; 1 for sites that lie in none."""
    elements: Int64[np.ndarray, " e"] | None = None
    """Words that may break; None: all."""
    hits: Mapping[str, int] | None = None
    """Layers that a permanent fault of an array breaks, and the width there; None: `layer`."""

    @property
    def size(self) -> int:
        """Number of places."""
        chosen = self.words if self.elements is None else len(self.elements)
        return chosen * self.taps * len(self.bits)

    def locate(
        self, places: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return element, tap (-1 where there is none) and bit of numbered places."""
        rest, bit = np.divmod(places, len(self.bits))
        element, tap = np.divmod(rest, self.taps)
        if self.elements is not None:
            element = self.elements[element]
        if self.site not in {*TAP_SITES, *ARRAY_SITES} or self.hits is not None:
            tap = np.full_like(tap, -1)
        return element, tap, np.asarray(self.bits, np.int64)[bit]


class FaultSpace(Spec):
    """Which bits may break.

    Example:
        >>> FaultSpace(sites=("weight",), layers=("layer1.*",), bits=(7,)).sites
        ('weight',)
    """

    sites: tuple[Literal[FaultSite, "systolic"], ...] = ("weight",)
    """`weight`, `bias`: stored words. `activation`: stored outputs of every node, the input among
    them. `output`: those of multiply-accumulate layers. `input`: a word as one layer reads it.
    `operand`, `weight_operand`, `product`: registers of one multiplication. `accumulator`: the
    32-bit sum of one output element. `pe_input`, `pe_weight`, `pe_product`, `pe_sum`: registers of
    one processing element of an array, `systolic` for all four; flips in one cycle of one layer,
    stuck bits in all layers that are chosen."""
    layers: tuple[str, ...] = ("*",)
    """Names of layers; `*` and `?` stand for anything and any one character."""
    operations: tuple[str, ...] | None = None
    """Kinds of operation, such as `conv` and `linear`; None: all."""
    channels: tuple[Index, ...] | None = None
    """Output channels; None: all."""
    elements: tuple[Index, ...] | None = None
    """Words (weights, neurons), counted as if laid out flat; None: all."""
    bits: tuple[Index, ...] | None = None
    """Bits, 0 the least significant; those that a word lacks are passed over. None: all."""

    def strata(
        self,
        network: IntegerNetwork,
        shapes: Shapes,
        *,
        array: SystolicArray | None = None,
        permanent: bool = False,
    ) -> list[Stratum]:
        """Return the strata, in the order of sites and of execution.

        `array` is what layers run on, for faults in its registers, which may be `permanent`.

        Raises:
            SpecError: nothing is left to break, or a layer's name fits nothing.
        """
        self._check_names(network)
        sites: list[FaultSite] = []
        for site in self.sites:
            sites += ARRAY_SITES if site == "systolic" else [site]
        found: list[Stratum] = []
        for site in dict.fromkeys(sites):
            own = [
                self._stratum(site, node, *facts)
                for node in network.nodes
                if self._wants(node)
                and (facts := _facts(site, node, network, shapes, array or SystolicArray()))
            ]
            found += _in_all_layers(own) if permanent and site in ARRAY_SITES else own
        found = [stratum for stratum in found if stratum.size]
        if not found:
            ends = [name.rpartition(".") for name in network.tensors]
            raise SpecError(
                f"faults: wanted bits to break, got none for sites {', '.join(self.sites)} in "
                f"layers {', '.join(self.layers)}; layers with weights: "
                + ", ".join(layer for layer, _, site in ends if site == "weight")
            )
        return found

    def _check_names(self, network: IntegerNetwork) -> None:
        names = [node.name for node in network.nodes]
        for pattern in self.layers:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise SpecError(f"layers: no layer fits {shorten(pattern)}. {near(pattern, names)}")
        kinds = {node.op for node in network.nodes}
        for kind in self.operations or ():
            if kind not in kinds:
                raise SpecError(
                    f"operations: the network has no {shorten(kind)}. {near(kind, kinds)}"
                )

    def _wants(self, node: Node) -> bool:
        if self.operations is not None and node.op not in self.operations:
            return False
        return any(fnmatchcase(node.name, pattern) for pattern in self.layers)

    def _stratum(
        self, site: FaultSite, node: Node, shape: tuple[int, ...], width: int, taps: int
    ) -> Stratum:
        bits = tuple(b for b in range(width) if self.bits is None or b in self.bits)
        chosen = self._chosen(site, node, shape)
        return Stratum(site, node.name, prod(shape), width, bits, taps, chosen)

    def _chosen(
        self, site: FaultSite, node: Node, shape: tuple[int, ...]
    ) -> Int64[np.ndarray, " e"] | None:
        """Return the flat numbers of the chosen words."""
        if self.channels is None and self.elements is None:
            return None
        keep = np.ones(shape, bool)
        if self.channels is not None and site in ARRAY_SITES:
            raise SpecError("channels: wanted none with registers of an array; choose `elements`")
        if self.channels is not None and shape:
            # Output channels come first in stored words, last but for the map in a layer's output.
            first = site in {"weight", "bias"} or node.op not in PRODUCT_OPS
            axis = 0 if first else -1 - len(node.attrs.get("stride", ()))
            chosen = np.isin(np.arange(shape[axis]), self.channels)
            np.moveaxis(keep, axis, 0)[~chosen] = False
        if self.elements is not None:
            keep.reshape(-1)[~np.isin(np.arange(keep.size), self.elements)] = False
        return np.flatnonzero(keep)


def _in_all_layers(strata: list[Stratum]) -> list[Stratum]:
    """Return the places of an array that break in all layers alike, as one stratum."""
    widths = {one.layer: one.width for one in strata}
    if not widths:
        return []
    widest = max(strata, key=lambda one: one.width)
    return [replace(widest, layer=WHOLE_ARRAY, taps=1, hits=widths)]


def _facts(
    site: FaultSite, node: Node, network: IntegerNetwork, shapes: Shapes, array: SystolicArray
) -> tuple[tuple[int, ...], int, int] | None:
    """Return shape and width of a site's words and the products per element; None: no such site."""
    if site in {"weight", "bias"}:
        coded = network.tensors.get(f"{node.name}.{site}")
        return None if coded is None else (tuple(coded.codes.shape), coded.grid.bits, 1)
    if site in {"activation", "output"}:
        grid = network.grids.get(node.name)
        if grid is None or not is_written(node) or (site == "output" and node.op not in MAC_OPS):
            return None
        return shapes[node.name], grid.bits, 1
    if node.op not in PRODUCT_OPS:
        return None
    if site in ARRAY_SITES:
        return _facts_of_array(site, node, network, shapes[node.inputs[0]], array)
    return _facts_of_products(site, node, network, shapes)


def _facts_of_array(
    site: FaultSite,
    node: Node,
    network: IntegerNetwork,
    codes: tuple[int, ...],
    array: SystolicArray,
) -> tuple[tuple[int, ...], int, int] | None:
    if node.name in network.products:
        return None
    bits, _ = register_bits(network, node, site)
    return (array.n_elements,), bits, array.cycles(network, node, codes)


def _facts_of_products(
    site: FaultSite, node: Node, network: IntegerNetwork, shapes: Shapes
) -> tuple[tuple[int, ...], int, int]:
    read, weight = network.grids[node.inputs[0]], network.tensors[node.key("weight")]
    if site == "input":
        return shapes[node.inputs[0]], read.bits, 1
    widths = {
        "operand": read.bits,
        "weight_operand": weight.grid.bits,
        "accumulator": ACCUMULATOR_BITS,
    }
    width = widths[site] if site in widths else product_bits(network, node)
    return shapes[node.name], width, weight.codes[0].numel() if site in TAP_SITES else 1
