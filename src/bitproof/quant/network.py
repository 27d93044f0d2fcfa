"""The integer network: stored words, grids, and the operations between them. Plain data.

It runs in two ways that agree in every word: `run_integers` computes with exact integers,
`run_differentiable` with the same integers held in float32 and gradients that pass rounding.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from bitproof.core.errors import InputRangeError, WeightsError, near
from bitproof.core.spec import canonical_json
from bitproof.quant.constants import Constants, prepare
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.product_layer import ProductLayer
from bitproof.quant.products import Products


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """A quantized network, independent of the code that it came from.

    Example:
        >>> from bitproof.quant import quantize
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> network = quantize(model, torch.rand(8, 1, 2, 2))
        >>> sorted(network.tensors)
        ['1.bias', '1.weight']
        >>> network(torch.rand(3, 1, 2, 2)).shape
        torch.Size([3, 2])
    """

    nodes: tuple[Node, ...]
    """In order of execution; the last one is the output."""
    tensors: dict[str, CodedTensor]
    """Stored words, by `node.weight` or `node.bias`, in order of execution."""
    grids: dict[str, Grid]
    """Grid of each node's output; absent for logits that stay at accumulator width."""
    rounding: str = "nearest"
    """How accumulators are cut down to words: `nearest` or `truncate`."""
    products: dict[str, Products] = field(default_factory=dict)
    """What multiplies in nodes whose products are not exact, by node."""

    def __call__(self, inputs: Float[Tensor, "n *features"]) -> Float[Tensor, "n *outputs"]:
        """Return logits by integer arithmetic.

        Raises:
            InputRangeError: inputs lie outside [0, 1].
        """
        from bitproof.quant.integers import run_integers  # noqa: PLC0415 - it imports this module

        check_inputs(inputs)
        return run_integers(self, inputs)

    def differentiable(self, inputs: Float[Tensor, "n *features"]) -> Float[Tensor, "n *outputs"]:
        """Return the same logits with gradients to `inputs` that pass rounding as the identity.

        Raises:
            InputRangeError: inputs lie outside [0, 1].
        """
        from bitproof.quant.fake import run_differentiable  # noqa: PLC0415 - it imports this module

        check_inputs(inputs)
        return run_differentiable(self, inputs)

    @cached_property
    def constants(self) -> dict[str, Constants]:
        """What each node multiplies with, prepared once."""
        return {
            node.name: prepare(node, self.tensors, self.grids, self.rounding) for node in self.nodes
        }

    @cached_property
    def layers(self) -> dict[str, ProductLayer]:
        """Layers whose products come from tables, prepared once; other nodes have none."""
        weights = {name: self.tensors.get(f"{name}.weight") for name in self.products}
        return {
            node.name: ProductLayer(
                node,
                self.constants[node.name],
                self.products[node.name],
                weight,
                self.grids[node.inputs[0]],
            )
            for node in self.nodes
            if (weight := weights.get(node.name)) is not None
        }

    def digest(self) -> str:
        """Return the SHA-256 of nodes, words, grids and products, whatever the device."""
        plain = [asdict(node) for node in self.nodes]
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
    def device(self) -> torch.device:
        """Where the words lie."""
        return next(iter(self.grids.values())).scale.device

    def words(self, *keys: str) -> dict[str, tuple[Tensor, int]]:
        """Return stored words with their width in bits, by name.

        Args:
            keys: kinds of tensor, `weight` or `bias`; none for all.
        """
        return {
            name: (coded.codes, coded.grid.bits)
            for name, coded in self.tensors.items()
            if not keys or name.rpartition(".")[2] in keys
        }

    def with_codes(self, codes: Mapping[str, Tensor]) -> "IntegerNetwork":
        """Return a network with some words replaced; everything else is shared, not copied.

        Raises:
            WeightsError: there are no such words, or they have another shape or dtype.
        """
        for name, words in codes.items():
            if name not in self.tensors:
                raise WeightsError(f"codes: no words '{name}'. {near(name, self.tensors)}")
            wanted, came = self.tensors[name].codes, (tuple(words.shape), words.dtype)
            if came != (tuple(wanted.shape), wanted.dtype):
                raise WeightsError(
                    f"{name}: wanted words {tuple(wanted.shape)} of {wanted.dtype}, "
                    f"got {came[0]} of {came[1]}"
                )
        tensors = {
            name: CodedTensor(codes[name], coded.grid) if name in codes else coded
            for name, coded in self.tensors.items()
        }
        changed = replace(self, tensors=tensors)
        touched = {name.rpartition(".")[0] for name in codes}
        fresh = {
            node.name: prepare(node, tensors, self.grids, self.rounding)
            if node.name in touched
            else self.constants[node.name]
            for node in self.nodes
        }
        changed.__dict__["constants"] = fresh
        kept = {name: layer for name, layer in self.layers.items() if name not in touched}
        changed.__dict__["layers"] = {**changed.layers, **kept}
        return changed

    def with_products(self, products: Mapping[str, Products]) -> "IntegerNetwork":
        """Return a network with other multipliers in some nodes; everything else is shared."""
        changed = replace(self, products={**self.products, **products})
        changed.__dict__["constants"] = self.constants
        kept = {name: layer for name, layer in self.layers.items() if name not in products}
        changed.__dict__["layers"] = {**changed.layers, **kept}
        return changed

    def to(self, device: torch.device | str) -> "IntegerNetwork":
        """Return the same network on `device`."""
        tensors = {name: coded.to(device) for name, coded in self.tensors.items()}
        grids = {name: grid.to(device) for name, grid in self.grids.items()}
        products = {name: own.to(device) for name, own in self.products.items()}
        return replace(self, tensors=tensors, grids=grids, products=products)


def check_inputs(images: Float[Tensor, "n *features"]) -> None:
    """Check that images lie in [0, 1], as everything here promises.

    Raises:
        InputRangeError: they do not, or hold NaN; or there are none.
    """
    if not images.numel():
        raise InputRangeError(f"images: wanted at least one, got shape {tuple(images.shape)}")
    low, high = (float(end) for end in images.detach().aminmax())
    if not (low >= 0 and high <= 1):  # also where they are NaN
        raise InputRangeError(
            f"images: wanted values in [0, 1], got {low:g} to {high:g}; "
            "put normalisation into the model"
        )
