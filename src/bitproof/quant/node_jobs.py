"""Jobs of the C library for the nodes of an integer network, one node after another."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bitproof.kernels.geometry import Geometry
from bitproof.kernels.jobs import (
    KINDS,
    Addend,
    Job,
    RemapBytes,
    RemapTerms,
    Requantization,
    is_dense,
    lies_last,
)
from bitproof.kernels.map_jobs import AverageWords, CopyElements, PoolWords, QuantizeValues
from bitproof.kernels.plan import Room
from bitproof.quant.accumulators import ExactAccumulator
from bitproof.quant.compiled import (
    BYTES,
    SUMS,
    describe_rows,
    describe_sum,
    requantization,
    table_of_patterns,
)
from bitproof.quant.constants import Constants
from bitproof.quant.floats import MOVES
from bitproof.quant.graph import Node
from bitproof.quant.int8_layer import can_multiply, describe_product
from bitproof.quant.maps import as_maps, from_maps
from bitproof.quant.network_data import NetworkData
from bitproof.quant.operations import MAC_OPS
from bitproof.quant.product_layer import ProductLayer
from bitproof.quant.wide_outputs import reads_wide

LARGEST_EXACT = 1 << 24
"""Whole numbers up to here are exact in float32."""
ONE = torch.ones(1)
"""The multiplier of sums that have been multiplied already."""
VIEWS = frozenset({"reshape", "expand", "permute", "slice", "rescale"})
"""Movements that may only look at memory in another way."""


class NoJobError(Exception):
    """The library has no job for a node."""


@dataclass(eq=False)
class JobWriter:
    """Jobs for some inputs, as far as nodes became jobs."""

    network: NetworkData
    inputs: Tensor
    jobs: list[Job] = field(default_factory=list)
    values: dict[str, Tensor] = field(default_factory=dict)
    """Outputs that are read later on, where they will lie."""
    room: Room = field(default_factory=Room)

    def steps(self) -> Iterator[int]:
        """Lower node by node, up to the first without a job; yield how many there are."""
        nodes = self.network.nodes
        last_use = {name: node.name for node in nodes for name in node.inputs}
        for number, node in enumerate(nodes, 1):
            try:
                found = self._output(node, [self.values[name] for name in node.inputs])
            except NoJobError:
                return
            self.values[node.name] = found
            for name in node.inputs:
                if last_use[name] == node.name:
                    self.values.pop(name, None)
            self.room.keep(list(self.values.values()))
            yield number

    def _output(self, node: Node, operands: list[Tensor]) -> Tensor:
        """Append the jobs of a node, and return its output.

        Raises:
            NoJobError: there is none.
        """
        write, grids = WRITERS.get(node.op), self.network.grids
        # The last accumulators are real; so is what follows them, which has no jobs.
        words = node.name in grids or node.op in MAC_OPS
        if write is None or not words or reads_wide(node, grids):
            raise NoJobError
        return write(self, node, operands)

    def _of(self, node: Node) -> tuple[Constants, torch.dtype]:
        """Return what a node computes with, and the dtype of its output."""
        grid = self.network.grids.get(node.name)
        dtype = torch.float32 if grid is None else grid.dtype
        return self.network.constants[node.name], dtype

    def _append(self, described: tuple[Job, Tensor] | None) -> Tensor:
        if described is None:
            raise NoJobError
        self.jobs.append(described[0])
        return described[1]

    def _copy(self, source: Tensor, *, last: bool) -> Tensor:
        out = self.room(source.shape, source.dtype, last)
        self._fill(out, source)
        return out

    def _fill(self, out: Tensor, source: Tensor) -> None:
        job = CopyElements.describe(source, out)
        if job is None:
            raise NoJobError
        self.jobs.append(job)

    def contiguous(self, x: Tensor) -> Tensor:
        """Return words in the order of axes, copied if need be."""
        return x if x.is_contiguous() else self._copy(x, last=False)

    def _channels_last(self, maps: Tensor) -> Tensor:
        ready = maps.is_contiguous(memory_format=torch.channels_last)
        return maps if ready else self._copy(maps, last=True)

    def _alike(self, operands: list[Tensor]) -> list[Tensor]:
        """Return words of one shape that lie alike in memory."""
        shape = np.broadcast_shapes(*(x.shape for x in operands))
        last = any(x.shape == shape and lies_last(x) for x in operands)
        wide = [x.expand(shape) for x in operands]
        return [self._channels_last(x) if last else self.contiguous(x) for x in wide]

    def _input(self, node: Node, _: list[Tensor]) -> Tensor:
        if self.inputs.dtype != torch.float32:
            raise NoJobError
        (constants, dtype), normalization = self._of(node), None
        if "mean" in node.attrs:
            if self.inputs.ndim != 4:
                raise NoJobError
            mean, std = (
                torch.tensor(node.attrs[name], dtype=torch.float32)
                .expand(self.inputs.shape[1])
                .contiguous()
                for name in ("mean", "std")
            )
            normalization = mean, std
        how, multiplier = requantization(constants, dtype, ONE), float(constants.multipliers[0])
        values = self.inputs.contiguous()
        return self._append(
            QuantizeValues.describe(
                values, normalization, multiplier, how, dtype=dtype, place=self.room
            )
        )

    def _stored(self, node: Node, _: list[Tensor]) -> Tensor:
        """Return a copy: torch moves words that it gives to other processes."""
        codes = self.network.tensors[node.key("weight")].codes
        return codes.clone(memory_format=torch.contiguous_format)

    def _sum(self, node: Node, operands: list[Tensor]) -> Tensor:
        constants, dtype = self._of(node)
        return self._append(describe_sum(node, self._alike(operands), constants, dtype, self.room))

    def _rows(self, node: Node, operands: list[Tensor]) -> Tensor:
        (constants, dtype), codes = self._of(node), self.contiguous(operands[0])
        return self._append(describe_rows(node, codes, _copied(constants), dtype, self.room))

    def _multiply(self, node: Node, operands: list[Tensor]) -> Tensor:
        accumulator, (_, dtype) = self.network.accumulator(node), self._of(node)
        fused = accumulator.fused if isinstance(accumulator, ProductLayer) else None
        layer = None if fused is None else fused.layer
        if isinstance(accumulator, ExactAccumulator):
            layer = accumulator.usable_layer
        if layer is None:
            raise NoJobError
        codes = operands[0] if node.op == "conv" else self.contiguous(operands[0])
        maps = self._channels_last(as_maps(codes, node))
        if fused is not None:
            words = self._surround(maps.view(torch.uint8), fused.padding, fused.pad_word)
            maps = self._channels_last(self._remap(words, fused.tables))
        out = self._append(layer.describe(maps, dtype, place=self.room))
        return from_maps(out, codes, node)

    def _remap(self, words: Tensor, tables: Tensor) -> Tensor:
        if len(tables) == 1:
            return self._append(RemapBytes.describe(words, tables[0], self.room))
        return self._append(RemapTerms.describe(words, tables, self.room))

    def _product(self, node: Node, operands: list[Tensor]) -> Tensor:
        accumulator, (_, dtype) = self.network.accumulator(node), self._of(node)
        exact = isinstance(accumulator, ExactAccumulator)
        if not (exact and can_multiply(operands, accumulator.grids)):
            raise NoJobError
        left = self.contiguous(operands[0])
        right = self.contiguous(operands[1].transpose(-1, -2))
        jobs, product = describe_product(
            left, right, accumulator.constants, accumulator.grids, dtype=dtype, place=self.room
        )
        self.jobs += jobs
        return product

    def _view(self, node: Node, operands: list[Tensor]) -> Tensor:
        (codes,), n = operands, len(self.inputs)
        moved = MOVES[node.op](codes, node.attrs, n)
        if not _lies_in(moved, codes):  # what torch has to copy
            moved = MOVES[node.op](self.contiguous(codes), node.attrs, n)
        return moved

    def _join(self, node: Node, operands: list[Tensor]) -> Tensor:
        constants, dtype = self._of(node)
        axis = node.attrs["dim"] % operands[0].ndim
        shape = list(operands[0].shape)
        shape[axis] = sum(x.shape[axis] for x in operands)
        out, start = self.room(shape, dtype, any(lies_last(x) for x in operands)), 0
        for x, point, factor in zip(
            operands, constants.zero_points, constants.multipliers, strict=True
        ):
            own = replace(constants, zero_points=(point,), multipliers=(factor,))
            dense = x if is_dense(x) else self.contiguous(x)
            words = self._append(describe_sum(node, [dense], own, dtype, self.room))
            self._fill(out.narrow(axis, start, x.shape[axis]), words)
            start += x.shape[axis]
        return out

    def _pad(self, node: Node, operands: list[Tensor]) -> Tensor:
        (codes,), lowest = operands, self.network.grids[node.name].low
        around = lowest if node.attrs.get("lowest") else self._of(node)[0].zero_points[0]
        edges = node.attrs["padding"]
        if min(edges) < 0 or len(edges) > 2 * codes.ndim - 2:
            raise NoJobError
        return self._surround(codes, edges, around)

    def _surround(self, codes: Tensor, edges: Sequence[int], around: int) -> Tensor:
        """Return words with others around, which stay from run to run; those inside are copied."""
        if not any(edges):
            return codes
        out = functional.pad(torch.empty_like(codes), list(edges), value=around)
        if lies_last(codes):
            out = out.contiguous(memory_format=torch.channels_last)
        inside = out
        for axis, before in zip(range(codes.ndim - 1, 0, -1), edges[::2], strict=False):
            inside = inside.narrow(axis, before, codes.shape[axis])
        self._fill(inside, codes)
        return out

    def _look_up(self, node: Node, operands: list[Tensor]) -> Tensor:
        (codes,), (constants, dtype) = operands, self._of(node)
        if codes.dtype not in BYTES or dtype not in KINDS:
            raise NoJobError
        assert constants.table is not None
        table = table_of_patterns(constants.table, self.network.grids[node.inputs[0]].low, dtype)
        dense = codes if is_dense(codes) else self.contiguous(codes)
        found = self._append(RemapBytes.describe(dense.view(torch.uint8), table, self.room))
        return found.view(dtype)

    def _largest(self, node: Node, operands: list[Tensor]) -> Tensor:
        (codes,), attrs = operands, node.attrs
        if codes.ndim != 4 or any(gap != 1 for gap in attrs["dilation"]):
            raise NoJobError
        sizes = MOVES["max_pool"](torch.empty(codes.shape, device="meta"), attrs, 1).shape[2:]
        return self._pool(node, Addend(codes, 0, 1.0), sizes, None, dtype=codes.dtype)

    def _average(self, node: Node, operands: list[Tensor]) -> Tensor:
        (codes,), (constants, dtype) = operands, self._of(node)
        area = torch.Size(node.attrs["kernel"]).numel()
        most = 1 << self.network.grids[node.inputs[0]].bits
        if codes.ndim != 4 or area * most > LARGEST_EXACT:
            raise NoJobError
        source = Addend(codes, constants.zero_points[0], float(constants.multipliers[0]))
        return self._pool(node, source, None, requantization(constants, dtype, ONE), dtype=dtype)

    def _mean(self, node: Node, operands: list[Tensor]) -> Tensor:
        (codes,), (constants, dtype) = operands, self._of(node)
        dims = sorted(d % codes.ndim for d in node.attrs["dims"])
        if dims != list(range(dims[0], dims[-1] + 1)):
            raise NoJobError
        last = codes.ndim == 4 and dims == [2, 3]
        words = self._channels_last(codes) if last else self.contiguous(codes)
        count = torch.Size([codes.shape[d] for d in dims]).numel()
        inner = codes.shape[1] if last else codes.shape[dims[-1] + 1 :].numel()
        factor = float(constants.multipliers[0] / count)
        source = Addend(words, constants.zero_points[0], factor)
        kept = [size for d, size in enumerate(codes.shape) if d not in dims]
        wide = [1 if d in dims else size for d, size in enumerate(codes.shape)]
        out = self.room(wide if node.attrs["keepdim"] else kept, dtype, False)
        rows, how = codes.numel() // (count * inner), requantization(constants, dtype, ONE)
        self.jobs.append(AverageWords.describe(source, (rows, count, inner), how, out))
        return out

    def _pool(
        self,
        node: Node,
        source: Addend,
        sizes: torch.Size | None,
        how: Requantization | None,
        *,
        dtype: torch.dtype,
    ) -> Tensor:
        kernel, stride, padding = (
            tuple(node.attrs[name]) for name in ("kernel", "stride", "padding")
        )
        move = Geometry(stride, padding)
        maps = self._channels_last(source.words)
        outputs = move.outputs(maps.shape[2:], kernel) if sizes is None else sizes
        ready = replace(source, words=maps)
        return self._append(
            PoolWords.describe(ready, kernel, move, outputs, how=how, dtype=dtype, place=self.room)
        )


def _lies_in(view: Tensor, tensor: Tensor) -> bool:
    return view.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()


def _copied(constants: Constants) -> Constants:
    """Return constants whose tensors nobody else moves."""
    tensors = {
        name: value.clone()
        for name in ("weight", "bias", "table")
        if (value := getattr(constants, name)) is not None
    }
    return replace(constants, **tensors)


WRITERS: dict[str, Callable[[JobWriter, Node, list[Tensor]], Tensor]] = {
    "input": JobWriter._input,
    "constant": JobWriter._stored,
    "matmul": JobWriter._product,
    "concat": JobWriter._join,
    "pad": JobWriter._pad,
    "table": JobWriter._look_up,
    "max_pool": JobWriter._largest,
    "avg_pool": JobWriter._average,
    "mean": JobWriter._mean,
    **dict.fromkeys(("conv", "linear", "affine"), JobWriter._multiply),
    **dict.fromkeys(SUMS, JobWriter._sum),
    **dict.fromkeys(("layer_norm", "softmax"), JobWriter._rows),
    **dict.fromkeys(VIEWS, JobWriter._view),
}
"""How each operation becomes jobs; the others have none."""
