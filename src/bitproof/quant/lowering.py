"""An integer network as jobs of the C library, which then computes it in one call.

Model:  from its first node on, each node becomes jobs that read and write words where those of the
        others lie; movements that only look at memory in another way become none. At the first node
        that the library has no job for, lowering ends, after the last output that all others
        follow from; the rest is executed node by node, as are networks whose outputs someone
        observes. The words are the same.
"""

from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bitproof.kernels.jobs import is_dense
from bitproof.kernels.library import library
from bitproof.kernels.map_jobs import QuantizeValues
from bitproof.kernels.plan import Plan, Plans
from bitproof.quant.image_axis import MixedImagesError, Shapes, follow_images
from bitproof.quant.network_data import NetworkData
from bitproof.quant.node_jobs import JobWriter
from bitproof.quant.operations import MAC_OPS


@dataclass(frozen=True, eq=False)
class LoweredNetwork:
    """The first nodes of a network as jobs, for inputs of one shape."""

    plans: Plans
    stop: int
    """The first node that is not among them."""
    copies: bool = False
    """Whether the output of several images has gaps, so that plans copy it, those of one, too."""

    def run(self, network: NetworkData, inputs: Tensor) -> Tensor:
        """Return the output of the last of the nodes of the network that this was made of."""
        make = partial(_lower, network, stop=self.stop, copies=self.copies)
        return self.plans.run(inputs.contiguous(), make)


_KNOWN: WeakKeyDictionary[NetworkData, dict[object, LoweredNetwork | None]] = WeakKeyDictionary()


def lowered(network: NetworkData, inputs: Tensor) -> LoweredNetwork | None:
    """Return a network's first nodes as jobs for such inputs, found once and kept.

    None where the library is absent or slower than floats, or has no jobs for them.
    """
    compiled = library()
    suits = inputs.device.type == "cpu" and inputs.dtype == torch.float32 and inputs.numel()
    if compiled is None or compiled.level == "portable" or not suits:
        return None
    known, key = _KNOWN.setdefault(network, {}), (inputs.shape[1:], compiled.level)
    if key not in known:
        stop, copies = _find_stop(network, inputs[:1])
        plans = Plans(compiled.number, compiled.functions.bitproof_run_crew)
        known[key] = LoweredNetwork(plans, stop, copies) if stop else None
    return known[key]


def _find_stop(network: NetworkData, image: Tensor) -> tuple[int, bool]:
    """Return after how many nodes there is one output that all others follow from; 0 for none.

    Also return whether that output has gaps.

    All are lowered, and none mixes images, so that these can be computed apart from each other.
    """
    two, three = (JobWriter(network, image.expand(n, *image.shape[1:])) for n in (2, 3))
    axes: dict[str, tuple[Shapes, int | None]] = {}
    stop, multiplies, gaps = 0, False, False
    for number, _ in zip(two.steps(), three.steps(), strict=False):
        node = network.nodes[number - 1]
        shapes = two.values[node.name].shape, three.values[node.name].shape
        try:
            axis = follow_images(node, [axes[name] for name in node.inputs], shapes)
        except MixedImagesError:
            break
        axes[node.name] = shapes, axis
        multiplies = multiplies or node.op in MAC_OPS
        starts = bool(two.jobs) and isinstance(two.jobs[0], QuantizeValues)
        if multiplies and starts and axis == 0 and two.values.keys() == {node.name}:
            stop, gaps = number, not is_dense(two.values[node.name])
    return stop, gaps


def _lower(network: NetworkData, inputs: Tensor, *, stop: int, copies: bool) -> Plan:
    """Return the plan of the first nodes for so many inputs."""
    writer = JobWriter(network, inputs.clone())  # plans stay, the caller's images need not
    for number in writer.steps():
        if number == stop:
            break
    result = writer.values[network.nodes[stop - 1].name]
    if copies:
        result = writer.contiguous(result)
    return Plan(tuple(writer.jobs), writer.inputs, result)
