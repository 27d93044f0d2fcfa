"""Convolutions of images that a fault has changed in a few words only.

Model:  `sum of word * weight` changes by `(word - fault-free word) * weight` where a word has
        changed. Below a share of changed words, it is faster to add these products to the
        fault-free sums than to multiply everything again; int32 sums are the same either way.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Int, Int16, Int32
from torch import Tensor

from bitproof.injection.golden import Golden
from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import KINDS, Requantization
from bitproof.kernels.library import library
from bitproof.kernels.map_jobs import ChangedConvolution
from bitproof.quant.accumulators import ExactAccumulator
from bitproof.quant.compiled import BYTES, requantization
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op

LARGEST_SHARE = 0.05
"""Part of an image's words up to which changes are followed; no influence on the result."""
MOST_BYTES = 1 << 28
"""Of fault-free sums that are kept."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """What a convolution computes from, in the fault-free run."""

    maps: Tensor
    sums: Int32[Tensor, "n m y x"]
    weight: Int16[Tensor, "kh kw c m"]
    geometry: Geometry
    how: Requantization
    dtype: torch.dtype


class ChangedLayers:
    """Convolutions of changed images, against one fault-free run."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        self._layers: OrderedDict[str, _Layer | None] = OrderedDict()

    def output(self, node: Node, words: Tensor, images: Int[Tensor, " m"]) -> Tensor | None:
        """Return the output words of a convolution, or None where it has to be executed whole.

        `words` are what it reads, for some of the images of the fault-free run.
        """
        layer = self._layer(node) if len(images) else None
        compiled = library()
        if layer is None or compiled is None:
            return None
        last = words.contiguous(memory_format=torch.channels_last)
        job, out, left = ChangedConvolution.describe(
            last,
            (layer.maps, layer.sums),
            images,
            layer.weight,
            geometry=layer.geometry,
            most=int(LARGEST_SHARE * words[0].numel()),
            how=layer.how,
            dtype=layer.dtype,
        )
        compiled.run(job)
        some = left.nonzero()[:, 0]
        if len(some) == len(images):
            return None
        if len(some):
            golden = self.golden
            marker = golden.inputs[:1].expand(len(some), *golden.inputs.shape[1:])
            whole = integer_op(golden.network, node, [last.index_select(0, some)], marker)
            out.index_copy_(0, some, whole)
        return out

    def _layer(self, node: Node) -> _Layer | None:
        known = self._layers
        if node.name not in known:
            known[node.name] = self._prepared(node)
            while len(known) > 1 and sum(map(_size, known.values())) > MOST_BYTES:
                known.popitem(last=False)
        known.move_to_end(node.name)
        return known[node.name]

    def _prepared(self, node: Node) -> _Layer | None:
        network, codes = self.golden.network, self.golden.codes[node.inputs[0]]
        grid, accumulator = network.grids.get(node.name), network.accumulator(node)
        plain = codes.ndim == 4 and codes.device.type == "cpu" and codes.dtype in BYTES
        if not plain or grid is None or grid.dtype not in KINDS:
            return None
        if not isinstance(accumulator, ExactAccumulator):
            return None
        weight, constants = accumulator.constants.weight, accumulator.constants
        if weight is None or node.geometry.groups != 1 or library() is None:
            return None
        multiplier = constants.multipliers[0].reshape(-1).expand(len(weight)).contiguous()
        maps = codes.contiguous(memory_format=torch.channels_last)
        sums = accumulator.totals(maps).to(torch.int32)
        return _Layer(
            maps,
            sums.contiguous(memory_format=torch.channels_last),
            weight.to(torch.int16).permute(2, 3, 1, 0).contiguous(),
            node.geometry,
            requantization(constants, grid.dtype, multiplier),
            grid.dtype,
        )


def _size(layer: _Layer | None) -> int:
    return 0 if layer is None else layer.sums.numel() * layer.sums.element_size()
