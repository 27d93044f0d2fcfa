"""An integer network that grows node by node, with the shape of everything in it.

Model:  it is put together for one number of images; `merged` compares two such networks, and what
        is a multiple of that number becomes one in the network that is kept.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bitproof.core.errors import BitproofError, ExchangeError
from bitproof.kernels.exact_floats import sum_bounds
from bitproof.quant.constants import bias_steps
from bitproof.quant.graph import BATCH, Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.operations import MAC_OPS, MEMORY_OPS, MOVING_OPS
from bitproof.quant.shapes import RULES, MisfitError
from bitproof.quant.validation import check_network

RUNS = (2, 5)
"""Numbers of images that a network is put together for."""
DEPENDS = "{} depends on the batch size, wanted what is the same for any"
SAME_STEP = 1e-5
"""Largest relative distance of two steps that are one: products of float32 differ by rounding."""
LARGEST_WORD = 2.0**31

Stored = dict[str, CodedTensor]
"""The weight and the bias of a node."""


@dataclass
class Assembly:
    """Nodes, words and grids so far."""

    images: int
    """In the batch that shapes are for."""
    nodes: dict[str, Node] = field(default_factory=dict)
    tensors: dict[str, CodedTensor] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def emit(
        self,
        node: Node,
        grid: Grid | None = None,
        *,
        stored: Mapping[str, CodedTensor] | None = None,
        shape: tuple[int, ...] = (),
    ) -> str:
        """Append a node and return its name, which is made unique.

        Args:
            node: what to append, under a name that it would like.
            grid: of its output; None: that of what it hands on, or an output that stays real.
            stored: its weight and bias.
            shape: of an input.

        Raises:
            ExchangeError: the node does not fit what it reads.
        """
        stored = stored or {}
        node = replace(node, name=self._free(node.name))
        found = self.shape_of(node, {k: tuple(v.codes.shape) for k, v in stored.items()}, shape)
        self.shapes[node.name] = found
        if not node.memory:
            self.tensors |= {f"{node.name}.{kind}": coded for kind, coded in stored.items()}
        if grid is None and node.op in MOVING_OPS and node.inputs[0] in self.grids:
            source = self.grids[node.inputs[0]]
            grid = replace(source, scale=source.scale * node.attrs.get("factor", 1.0))
        if grid is None and node.op in MEMORY_OPS:
            grid = stored["weight"].grid
        if grid is not None:
            self.grids[node.name] = grid
        if node.op in MAC_OPS and stored:
            self._check_sums(node, stored)
        self.nodes[node.name] = node
        return node.name

    def shape_of(
        self, node: Node, stored: Mapping[str, tuple[int, ...]], shape: tuple[int, ...] = ()
    ) -> tuple[int, ...]:
        """Return the shape of what a node would give.

        Raises:
            ExchangeError: it does not fit what it reads.
        """
        read = [self.shapes[name] for name in node.inputs] or [shape]
        try:
            return RULES[node.op](node, read, stored, self.images)
        except (MisfitError, ValueError, IndexError) as error:
            raise ExchangeError(f"{node.path or node.name}: {error}") from None

    def _free(self, wanted: str) -> str:
        name = wanted
        for count in range(2, len(self.nodes) + 3):
            if name not in self.nodes:
                break
            name = f"{wanted}_{count}"
        return name

    def _check_sums(self, node: Node, stored: Mapping[str, CodedTensor]) -> None:
        source, weight = self.grids[node.inputs[0]], stored["weight"]
        step = weight.grid.scale.double().flatten() * float(source.scale)
        bias = bias_steps(stored["bias"], step) if "bias" in stored else None
        bound = float(sum_bounds(weight.centered(), source.peak, bias).max())
        if bound >= LARGEST_WORD:
            raise ExchangeError(
                f"{node.path}: sums of up to {bound:.2g} would wrap in an int32 accumulator"
            )

    def finish(self, output: str, input_shape: tuple[int, ...]) -> IntegerNetwork:
        """Return the network that ends with a node, without what that does not depend on."""
        needed = {output}
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed |= {*node.inputs, *([node.memory] if node.memory else [])}
        nodes = tuple(node for node in self.nodes.values() if node.name in needed)
        keys = {f"{node.name}.{kind}" for node in nodes for kind in ("weight", "bias")}
        tensors = {key: coded for key, coded in self.tensors.items() if key in keys}
        grids = {name: grid for name, grid in self.grids.items() if name in needed}
        return IntegerNetwork(nodes, tensors, grids, input_shape=input_shape)


def readable(name: str, op: str) -> str:
    """Return the name of a node as a path with dots.

    Example:
        >>> readable("/layer1/layer1.0/conv1/Conv", "Conv")
        'layer1.layer1.0.conv1'
    """
    parts = [part for part in re.split(r"[^\w.:+-]+", name) if part.strip(".")]
    if len(parts) > 1 and parts[-1].removesuffix("_quant") == op:
        parts = parts[:-1]
    return ".".join(parts)[:200] or op.lower()


def as_grid(scale: float, zero_point: int, bits: int, *, signed: bool) -> Grid:
    """Return the grid of a whole tensor."""
    point = torch.tensor(zero_point, dtype=torch.int32)
    return Grid(torch.tensor(scale, dtype=torch.float32), point, bits, signed)


def same_grid(one: Grid, other: Grid) -> bool:
    """Tell whether words mean the same on two grids of whole tensors."""
    return (
        (one.bits, one.signed, one.axis) == (other.bits, other.signed, other.axis)
        and torch.equal(one.scale, other.scale)
        and torch.equal(one.zero_point, other.zero_point)
    )


def bias_words(bias: CodedTensor | Tensor, step: Tensor, label: str) -> CodedTensor:
    """Return a bias as it is stored, given the step of its accumulators.

    32-bit words in such steps stay as they are, and so do words of at most 16 bits; real values
    and 32-bit words in other steps are rounded to accumulator steps.

    Raises:
        ExchangeError: it does not fit int32 words.
    """
    if isinstance(bias, CodedTensor):
        grid = bias.grid
        near = bool(((grid.scale.double() / step - 1).abs() < SAME_STEP).all())
        if grid.bits != 32 or (near and not grid.zero_point.any()):
            return bias
        bias = bias.centered().double() * grid.scale.double()
    steps = (bias.double().reshape(-1) / step).round()
    if not bool((steps.abs() < LARGEST_WORD).all()):
        raise ExchangeError(
            f"{label}: wanted a bias below 2**31 steps of its accumulator, got more"
        )
    scale = step.float() if step.numel() > 1 else step.float().reshape(())
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return CodedTensor(
        steps.to(torch.int32), Grid(scale, zero, 32, True, 0 if scale.ndim else None)
    )


def accumulator_step(weight: CodedTensor, source: Grid) -> Tensor:
    """Return the step of the accumulators of a layer, in float64."""
    return weight.grid.scale.double().flatten() * source.scale.double()


def merged(networks: Sequence[IntegerNetwork], path: str) -> IntegerNetwork:
    """Return the network that two are, put together for different numbers of images.

    Raises:
        ExchangeError: they differ in more than multiples of these, or it is no network that runs.
    """
    one, other = networks
    nodes = []
    if len(one.nodes) != len(other.nodes):
        raise ExchangeError(f"{path}: {DEPENDS.format('its graph')}")
    for a, b in zip(one.nodes, other.nodes, strict=True):
        where = a.path or a.name
        if replace(a, attrs={}) != replace(b, attrs={}) or a.attrs.keys() != b.attrs.keys():
            raise ExchangeError(f"{path}: {where}: {DEPENDS.format('the operation')}")
        if not _same_words(one, other, a.name):
            raise ExchangeError(f"{path}: {where}: {DEPENDS.format('what it stores')}")
        attrs = {key: _merge(value, b.attrs[key], a) for key, value in a.attrs.items()}
        nodes.append(replace(a, attrs=attrs))
    network = replace(one, nodes=tuple(nodes))
    try:
        check_network(network)
    except BitproofError as error:
        raise ExchangeError(f"{path}: {error}") from None
    return network


def _same_words(one: IntegerNetwork, other: IntegerNetwork, name: str) -> bool:
    """Tell whether a node has the same grid and the same stored words in two networks."""
    grids = [network.grids.get(name) for network in (one, other)]
    for kind in ("weight", "bias"):
        a, b = (network.tensors.get(f"{name}.{kind}") for network in (one, other))
        if a is None or b is None:
            if a is not b:
                return False
            continue
        if not torch.equal(a.codes, b.codes):
            return False
        grids += [a.grid, b.grid]
    return all(
        a is b if a is None or b is None else same_grid(a, b)
        for a, b in zip(grids[::2], grids[1::2], strict=True)
    )


def _merge(a: Any, b: Any, node: Node) -> Any:
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [_merge(*pair, node) for pair in zip(a, b, strict=True)]
    if a == b:
        return a
    n, m = RUNS
    if isinstance(a, int) and a % n == 0 and a // n * m == b and node.op in {"reshape", "expand"}:
        return [BATCH, a // n]
    raise ExchangeError(
        f"{node.path or node.name}: {DEPENDS.format('what it does')}, "
        f"got {a} for {n} images and {b} for {m}"
    )
