"""The integer network beside the float graph, on the same images."""

from dataclasses import dataclass

import torch
from jaxtyping import Num
from torch import Tensor

from bitproof.quant.execution import execute
from bitproof.quant.fidelity import Fidelity, LayerFidelity, decibels
from bitproof.quant.floats import float_op, run_floats
from bitproof.quant.graph import Graph, Node
from bitproof.quant.grid import Grid
from bitproof.quant.integers import integer_op, run_integers
from bitproof.quant.network_data import NetworkData
from bitproof.quant.operations import MOVING_OPS, is_written

IMAGES = 128
"""Images, at most, whose outputs are compared."""
LAYER_IMAGES = 16
"""Images, at most, on which the outputs of all nodes are compared."""
BATCH = 64
"""Images that run at once."""


@torch.no_grad()
def compare_with_floats(
    network: NetworkData, graph: Graph, images: Num[Tensor, "n *features"]
) -> Fidelity:
    """Return how far `network` is from `graph`, which it was made of, on the first images."""
    chosen = images[:IMAGES]
    signal = noise = same = answers = 0.0
    for batch in torch.split(chosen, BATCH):
        wanted, found = run_floats(graph, batch), run_integers(network, batch)
        signal, noise = signal + _squares(wanted), noise + _squares(wanted - found)
        alike = _answers(wanted, graph) == _answers(found, graph)
        same, answers = same + int(alike.sum()), answers + alike.numel()
    return Fidelity(
        images=len(chosen),
        sqnr_db=decibels(signal, noise),
        agreement=same / answers,
        layers=_compare_layers(network, graph, chosen[:LAYER_IMAGES]),
    )


@dataclass(frozen=True)
class _Output:
    """One node's output: real values, and the words of the integer network."""

    real: Tensor
    codes: Tensor
    grid: Grid | None


def _compare_layers(
    network: NetworkData, graph: Graph, images: Tensor
) -> tuple[LayerFidelity, ...]:
    layers = []

    def compute(node: Node, operands: list[_Output]) -> _Output:
        real = float_op(node, graph.tensors, [one.real for one in operands], images)
        codes = integer_op(network, node, [one.codes for one in operands], images)
        output = _Output(real, codes, network.grids.get(node.name))
        if is_written(node):
            alone = integer_op(network, node, [_put_on_grid(one) for one in operands], images)
            signal = _squares(real)
            errors = (_squares(real - _real(words, output.grid)) for words in (codes, alone))
            sqnr_db, own = (decibels(signal, error) for error in errors)
            layers.append(LayerFidelity(node.name, node.op, sqnr_db, own))
        return output

    execute(graph.nodes, compute)
    return tuple(layers)


def _put_on_grid(output: _Output) -> Tensor:
    """Return the words nearest to a node's real values; these, where it has no grid."""
    grid = output.grid
    if grid is None:
        return output.real
    codes = (output.real / grid.scale).round() + grid.zero_point
    return codes.clamp(grid.low, grid.high).to(grid.dtype)


def _real(codes: Tensor, grid: Grid | None) -> Tensor:
    return codes if grid is None else grid.decode(codes)


def _squares(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2


def _answers(outputs: Tensor, graph: Graph) -> Tensor:
    """Return the class of each image, or of each place; of single outputs, which side they are."""
    if outputs.ndim > 1 and outputs.shape[1] > 1:
        return outputs.argmax(1)
    last = next(node for node in reversed(graph.nodes) if node.op not in MOVING_OPS)
    return outputs > (0.5 if last.attrs.get("function") == "sigmoid" else 0.0)
