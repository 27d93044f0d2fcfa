"""Per-channel bias correction: biases absorb the mean error that quantization leaves.

Model:  in one pass through float graph and integer network side by side, the bias of each layer
        is shifted by the mean difference of their sums per channel, on the calibration images,
        with every earlier layer already corrected.
Source: Nagel et al., "Data-Free Quantization", ICCV 2019 (empirical variant); METHODS A.3.
"""

from dataclasses import replace

import torch
from jaxtyping import Num
from torch import Tensor

from bitproof.quant.arithmetic import center
from bitproof.quant.constants import prepare
from bitproof.quant.execution import execute
from bitproof.quant.floats import compute, float_op
from bitproof.quant.graph import Graph, Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.scheme import Scheme

CORRECTED = frozenset({"conv", "linear"})
IMAGES = 256
"""Calibration images used, all in one batch."""


@torch.no_grad()
def correct_biases(
    network: IntegerNetwork, graph: Graph, images: Num[Tensor, "n *features"], scheme: Scheme
) -> IntegerNetwork:
    """Return `network` with corrected biases; `graph` is what it was quantized from.

    A layer that is used several times keeps its bias: what it lacks differs from call to call.
    """
    images = images[:IMAGES]
    tensors = dict(network.tensors)
    fixed = replace(network, tensors=tensors)
    constants, shared = fixed.constants, graph.sharing()

    def compute_both(node: Node, operands: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the output of one node as real values and as words."""
        wanted, codes = [real for real, _ in operands], [codes for _, codes in operands]
        key = node.key("bias")
        if node.op in CORRECTED and key in tensors and node.name not in shared:
            bias = graph.tensors[key] + _mean_error(node, graph, fixed, wanted, codes)
            tensors[key] = _encode(bias, tensors[key].grid, scheme)
            constants[node.name] = prepare(node, tensors, network.grids, network.rounding)
        real = float_op(node, graph.tensors, wanted, images)
        return real, integer_op(fixed, node, codes, images)

    execute(graph.nodes, compute_both)
    return replace(network, tensors=tensors)


def _mean_error(
    node: Node, graph: Graph, network: IntegerNetwork, wanted: list[Tensor], operands: list[Tensor]
) -> Tensor:
    """Return float minus integer sums per output channel, without the bias of either."""
    constants = network.constants[node.name]
    real = compute(node, wanted, graph.tensors[node.key("weight")], None)
    bare = [center(x, point) for x, point in zip(operands, constants.zero_points, strict=True)]
    weight = network.tensors[node.key("weight")].values()
    ours = compute(node, [bare[0] * constants.scales[0]], weight, None)
    channel = real.ndim - 1 if node.op == "linear" else 1
    others = [axis for axis in range(real.ndim) if axis != channel]
    return (real - ours).mean(others)


def _encode(bias: Tensor, grid: Grid, scheme: Scheme) -> CodedTensor:
    if grid.bits == 32:
        codes = (bias.double() / grid.scale.double()).round().clamp(-(2**31), 2**31 - 1)
        return CodedTensor(codes.to(torch.int32), grid)
    assert scheme.bias is not None
    return scheme.bias.encode(bias)
