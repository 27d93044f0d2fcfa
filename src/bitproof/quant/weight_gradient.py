"""The gradient of a loss by the stored weights of an integer network, from a run that is kept.

Model:  a run keeps every output of one batch, the accumulators of layers, and where no clamp was
        at work. Its gradient is that of `differentiable`, which passes rounding as the identity,
        continued to the weights: the change of the loss for one step of a stored code. It needs
        no other forward pass; after a change of one layer, only what depends on it runs again.
Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Num
from torch import Tensor

from bitproof.quant.accumulators import ExactAccumulator
from bitproof.quant.arithmetic import center, requantize_, sum_steps
from bitproof.quant.compiled import words_of_sums
from bitproof.quant.constants import Constants
from bitproof.quant.execution import affected, execute
from bitproof.quant.fake import fake_op
from bitproof.quant.floats import has_faulty_kernel, multiply_accumulate
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.network_data import NetworkData
from bitproof.quant.operations import MAC_OPS, SUM_OPS


@dataclass(frozen=True, eq=False)
class KeptRun:
    """One run of an integer network, kept whole.

    Example:
        >>> from bitproof.quant import quantize
        >>> images = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
        >>> network = quantize(torch.nn.Sequential(torch.nn.Linear(4, 3)), images)
        >>> run = KeptRun.of(network, images)
        >>> torch.equal(run.logits, network(images))
        True
        >>> run.weight_gradients(torch.ones(8, 3), ["0"])["0"].shape
        torch.Size([3, 4])
    """

    network: NetworkData
    inputs: Num[Tensor, "n *features"]
    codes: dict[str, Tensor]
    """Output words by node; real logits for the last one, where it has no grid."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Exact accumulators, in float32 or int32, of layers whose products are exact."""
    values: dict[str, Tensor] = field(default_factory=dict)
    """Of other nodes that add or average: the output in its own steps, before it is rounded."""

    @classmethod
    @torch.no_grad()
    def of(cls, network: NetworkData, inputs: Num[Tensor, "n *features"]) -> "KeptRun":
        """Execute `network`, and keep everything."""
        run = cls(network, inputs, {})
        return run._continued(network.nodes)

    @torch.no_grad()
    def after_change(self, network: NetworkData, layer: str) -> "KeptRun":
        """Return the run of a network that has other words in one layer's memory only."""
        parts = (dict(part) for part in (self.codes, self.sums, self.values))
        run = KeptRun(network, self.inputs, *parts)
        return run._continued(affected(network.nodes, network.readers({layer})))

    @property
    def logits(self) -> Float[Tensor, "n *outputs"]:
        """Answers."""
        return self.network.logits(self.codes[self.network.nodes[-1].name])

    @torch.no_grad()
    def weight_gradients(
        self, slope: Float[Tensor, "n *outputs"], layers: Collection[str]
    ) -> dict[str, Tensor]:
        """Return the gradient by the codes of some layers' weights, by layer.

        `slope` is the gradient of the loss by the logits; `layers` are among `weighted_layers`.
        """
        nodes, last = self.network.nodes, self.network.nodes[-1]
        carriers = {node.name for node in affected(nodes, self.network.readers(layers))}
        grid = self.network.grids.get(last.name)
        flowing = {last.name: slope if grid is None else slope * grid.scale}
        found: dict[str, Tensor] = {}
        for node in reversed(nodes):
            gradient = flowing.pop(node.name, None)
            if gradient is None:
                continue
            wanted = [name in carriers for name in node.inputs]
            owner = node.memory or node.name
            *by_input, by_weight = self._back(node, gradient, wanted, owner in layers)
            if by_weight is not None:
                found[owner] = found[owner] + by_weight if owner in found else by_weight
            for name, own in zip(node.inputs, by_input, strict=True):
                if own is not None:
                    flowing[name] = flowing[name] + own if name in flowing else own
        return found

    def _continued(self, nodes: Iterable[Node]) -> "KeptRun":
        """Execute some nodes, and keep what they give, in this run."""
        done = execute(tuple(nodes), self._compute, read=self.codes.__getitem__, keep=True)
        self.codes.update(done)
        return self

    def _compute(self, node: Node, operands: list[Tensor]) -> Tensor:
        """Return a node's output; keep what comes before it is rounded."""
        network, grid = self.network, self.network.grids.get(node.name)
        constants = network.constants[node.name]
        sums, multiplier = None, None
        if node.op in MAC_OPS:
            accumulator, multiplier = network.accumulator(node), constants.multipliers[0]
            if isinstance(accumulator, ExactAccumulator) and constants.weight is not None:
                self.sums[node.name] = accumulator.totals(operands[0])
                sums = self.sums[node.name].float()
            else:
                self.values[node.name] = accumulator.sums(operands) * multiplier
        elif node.op in SUM_OPS:
            points = zip(operands, constants.zero_points, strict=True)
            centered = [center(x, point) for x, point in points]
            self.values[node.name] = sum_steps(node, constants, centered)
        else:
            return integer_op(network, node, operands, self.inputs)
        if sums is None or multiplier is None:
            sums, multiplier = self.values[node.name], torch.ones(1, device=self.inputs.device)
        if grid is None:
            return sums * multiplier
        words = words_of_sums(sums, multiplier, constants, grid.dtype)
        if words is not None:
            return words
        return requantize_(sums * multiplier, constants).to(grid.dtype)

    def _unclamped(self, node: Node, gradient: Tensor) -> Tensor:
        """Return a gradient by the output, zero where this was clamped."""
        constants = self.network.constants[node.name]
        if node.name not in self.network.grids:
            return gradient
        values = self.values.get(node.name)
        if values is None:
            values = self.sums[node.name].float() * constants.multipliers[0]
        low, high = (end - constants.zero_point for end in (constants.low, constants.high))
        # In one pass, as `RequantizeThrough` does in several: it passes strictly between the ends.
        passed: Tensor = torch.ops.aten.hardtanh_backward(gradient, values, low - 0.5, high + 0.5)
        return passed

    def _back(
        self, node: Node, gradient: Tensor, wanted: Sequence[bool], by_weight: bool
    ) -> list[Tensor | None]:
        """Return the gradient by each operand's integers, and by those of the weight."""
        constants = self.network.constants[node.name]
        if node.op in {"add", "sub"} and not self._broadcasts(node):
            gradient = self._unclamped(node, gradient)
            signs = (1, 1 if node.op == "add" else -1)
            scaled = zip(constants.multipliers, signs, wanted, strict=True)
            return [*(gradient * (m * sign) if want else None for m, sign, want in scaled), None]
        if node.op not in MAC_OPS or constants.weight is None:
            return [*self._back_through_any(node, gradient, wanted), None]
        gradient = self._unclamped(node, gradient) * constants.multipliers[0]
        return list(self._back_through_layer(node, gradient, (wanted[0], by_weight)))

    def _back_through_layer(
        self, node: Node, gradient: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradient by input and weight of a layer, given that by its sums."""
        constants = self.network.constants[node.name].in_float32
        weight, x = constants.weight, self._centered(node, constants)[0]
        assert weight is not None
        if node.op == "conv" and not has_faulty_kernel(x, weight, node.geometry):
            move, still = node.geometry, [0] * (weight.ndim - 2)
            moves = (move.stride, move.padding, move.dilation, False, still, move.groups)
            by_input, by_weight, _ = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, *moves, [*wanted, False]
            )
            return by_input, by_weight
        with torch.enable_grad():
            x, weight = x.requires_grad_(), weight.clone().requires_grad_()
            sums = multiply_accumulate(node, x, weight, None)
            chosen = [leaf for leaf, want in zip((x, weight), wanted, strict=True) if want]
            found = iter(torch.autograd.grad(sums, chosen, gradient))
        by_input, by_weight = (next(found) if want else None for want in wanted)
        return by_input, by_weight

    def _back_through_any(
        self, node: Node, gradient: Tensor, wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """Return the gradient by each operand of a node, which is executed again."""
        operands = self._centered(node, self.network.constants[node.name])
        with torch.enable_grad():
            leaves = [x.requires_grad_(want) for x, want in zip(operands, wanted, strict=True)]
            value = fake_op(self.network, node, leaves, self.inputs)
            chosen = [leaf for leaf in leaves if leaf.requires_grad]
            found = iter(torch.autograd.grad(value, chosen, gradient.to(value.dtype)))
        return [next(found) if want else None for want in wanted]

    def _broadcasts(self, node: Node) -> bool:
        left, right = (self.codes[name].shape for name in node.inputs)
        return left != right

    def _centered(self, node: Node, constants: Constants) -> list[Tensor]:
        points = zip(node.inputs, constants.zero_points, strict=True)
        return [center(self.codes[name], point) for name, point in points]


def weighted_layers(network: NetworkData) -> tuple[Node, ...]:
    """Return the nodes that multiply with a stored weight of their own."""
    return tuple(
        node
        for node in network.nodes
        if node.op in MAC_OPS and f"{node.name}.weight" in network.tensors
    )
