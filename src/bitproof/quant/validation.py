"""Checks of a network that comes from a file: what it holds is sound, and it runs on its images.

Model:  a file may claim anything. Nodes are checked one by one (operation, attributes, what they
        read and store), then words and grids, then shapes through the whole graph, for the images
        that it was made for. What passes runs; nothing is run to find out.
"""

import math
from collections.abc import Container, Mapping, Sequence

import torch

from bitproof.core.errors import WeightsError, near
from bitproof.kernels.jobs import LARGEST_ZERO_POINT
from bitproof.quant.attributes import problem_of_values
from bitproof.quant.graph import Node
from bitproof.quant.grid import LONG_WORDS, CodedTensor, Grid
from bitproof.quant.network_data import NetworkData
from bitproof.quant.operations import (
    MAC_OPS,
    MEMORY_OPS,
    MOVES_TOKENS,
    MOVING_OPS,
    NEEDS_ZERO,
    NORM_OPS,
    OPERATIONS,
)
from bitproof.quant.product_layer import check_products
from bitproof.quant.products import Products
from bitproof.quant.shapes import LARGEST, check_shapes, shapes_of
from bitproof.quant.wide_outputs import can_be_wide, reads_wide

FARTHEST = (1 << 31) - (1 << 16)
"""Largest size of a zero point: `code - zero_point` stays within int32."""
TOKEN_BITS = 32
"""Words of token numbers, and biases in steps of their accumulators."""
RANKS = {"linear": 2, "affine": 1, "embedding": 2, "group_norm": 1}
"""Axes of the weights of an operation, where these are always as many."""
KEEP_WEIGHTS = NORM_OPS - {"rms"} | {name for name, one in OPERATIONS.items() if one.stores}
KEEP_BIASES = frozenset({"conv", "linear", "affine", "layer_norm", "group_norm"})


def check_network(network: NetworkData) -> None:
    """Check that the parts of a network fit each other, and that it runs on its images.

    Without an input shape, what depends on it is left to `check_shapes`, once there are images.

    Raises:
        WeightsError: they do not.
        QuantizationError: nor do its products.
    """
    _check_nodes(network)
    for name, coded in network.tensors.items():
        _raise(name, _problem_of_words(coded))
    for name, grid in network.grids.items():
        _raise(f"grid of {name}", _problem_of_grid(grid))
    nodes = {node.name: node for node in network.nodes}
    tokens = _token_nodes(network)
    _check_owners(network, nodes)
    for node in network.nodes:
        problem = _problem_of_stored(node, network) or _problem_of_output(node, network, tokens)
        _raise(f"{node.name} ({node.op})", problem)
    for name, products in network.products.items():
        _raise(f"products of {name}", "" if name in nodes else "there is no such node")
        check_products(nodes[name], products, network.tensors.get(nodes[name].key("weight")))
        _raise(f"products of {name}", _problem_of_products(nodes[name], products, network))
    for name, constants in network.constants.items():  # prepared now, for all that come later
        finite = all(bool(factor.isfinite().all()) for factor in constants.multipliers)
        _raise(name, "" if finite else "wanted steps with finite ratios, got others")
    if network.input_shape is not None:
        _raise("input_shape", _problem_of_sizes(network.input_shape))
        check_shapes(network, network.input_shape)


def _raise(where: str, problem: str) -> None:
    if problem:
        raise WeightsError(f"{where}: {problem}")


def _check_nodes(network: NetworkData) -> None:
    """Check operations, attributes and what nodes read."""
    known: dict[str, Node] = {}
    for node in network.nodes:
        _raise(f"{node.name} ({node.op})", _problem(node, network, known))
        known[node.name] = node


def _problem(node: Node, network: NetworkData, known: Mapping[str, Node]) -> str:
    """Say what is wrong with a node behind those that are known; empty if nothing is."""
    if node.op not in OPERATIONS:
        return near(node.op[:40], OPERATIONS)
    operation = OPERATIONS[node.op]
    return (
        _problem_of_place(node, known)
        or operation.problem(node.attrs, reads=len(node.inputs))
        or problem_of_values(node.op, node.attrs)
        or next((f"no {k}" for k in operation.stores if node.key(k) not in network.tensors), "")
        or _problem_of_width(node, network)
    )


def _problem_of_place(node: Node, known: Mapping[str, Node]) -> str:
    """Say whether a node does not belong behind those that are known."""
    if (node.op == "input") != (not known):
        return "wanted one input, as the first node"
    if node.name in known:
        return "wanted a name of its own, got one that another node has"
    owner = known.get(node.memory)
    if node.memory and (owner is None or owner.memory or node.op not in KEEP_WEIGHTS):
        return f"shares the words of {node.memory[:40]}, which has none for it"
    missing = next((name for name in node.inputs if name not in known), None)
    return "" if missing is None else f"reads {missing[:40]}, which is not there"


def _problem_of_width(node: Node, network: NetworkData) -> str:
    """Say whether an output without a grid is no last accumulator, and reads none of those."""
    bare = [name for name in node.inputs if name not in network.grids]
    has_grid = node.name in network.grids
    if bare and (has_grid or node.op in MAC_OPS or not can_be_wide(node)):
        return f"reads {bare[0]}, which has no grid"
    if not (has_grid or can_be_wide(node)):
        return "has no grid"
    if not (has_grid or bare or node.op in MAC_OPS):
        return "has no grid, but reads words"
    return ""


def _problem_of_grid(grid: Grid) -> str:
    """Say what is wrong with a grid by itself."""
    scale, point = grid.scale, grid.zero_point
    if not (2 <= grid.bits <= 8 or (grid.bits in LONG_WORDS and grid.signed)):
        return f"wanted 2 to 8 bits, or 16 or 32 signed, got {grid.bits}"
    rank = 0 if grid.axis is None else 1
    if scale.ndim != rank or not scale.numel():
        return (
            f"wanted a scale {'for each channel' if rank else 'for all'}, got {tuple(scale.shape)}"
        )
    low, high = (float(end) for end in scale.aminmax())
    if not 0 < low <= high < math.inf:  # also where one is NaN
        return f"wanted positive, finite scales, got {low:g} to {high:g}"
    far = int(point.long().abs().max())
    if far > FARTHEST or (far and grid.bits == TOKEN_BITS):
        return f"wanted zero points within 32-bit words, got {far}"
    return ""


def _problem_of_words(coded: CodedTensor) -> str:
    """Say what is wrong with stored words and their grid."""
    codes, grid = coded.codes, coded.grid
    problem = _problem_of_grid(grid)
    if problem:
        return problem
    if codes.dtype != grid.dtype or not codes.numel():
        return f"wanted words of {grid.dtype}, got {tuple(codes.shape)} of {codes.dtype}"
    if grid.axis is not None and not (
        0 <= grid.axis < codes.ndim and len(grid.scale) == codes.shape[grid.axis]
    ):
        came = f"{len(grid.scale)} along axis {grid.axis} of {tuple(codes.shape)}"
        return f"wanted a scale for each channel, got {came}"
    if grid.bits < 8:
        low, high = (int(end) for end in codes.aminmax())
        if not grid.low <= low <= high <= grid.high:
            return (
                f"wanted words of {grid.bits} bits, {grid.low} to {grid.high}, got {low} to {high}"
            )
    return ""


def _check_owners(network: NetworkData, nodes: Mapping[str, Node]) -> None:
    """Check that a node reads each stored tensor, and that each grid is that of a node."""
    read = {node.key("weight") for node in nodes.values() if node.op in KEEP_WEIGHTS}
    read |= {node.key("bias") for node in nodes.values() if node.op in KEEP_BIASES}
    for name in network.tensors:
        _raise(name, "" if name in read else "words that fit no node")
    for name in network.grids:
        _raise(f"grid of {name}", "" if name in nodes else "there is no such node")


def _problem_of_stored(node: Node, network: NetworkData) -> str:
    """Say whether a node cannot compute with what it stores, whatever it reads."""
    stored, weight = shapes_of(node, network), network.tensors.get(node.key("weight"))
    if node.op not in KEEP_WEIGHTS or weight is None:
        return ""
    rank = len(node.attrs["stride"]) + 2 if node.op == "conv" else RANKS.get(node.op)
    if rank and len(stored["weight"]) != rank:
        return f"wanted a weight with {rank} axes, got {stored['weight']}"
    return _problem_of_filters(node, weight, stored.get("bias")) if node.op in MAC_OPS else ""


def _problem_of_filters(node: Node, weight: CodedTensor, bias: Sequence[int] | None) -> str:
    """Say whether the filters of a layer do not go with its groups, grid and bias."""
    filters = len(weight.codes)
    if node.op == "conv" and filters % node.attrs["groups"]:
        return f"wanted filters in {node.attrs['groups']} equal groups, got {filters}"
    grid = weight.grid
    if grid.axis not in {None, 0} or (node.op == "affine" and grid.scale.numel() > 1):
        return "wanted a weight on one grid, or on one for each filter"
    if bias is not None and bias != (filters,):
        return f"wanted a bias for {filters} filters, got {bias}"
    return ""


def _token_nodes(network: NetworkData) -> frozenset[str]:
    """Return the nodes that give numbers of tokens."""
    found: set[str] = set()
    for node in network.nodes:
        moved = node.op in MOVES_TOKENS and not found.isdisjoint(node.inputs)
        if node.attrs.get("tokens") or moved:
            found.add(node.name)
    return frozenset(found)


def _problem_of_output(node: Node, network: NetworkData, tokens: Container[str]) -> str:
    """Say whether the grid of a node's output does not follow from what it does."""
    problem = _problem_of_tokens(node, network, tokens)
    grid = network.grids.get(node.name)
    if problem or grid is None or reads_wide(node, network.grids):
        return problem
    if grid.axis is not None or (grid.bits == TOKEN_BITS) != (node.name in tokens):
        return "wanted one grid of 2 to 8 or 16 bits for all words"
    point = int(grid.zero_point)
    inside = grid.low <= point <= grid.high
    hands_on = node.op in MOVING_OPS | MEMORY_OPS
    if abs(point) > LARGEST_ZERO_POINT or not (inside or (hands_on and node.op not in NEEDS_ZERO)):
        return f"wanted a word that stands for 0, {grid.low} to {grid.high}, got {point}"
    if node.op in MEMORY_OPS:
        return _problem_of_source(node, grid, network.tensors[node.key("weight")].grid)
    return _problem_of_source(node, grid, network.grids[node.inputs[0]]) if hands_on else ""


def _problem_of_tokens(node: Node, network: NetworkData, tokens: Container[str]) -> str:
    """Say whether a node computes with numbers of tokens, or looks up something else."""
    reads_tokens = any(name in tokens for name in node.inputs)
    if node.op == "embedding":
        return "" if reads_tokens else "wanted numbers of tokens"
    if node.op == "input" and node.name in tokens:
        found = any(other.op == "embedding" for other in network.nodes)
        return "" if found else "wanted an embedding, which looks tokens up"
    return "wanted words, got numbers of tokens" if reads_tokens and node.name not in tokens else ""


def _problem_of_source(node: Node, grid: Grid, source: Grid) -> str:
    """Say whether a node that hands on words of `source` has them on another grid."""
    alike = (grid.bits, grid.signed, grid.axis) == (source.bits, source.signed, source.axis)
    if not alike or not torch.equal(grid.zero_point, source.zero_point):
        return "wanted the grid of the words that it hands on"
    scale = float(source.scale) * node.attrs.get("factor", 1.0)
    same = math.isclose(float(grid.scale), scale, rel_tol=1e-3, abs_tol=1e-37)
    return "" if same else f"wanted the scale {scale:g} of its words, got {float(grid.scale):g}"


def _problem_of_products(node: Node, products: Products, network: NetworkData) -> str:
    """Say whether a multiplier of 8-bit words cannot multiply what a node reads."""
    grids = [network.grids[name] for name in node.inputs]
    weight = network.tensors.get(node.key("weight"))
    widths = [grid.bits for grid in (*grids, *([weight.grid] if weight else []))]
    if max(widths) > 8:
        return f"wanted words of at most 8 bits, got {max(widths)}"
    if len(products.names) not in {0, len(products.tables)}:
        return f"wanted names of {len(products.tables)} tables, got {len(products.names)}"
    source = grids[0]
    if (
        any(node.attrs.get("padding", ()))
        and not source.low <= int(source.zero_point) <= source.high
    ):
        return f"no word stands for 0 in the padding: {int(source.zero_point)} is none"
    return ""


def _problem_of_sizes(sizes: Sequence[int]) -> str:
    if min(sizes, default=1) < 1 or len(sizes) > 8 or math.prod(sizes) > LARGEST:
        return f"wanted at most 8 positive sizes, of {LARGEST} numbers, got {list(sizes)[:8]}"
    return ""
