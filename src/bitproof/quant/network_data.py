"""A quantized network as plain data: stored words, grids, the operations between them.

What runs it takes this; `network.IntegerNetwork` adds the verbs.
"""

import hashlib
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from bitproof.core.errors import WeightsError, near
from bitproof.core.spec import canonical_json
from bitproof.quant.accumulators import Accumulator, ExactAccumulator
from bitproof.quant.constants import Constants, prepare
from bitproof.quant.fidelity import Fidelity
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.product_layer import ProductLayer, ProductMatmul
from bitproof.quant.products import Products

N = TypeVar("N", bound="NetworkData")


@dataclass(frozen=True, eq=False)
class NetworkData:
    """A quantized network, independent of the code that it came from."""

    nodes: tuple[Node, ...]
    """In order of execution; the last one is the output."""
    tensors: dict[str, CodedTensor]
    """Stored words, by `node.weight` or `node.bias`, in order of execution."""
    grids: dict[str, Grid]
    """Grid of each node's output; absent from the last accumulators on, where outputs are real:
    see `wide_outputs`."""
    rounding: str = "nearest"
    """How accumulators become words: `nearest` or `truncate`."""
    products: dict[str, Products] = field(default_factory=dict)
    """What multiplies in nodes whose products are not exact, by node."""
    input_shape: tuple[int, ...] | None = None
    """Shape of one calibration image, which inputs must have; None: not known. Answers do not
    depend on it, so it is no part of the digest."""
    fidelity: Fidelity | None = None
    """How far it was from the float network when it was quantized, with exact products; None where
    nobody compared. No part of the digest."""

    @cached_property
    def constants(self) -> dict[str, Constants]:
        """What each node multiplies with, prepared once."""
        return {
            node.name: prepare(node, self.tensors, self.grids, self.rounding) for node in self.nodes
        }

    @cached_property
    def _accumulators(self) -> dict[str, Accumulator]:
        return {}

    def accumulator(self, node: Node) -> Accumulator:
        """Return how a multiply-accumulate node of this network computes its sums."""
        known = self._accumulators
        if node.name not in known:
            weight, products = self.tensors.get(node.key("weight")), self.products.get(node.name)
            grids = tuple(self.grids[name] for name in node.inputs)
            common = node, self.constants[node.name], grids
            if products is None:
                known[node.name] = ExactAccumulator(*common, weight)
            elif weight is None:
                known[node.name] = ProductMatmul(*common, products)
            else:
                known[node.name] = ProductLayer(*common, products, weight)
        return known[node.name]

    def logits(self, codes: Tensor) -> Tensor:
        """Return real logits for the output of the last node: words, or logits already."""
        grid = self.grids.get(self.nodes[-1].name)
        return codes if grid is None else grid.decode(codes)

    def digest(self) -> str:
        """Return the SHA-256 of nodes, words, grids and products, whatever the device."""
        plain = [node.to_dict() for node in self.nodes]
        state = hashlib.sha256(canonical_json([plain, self.rounding]).encode())
        grids = {f"tensor {name}": coded.grid for name, coded in self.tensors.items()}
        grids |= {f"grid {name}": grid for name, grid in self.grids.items()}
        for name, grid in grids.items():
            state.update(f"{name} {grid.bits} {grid.signed} {grid.axis}".encode())
            for tensor in (grid.scale, grid.zero_point):
                state.update(tensor.cpu().contiguous().numpy().tobytes())
        for name, coded in self.tensors.items():
            state.update(f"{name} {tuple(coded.codes.shape)}".encode())
            state.update(coded.codes.cpu().contiguous().numpy().tobytes())
        for name, products in sorted(self.products.items()):
            state.update(f"products {name} {products.signed}".encode())
            for tensor in (products.tables, products.choice, products.offset):
                state.update(tensor.cpu().contiguous().numpy().tobytes())
        return state.hexdigest()

    @property
    def tokens(self) -> int | None:
        """How many tokens the input may be one of; None: it is no number of a token."""
        if not self.nodes or not self.nodes[0].attrs.get("tokens"):
            return None
        tables = (node.key("weight") for node in self.nodes if node.op == "embedding")
        return min(len(self.tensors[name].codes) for name in tables)

    @property
    def device(self) -> torch.device:
        """Where the words lie."""
        return next(iter(self.grids.values())).scale.device

    def codes(self, *keys: str) -> dict[str, tuple[Tensor, int]]:
        """Return stored words and their width in bits, by name, of `weight` or `bias` or all."""
        return {
            name: (coded.codes, coded.grid.bits)
            for name, coded in self.tensors.items()
            if not keys or name.rpartition(".")[2] in keys
        }

    def with_codes(self: N, codes: Mapping[str, Tensor]) -> N:
        """Return a network with some words replaced; everything else is shared, not copied.

        Raises:
            WeightsError: there are no such words, or they have another shape or dtype.
        """
        tensors = dict(self.tensors)
        for name, new in codes.items():
            if name not in tensors:
                raise WeightsError(f"codes: no words '{name}'. {near(name, tensors)}")
            wanted, came = tensors[name].codes, (tuple(new.shape), new.dtype)
            if came != (tuple(wanted.shape), wanted.dtype):
                raise WeightsError(
                    f"{name}: wanted words {tuple(wanted.shape)} of {wanted.dtype}, "
                    f"got {came[0]} of {came[1]}"
                )
            tensors[name] = CodedTensor(new, tensors[name].grid)
        touched = self.readers({name.rpartition(".")[0] for name in codes})
        changed = self._sharing(touched, tensors=tensors)
        changed.__dict__["constants"] = self.constants | {
            node.name: prepare(node, tensors, self.grids, self.rounding)
            for node in self.nodes
            if node.name in touched
        }
        return changed

    def with_products(self: N, products: Mapping[str, Products]) -> N:
        """Return a network with other multipliers in some nodes; everything else is shared."""
        changed = self._sharing(products, products={**self.products, **products})
        changed.__dict__["constants"] = self.constants
        return changed

    def with_products_of(self: N, others: Mapping[str, "NetworkData"]) -> N:
        """Return a network whose nodes multiply as in others with the same words, by node.

        What those have prepared is shared.
        """
        changed = self.with_products({n: other.products[n] for n, other in others.items()})
        nodes = {node.name: node for node in self.nodes}
        known = {name: other.accumulator(nodes[name]) for name, other in others.items()}
        changed.__dict__["_accumulators"] |= known
        return changed

    def _sharing(self: N, touched: Container[str], **changes: Any) -> N:
        """Return a network with changes in some nodes; what was prepared for others is shared."""
        changed = replace(self, **changes)
        known = self._accumulators.items()
        changed.__dict__["_accumulators"] = {n: one for n, one in known if n not in touched}
        return changed

    def readers(self, layers: Collection[str]) -> frozenset[str]:
        """Return the nodes that read the stored words of some layers, those layers included."""
        return frozenset(
            node.name for node in self.nodes if node.name in layers or node.memory in layers
        )

    def to(self: N, device: torch.device | str) -> N:
        """Return the same network on `device`."""
        tensors = {name: coded.to(device) for name, coded in self.tensors.items()}
        grids = {name: grid.to(device) for name, grid in self.grids.items()}
        products = {name: own.to(device) for name, own in self.products.items()}
        return replace(self, tensors=tensors, grids=grids, products=products)
