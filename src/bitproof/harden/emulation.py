"""A float model whose layers compute as the deployed integer network will, for training.

Model:  before each forward pass of a layer its input is put on the activation grid of the deployed
        network, its weight, with the batch norm folded in, on the weight grid; products come from
        the multipliers' tables, and the sums are read back as real values. Between layers, values
        stay float. The gradient is that of the float layer (straight-through), or that of the
        smoothed table: see `approx.table_gradient`. Bits of the weight may flip on the way.
Source: straight-through: Bengio et al., 2013. Gradients of tables: AppMult-aware retraining,
        arXiv 2509.10519.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bitproof.approx.deploy import applicable, with_multipliers
from bitproof.approx.partial_products import Exact
from bitproof.approx.table_gradient import Multiplied, TableGradient, gradients_of, through_table
from bitproof.core.errors import QuantizationError
from bitproof.data.dataset import Dataset
from bitproof.harden.base import Candidate
from bitproof.quant.arithmetic import requantize_
from bitproof.quant.constants import Constants, prepare
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.pass_gradient import pass_gradient
from bitproof.quant.product_layer import ProductLayer
from bitproof.quant.scheme import Scheme
from bitproof.quant.straight_through import Inject, fold_factors, norm_after


@dataclass(frozen=True, eq=False)
class Step:
    """One layer's operands in one forward pass, as the hardware sees them."""

    node: Node
    weight: CodedTensor
    grid: Grid
    """Of the words that go in."""
    codes: Tensor
    sums: Tensor
    """Accumulators of table products, without bias."""
    factor: Tensor
    """What the batch norm multiplies each output channel by."""
    scale: Tensor
    """Real value of one step of the accumulator, for each output channel or for all; the factor of
    the batch norm is taken out."""


@dataclass
class Emulation:
    """The layers of one model that multiply through tables."""

    model: nn.Module
    network: IntegerNetwork
    """The deployed network: grids of activations, and what multiplies where."""
    scheme: Scheme
    shrink: Mapping[str, float]
    norms: Mapping[str, str]
    """Batch norm that is folded into each layer."""
    slopes: Mapping[str, Sequence[TableGradient]] = field(default_factory=dict)
    """Gradients of the tables of each node; straight-through where there are none."""
    inject: Inject | None = None
    """Breaks the stored weight of each layer, while it is set."""
    nodes: dict[str, Node] = field(default_factory=dict)
    """By path of the layer."""
    left_float: list[str] = field(default_factory=list)
    """Nodes that multiply but cannot be emulated inside the float model."""

    @classmethod
    def of(cls, model: nn.Module, candidate: Candidate, calibration: Dataset) -> "Emulation":
        """Return the emulation of what `candidate` will be, for a copy of its model.

        Every convolution over one or two axes and every linear layer is emulated, also those with
        exact products. What else multiplies (attention, scalings of channels) stays float; see
        `left_float`.

        Raises:
            QuantizationError: no layer of the model is a convolution over one or two axes or a
                linear layer, or one is used twice.
        """
        network = candidate.quantize(calibration)
        exact = dict.fromkeys(set(applicable(network)) - network.products.keys(), Exact())
        network = network.with_products(with_multipliers(network, exact).products)
        norms = norm_after(model, calibration.inputs(slice(0, 2)))
        found = cls(model, network, candidate.scheme, candidate.shrink, norms)
        for node in network.nodes:
            if node.name not in network.products:
                continue
            if _layer(model, node) is None:
                found.left_float.append(node.name)
            elif node.path in found.nodes:
                raise QuantizationError(
                    f"{node.path}: wanted each layer used once, to train it through a multiplier"
                )
            else:
                found.nodes[node.path] = node
        if not found.nodes:
            raise QuantizationError(
                "approximation_aware: wanted convolutions or linear layers, found none"
            )
        return found

    def follow_tables(self, *, half_width: int, rank: int) -> None:
        """Take gradients from the slopes of tables, in place of straight-through ones."""
        known: dict[int, Sequence[TableGradient]] = {}
        slopes = {}
        for node in self.nodes.values():
            products = self.network.products[node.name]
            key = products.tables.data_ptr()  # layers share the memory of their tables
            if key not in known:
                known[key] = gradients_of(products, half_width=half_width, rank=rank)
            slopes[node.name] = known[key]
        self.slopes = slopes

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the layers of the model compute so inside the block."""
        hooks = [
            self.model.get_submodule(path).register_forward_hook(self._hook(path, node))
            for path, node in self.nodes.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def faulty(self, inject: Inject) -> Iterator[None]:
        """Let stored weights break inside the block."""
        self.inject = inject
        try:
            yield
        finally:
            self.inject = None

    def _hook(self, path: str, node: Node) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def replace_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            axis = output.ndim - 1 if node.op == "linear" else 1
            bias: Any = module.bias
            with torch.autocast(output.device.type, enabled=False):
                with torch.no_grad():
                    step = self._step(path, node, module, inputs[0].detach().float())
                sums = step.sums
                if node.name in self.slopes and torch.is_grad_enabled():
                    sums = self._through_table(step, module, inputs[0].float())
                found = sums * _along(step.scale, axis, output.ndim)
                found = found if bias is None else found + _along(bias, axis, output.ndim)
            return found if sums is not step.sums else pass_gradient(output, found.detach())

        return replace_output

    def _through_table(self, step: Step, module: nn.Module, x: Tensor) -> Tensor:
        """Return the sums of a step, with gradients to input and weight by the slopes of tables."""
        weight: Any = module.weight
        spread = step.weight.grid.spread(step.weight.grid.scale, weight.ndim)
        folded = weight * _along(step.factor, 0, weight.ndim) / spread
        seen = Multiplied.of(
            step.codes,
            step.weight,
            grid=step.grid,
            products=self.network.products[step.node.name],
            gradients=self.slopes[step.node.name],
        )
        return through_table(step.node, (x / step.grid.scale, folded), step.sums, seen=seen)

    def _step(self, path: str, node: Node, module: nn.Module, x: Tensor) -> Step:
        """Return a layer's operands and sums for real-valued input."""
        weight: Any = module.weight
        stored = weight.detach()
        factor = torch.ones(len(stored), device=stored.device)
        if path in self.norms:
            factor = fold_factors(self.model, {path: self.norms[path]})[path]
        folded = stored * _along(factor, 0, stored.ndim)
        (own,) = self.scheme.weight.fit_all([folded], shrinks=[self.shrink.get(node.name, 1.0)])
        coded = self.scheme.weight.encode(folded, own)
        name = node.key("weight")
        if self.inject is not None:
            coded = CodedTensor(self.inject({name: coded})[name], coded.grid)
        grid = self.network.grids[node.inputs[0]]
        constants = prepare(node, {name: coded}, self.network.grids, self.network.rounding)
        stored_as = Constants(
            (),
            (),
            zero_point=int(grid.zero_point),
            low=grid.low,
            high=grid.high,
            rounding=self.network.rounding,
        )
        codes = requantize_(x / grid.scale, stored_as).to(grid.dtype)
        layer = ProductLayer(node, constants, (grid,), self.network.products[node.name], coded)
        # A channel that its norm switches off (factor 0) has no products to divide.
        safe = torch.where(factor == 0, torch.ones_like(factor), factor)
        scale = coded.grid.scale * grid.scale / safe
        return Step(node, coded, grid, codes, layer.sums([codes]), factor, scale)


def _layer(model: nn.Module, node: Node) -> nn.Module | None:
    """Return the module that a node stands for, if it is one whole layer."""
    module = dict(model.named_modules()).get(node.path)
    return module if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear) else None


def _along(values: Tensor, axis: int, ndim: int) -> Tensor:
    """Return one value per channel, shaped to broadcast along `axis`."""
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)
