"""Adaptive rounding: whether each weight goes up or down is learned, layer by layer.

Model:  a weight is `step * (floor(w / step) + h)` with `h = clamp(1.2 sigmoid(v) - 0.1, 0, 1)`. For
        each layer in turn, `v` minimizes the squared error of what the layer gives, after its
        clamp, where it reads the words of the layers before it that are rounded already, plus
        `regularization * sum(1 - |2 h - 1| ** beta)`, whose `beta` falls from 20 to 2 and pushes
        each `h` to 0 or 1. A layer that comes out no better than by rounding to nearest keeps that.
Source: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020,
        equations 21 to 25.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Num
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.core.spec import Spec
from bitproof.core.types import BatchSize, Count, LearningRate, NonNegative, Rounds, Seed
from bitproof.quant.accumulator_width import fits_accumulator
from bitproof.quant.constants import prepare
from bitproof.quant.execution import execute
from bitproof.quant.floats import compute, float_op
from bitproof.quant.graph import Graph, Node
from bitproof.quant.grid import CodedTensor
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork

ROUNDED = frozenset({"conv", "linear"})
STRETCH = 1.2, -0.1
"""Factor and shift of the sigmoid, so that it reaches 0 and 1."""
BETA = 20.0, 2.0
"""First and last exponent of the penalty."""
WARMUP = 0.2
"""Share of the steps without penalty."""
Reconstruct = Callable[[Tensor, Tensor], Tensor]
"""From weight and inputs to outputs."""


class AdaRound(Spec):
    """How weights of convolutions and linear layers learn to round.

    Example:
        >>> AdaRound(steps=200).images
        256
    """

    steps: Rounds = 1000
    """Steps of Adam for each layer."""
    images: Count = 256
    """Calibration images."""
    batch_size: BatchSize = 32
    """Images per step."""
    learning_rate: LearningRate = 0.01
    """Step length of Adam, for the variable behind the sigmoid."""
    regularization: NonNegative = 0.01
    """Weight of the penalty; the error is the mean over images, summed over the rest."""
    seed: Seed = 0
    """Root of the draws of images."""

    def apply(
        self, network: IntegerNetwork, graph: Graph, images: Num[Tensor, "n *features"]
    ) -> IntegerNetwork:
        """Return `network` with other words for weights; `graph` is what it was quantized from.

        A layer that is used several times keeps its words.
        """
        images = images[: self.images]
        tensors = dict(network.tensors)
        fixed = replace(network, tensors=tensors)
        constants, shared = fixed.constants, graph.sharing()

        def compute_both(
            node: Node, operands: list[tuple[Tensor, Tensor]]
        ) -> tuple[Tensor, Tensor]:
            """Return the output of one node as real values and as words."""
            wanted, codes = [real for real, _ in operands], [codes for _, codes in operands]
            real = float_op(node, graph.tensors, wanted, images)
            if node.op in ROUNDED and node.name not in shared:
                read = network.grids[node.inputs[0]].decode(codes[0])
                name = f"{node.name}.weight"
                tensors[name] = self._round(node, fixed, graph.tensors[name], read, real)
                constants[node.name] = prepare(node, tensors, network.grids, network.rounding)
            return real, integer_op(fixed, node, codes, images)

        with torch.no_grad():
            execute(graph.nodes, compute_both)
        return replace(network, tensors=tensors)

    def _round(
        self, node: Node, network: IntegerNetwork, weight: Tensor, read: Tensor, wanted: Tensor
    ) -> CodedTensor:
        """Return the words of one layer's weight."""
        nearest, bias = (network.tensors.get(f"{node.name}.{key}") for key in ("weight", "bias"))
        assert nearest is not None
        offset = None if bias is None else bias.values()
        low, high = node.attrs.get("clamp", (None, None))

        def outputs(values: Tensor, inputs: Tensor) -> Tensor:
            found = compute(node, [inputs], values, offset)
            return found if low is None and high is None else found.clamp(low, high)

        learned = self._learn(node, nearest, weight, (read, wanted), outputs)
        errors = [
            float((outputs(words.values(), read) - wanted).double().square().sum())
            for words in (learned, nearest)
        ]
        source = network.grids[node.inputs[0]]
        better = errors[0] < errors[1] and fits_accumulator(learned, offset, source)
        return learned if better else nearest

    @torch.enable_grad()
    def _learn(
        self,
        node: Node,
        nearest: CodedTensor,
        weight: Tensor,
        pairs: tuple[Tensor, Tensor],
        outputs: Reconstruct,
    ) -> CodedTensor:
        """Return weights rounded so that `outputs` of what is read come near what is wanted."""
        read, wanted = pairs
        grid = nearest.grid
        scale, point = (grid.spread(each, weight.ndim) for each in (grid.scale, grid.zero_point))
        steps = weight / scale
        floor = steps.floor()
        factor, shift = STRETCH
        share = ((steps - floor - shift) / factor).clamp(1e-3, 1 - 1e-3)
        variable = torch.logit(share).requires_grad_()
        optimizer = torch.optim.Adam([variable], lr=self.learning_rate)
        generator = make_generator(self.seed, "adaround", node.name)

        def up() -> Tensor:
            return (factor * torch.sigmoid(variable) + shift).clamp(0, 1)

        for step in range(self.steps):
            chosen = torch.randint(len(read), (self.batch_size,), generator=generator)
            chosen = chosen.to(read.device)
            rounded = up()
            codes = (floor + rounded + point).clamp(grid.low, grid.high)
            error = outputs((codes - point) * scale, read[chosen]) - wanted[chosen]
            loss = error.square().sum() / len(chosen) + self._penalty(rounded, step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        codes = floor + (up().detach() >= 0.5) + point
        return CodedTensor(codes.clamp(grid.low, grid.high).to(grid.dtype), grid)

    def _penalty(self, rounded: Tensor, step: int) -> Tensor | float:
        """Return what is added to the loss for weights between two words."""
        done = (step / self.steps - WARMUP) / (1 - WARMUP)
        if done < 0:
            return 0.0
        beta = BETA[0] + (BETA[1] - BETA[0]) * done
        return self.regularization * (1 - (2 * rounded - 1).abs().pow(beta)).sum()
