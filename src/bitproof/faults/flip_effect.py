"""What one changed weight does to the answers of an integer network, computed from a kept run.

Model:  a weight enters one output channel of a convolution, or one output of a linear layer,
        through one input channel: the accumulators there change by the step of its code times what
        it reads, exactly as int32 registers would add it. What depends on the layer is then
        executed; nothing before it is, and no other weight is prepared anew.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bitproof.quant.arithmetic import requantize_
from bitproof.quant.execution import affected, execute
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.network_data import NetworkData
from bitproof.quant.weight_gradient import KeptRun


@dataclass(frozen=True)
class CodeChange:
    """One weight that is another word."""

    layer: str
    element: int
    """Number in its tensor, as if laid out flat."""
    step: int
    """New code minus old code."""


@torch.no_grad()
def logits_after(run: KeptRun, change: CodeChange) -> Tensor:
    """Return the logits of the batch of `run`, bit for bit, with one changed weight.

    Example:
        >>> from bitproof.quant import quantize
        >>> images = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
        >>> network = quantize(torch.nn.Sequential(torch.nn.Linear(4, 3)), images)
        >>> run = KeptRun.of(network, images)
        >>> (logits_after(run, CodeChange("0", 5, -128)) != run.logits).any(0)
        tensor([False,  True, False])
    """
    network, readers = run.network, run.network.readers({change.layer})
    if len(readers) > 1:
        return run.after_change(_with_change(run, change), change.layer).logits
    first, *suffix = affected(network.nodes, readers)
    changed = _changed_output(run, first, change)

    def compute(node: Node, operands: list[Tensor]) -> Tensor:
        return integer_op(network, node, operands, run.inputs)

    values = execute(suffix, compute, known={first.name: changed}, read=run.codes.__getitem__)
    return network.logits(values[network.nodes[-1].name])


def _changed_output(run: KeptRun, node: Node, change: CodeChange) -> Tensor:
    """Return the output of the layer with the changed weight."""
    network, known = run.network, run.codes[node.name]
    sums, constants = run.sums.get(node.name), network.constants[node.name]
    if sums is None or node.op not in {"conv", "linear"}:
        return _recomputed(run, node, change)
    axis = 1 if node.op == "conv" else sums.ndim - 1
    channel, seen = _read_by(run, node, change.element)
    own = sums.select(axis, channel).to(torch.int32) + change.step * seen
    multiplier = constants.multipliers[0].reshape(-1)
    values = own.float() * multiplier[channel if len(multiplier) > 1 else 0]
    result = known.clone()
    if node.name in network.grids:
        values = requantize_(values, constants).to(known.dtype)
    result.select(axis, channel).copy_(values)
    return result


def _read_by(run: KeptRun, node: Node, element: int) -> tuple[int, Tensor]:
    """Return the output channel of a weight, and the integers that it is multiplied with there."""
    weight = run.network.tensors[node.key("weight")].codes
    channel, rest = divmod(element, weight[0].numel())
    codes = run.codes[node.inputs[0]]
    point = run.network.constants[node.name].zero_points[0]
    if node.op == "linear":
        return channel, codes[..., rest].to(torch.int32) - point
    kernel, move = weight.shape[2:], node.geometry
    depth, *tap = (int(i) for i in torch.unravel_index(torch.tensor(rest), weight.shape[1:]))
    source = channel // (len(weight) // move.groups) * weight.shape[1] + depth
    plane = codes[:, source].to(torch.int32) - point
    edges = [edge for edge in reversed(move.padding) for _ in range(2)]
    return channel, move.tap(functional.pad(plane, edges), kernel, tap)


def _recomputed(run: KeptRun, node: Node, change: CodeChange) -> Tensor:
    """Return the output of a layer of any other sort, executed whole."""
    operands = [run.codes[read] for read in node.inputs]
    return integer_op(_with_change(run, change), node, operands, run.inputs)


def _with_change(run: KeptRun, change: CodeChange) -> NetworkData:
    """Return the network with the changed weight."""
    name = f"{change.layer}.weight"
    codes = run.network.tensors[name].codes
    changed = codes.flatten().clone()
    changed[change.element] = int(changed[change.element]) + change.step
    return run.network.with_codes({name: changed.view(codes.shape)})
