"""Whole networks through tables of products, as calls to be timed; see `approx.py`."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from approx_layers import SCHEME
from benchmark_tables import Tables
from plain_gather import PlainGather
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.models import ImageModelSpec
from bitproof.quant import IntegerNetwork, Node, quantize, run_integers
from bitproof.quant.arithmetic import requantize_
from bitproof.quant.execution import execute
from bitproof.quant.integers import integer_op
from bitproof.quant.maps import as_kernel, as_maps, from_maps
from bitproof.quant.products import Products

FORMS = {"any table": "any", "rank 4": "rank 4", "rank 1": "rank 1"}
GATHERED = 2
"""Images for each thread that plain gathering infers; it is linear in them."""


class Network:
    """A network of random weights, which do not change the time, and all ways to run it."""

    def __init__(
        self, spec: ImageModelSpec, tables: Tables, gather: PlainGather, *, batch: int
    ) -> None:
        generator = make_generator(0, "images")
        self.images = torch.rand(batch, 3, 32, 32, generator=generator)
        self.model = spec.build(
            in_channels=3, image_size=32, n_classes=10, generator=make_generator(0)
        ).eval()
        self.exact = quantize(self.model, self.images, SCHEME)
        self.tables, self.gather = tables, gather
        self.through = {name: self._with(form) for name, form in FORMS.items()}

    def calls(self) -> dict[str, Callable[[], object]]:
        """Return all ways to infer the images, compared with plain gathering."""
        few = self.images[:GATHERED]
        for name, network in self.through.items():
            wanted = self._gathered(FORMS[name], few)
            assert torch.equal(network(self.images)[: len(few)], wanted), name
        wanted = run_integers(self.exact, few, native=False)
        assert torch.equal(self.exact(self.images)[: len(few)], wanted)
        last = torch.channels_last
        images = self.images.contiguous(memory_format=last)
        plain, model = self.model, deepcopy(self.model).to(memory_format=last)  # type: ignore[call-overload]
        gathered = self.images[: self.gathered_images]
        return {
            "float32": lambda: plain(self.images),
            "float32, channels last": lambda: model(images),
            "exact int8": lambda: self.exact(self.images),
            "rival": lambda: self._gathered("any", gathered),
            **{name: partial(network, self.images) for name, network in self.through.items()},
        }

    @property
    def gathered_images(self) -> int:
        """Images of the rival's call."""
        return min(GATHERED * torch.get_num_threads(), len(self.images))

    def _with(self, form: str) -> IntegerNetwork:
        """Return the network with one table for every convolution and linear layer."""
        table, weights = self.tables.entries[form], self.exact.tensors
        products = {
            node.name: Products.of(
                table, signed=True, filters=len(weights[f"{node.name}.weight"].codes)
            )
            for node in self.exact.nodes
            if node.op in {"conv", "linear"}
        }
        return replace(self.exact, products=products)

    def _gathered(self, form: str, images: Tensor) -> Tensor:
        """Return logits by plain gathering."""
        table = self.tables.entries[form]

        def multiply(node: Node, operands: list[Tensor]) -> Tensor:
            if node.op not in {"conv", "linear"}:
                return integer_op(self.exact, node, operands, images)
            constants, grid = self.exact.constants[node.name], self.exact.grids.get(node.name)
            assert constants.zero_points == (0,)
            assert constants.weight is not None
            kernel, move = as_kernel(constants.weight, node)
            maps = as_maps(operands[0], node).to(torch.int8).contiguous().view(torch.uint8)
            weight = kernel.to(torch.int8).contiguous().view(torch.uint8)
            if node.op == "linear":  # an image each, so that threads share them
                maps = maps.permute(3, 1, 0, 2).contiguous()
            sums = self.gather.sums(maps, weight, table, move=move)
            if constants.bias is not None:
                sums += constants.bias.int().reshape(-1, 1, 1)
            sums = sums.permute(2, 1, 3, 0) if node.op == "linear" else sums
            values = from_maps(sums.float(), operands[0], node) * constants.multipliers[0]
            return values if grid is None else requantize_(values, constants).to(grid.dtype)

        values = execute(self.exact.nodes, multiply)
        return self.exact.logits(values[self.exact.nodes[-1].name])
